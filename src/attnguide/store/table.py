"""Results on disk: rows in append-only parts, and one merged table.

A part is a parquet file in `parts/`, complete or absent, whose pages have checksums. A part that
cannot be read is set aside, and its items are computed again. Its metadata say what it was computed
from (`PartInputs`). Nothing in the merged table depends on time or order, so that a resumed run
ends with the same bytes.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, TypeAdapter, ValidationError

from attnguide.errors import InputError, command
from attnguide.store.files import checksum, locked, write_atomic
from attnguide.store.folder import RunFolder

UNREADABLE = (pa.ArrowException, OSError, ValidationError)
TEXT = (pa.string(), pa.large_string())
_KEY, _INPUTS = b"attnguide.key", b"attnguide.inputs"


@dataclass(frozen=True)
class PartInputs:
    """What the rows of a part were computed from.

    Attributes:
        model: Name of the model.
        inputs: Checksum of all that decides the model's rows but the pixels.
        files: (size and times, checksum of the content) of the files of each item.
        pictures: Checksum of every picture that was stored with the rows, by its file name.
    """

    model: str = ""
    inputs: str = ""
    files: Mapping[str, list[Annotated[list[str], Field(min_length=2)]]] = field(
        default_factory=dict
    )
    pictures: Mapping[str, str] = field(default_factory=dict)


_AS_JSON, _KEYS = TypeAdapter(PartInputs), TypeAdapter(list[str])


class Results:
    """The rows of one shard of a run, for writing; a context that holds the shard's lock.

    Args:
        run_dir: Of the run.
        key: Columns that together name a row; the first is `image_id`.
        shard: Number of this process's share.
        device: Number of this process among those of one shard, whose parent holds the lock.
    """

    def __init__(
        self, run_dir: Path, key: Sequence[str], shard: int = 0, *, device: int | None = None
    ) -> None:
        self.key, self.shard, self.device = tuple(key), shard, device
        self.folder = RunFolder(run_dir)
        self._lock = ExitStack()
        self._next: int | None = None  # number of the next part

    def __enter__(self) -> Self:
        """Take the lock; set damaged parts aside.

        Raises:
            ValueError: another process writes to this shard.
            OSError: the file system has no locks.
        """
        self.folder.make()
        if self.device is not None:
            return self
        lock, what = self.folder.lock(f"{self.shard:04d}"), f"shard {self.shard} of"
        self._lock.enter_context(locked(lock, f"{what} {self.folder.path}"))
        for leftover in self.folder.parts.glob(f".{self.shard:04d}[-.]*.tmp"):
            leftover.unlink()
        for path in self.parts():
            if why := fault(path):
                path.rename(path.with_suffix(".damaged"))
                warnings.warn(
                    f"{path} {why}: renamed to *.damaged, its rows will be recomputed",
                    stacklevel=2,
                )
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self._lock.close()

    def append(self, rows: pd.DataFrame, inputs: PartInputs | None = None) -> None:
        """Store rows, all of them or none; all rows of an image (and model) belong in one call.

        Args:
            rows: With the columns of the key; `image_id` is stored as text.
            inputs: What they were computed from.

        Raises:
            ValueError: no rows, a missing key column, or a key that occurs twice.
            OSError: the disk is full or refuses; nothing stored before is lost.
        """
        if rows.empty or not set(self.key) <= set(rows):
            raise InputError(f"rows need the columns {list(self.key)}, got {list(rows.columns)}")
        twice = rows[rows.duplicated(list(self.key))]
        if not twice.empty:
            example = twice.iloc[0][list(self.key)].to_dict()
            raise InputError(f"two rows with the same key {list(self.key)}: {example}")
        prefix = f"{self.shard:04d}-{self.device or 0}-"
        if self._next is None:
            own = [path.name for path in self.parts() if path.name.startswith(prefix)]
            self._next = 1 + max((int(name[len(prefix) : -8]) for name in own), default=-1)
        data = _to_bytes(rows.assign(image_id=rows["image_id"].map(str)), self.key, inputs)
        write_atomic(self.folder.parts / f"{prefix}{self._next:06d}.parquet", data)
        self._next += 1

    def parts(self) -> list[Path]:
        """The parts of this shard."""
        return self.folder.part_files(self.shard)

    def done(self, **where: object) -> set[tuple[str, str]]:
        """Part of the study and id of the items that have rows, in any shard: `done(model="x")`."""
        return done(self.folder.path, **where)


def done(run_dir: Path, **where: object) -> set[tuple[str, str]]:
    """Part of the study and id of the items that have rows in a run: `done(run_dir, model="x")`."""
    names: set[tuple[str, str]] = set()
    for path in RunFolder(run_dir).part_files():
        try:
            rows = _read(path, ["part", "image_id", *where]).to_pandas()
        except UNREADABLE:  # of another shard, which sets it aside when it runs
            warnings.warn(f"{path} is ignored: it cannot be read", stacklevel=2)
            continue
        for column, value in where.items():
            rows = rows[rows[column] == value]
        rows = rows.drop_duplicates()
        parts = rows["part"] if "part" in rows else [""] * len(rows)
        names.update(zip(parts, rows["image_id"], strict=True))
    return names


def merge(run_dir: Path) -> pd.DataFrame:
    """All parts as one table, sorted by key, stored as `results.parquet`.

    An item that was computed twice, as where the process of a device outlives its run for a moment,
    is kept once: all parts are of the same inputs, so that its rows differ by rounding at most.

    Raises:
        FileNotFoundError: no part.
        ValueError: a damaged part; parts of different columns or keys.
    """
    folder, tables = RunFolder(run_dir), []
    for path in folder.part_files():
        if why := fault(path):
            raise InputError(
                f"{path} {why}; run the same command again to recompute its rows (of a sharded "
                "run the shard whose number begins its name)"
            )
        tables.append(_read(path))
    if not tables:
        raise FileNotFoundError(f"no results in {run_dir}; compute them first (stage=run)")
    key = _key_of(tables[0].schema)
    columns = key + [name for name in tables[0].column_names if name not in key]
    for table in tables:
        if _key_of(table.schema) != key or {*table.column_names} != {*columns}:
            raise InputError(
                f"some parts of {run_dir} have the columns {table.column_names}, others {columns}; "
                "they come from different programs: use another run_dir"
            )
    frames = [table.to_pandas()[columns] for table in tables]
    rows = pd.concat(frames, ignore_index=True).drop_duplicates(key)
    merged: pd.DataFrame = rows.sort_values(key, kind="stable", ignore_index=True)
    write_atomic(folder.results, _to_bytes(merged, key))
    return merged


def read(run_dir: Path) -> pd.DataFrame:
    """The merged table of a run.

    Raises:
        FileNotFoundError: nothing merged yet.
        ValueError: the table is damaged.
    """
    path = RunFolder(run_dir).results
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; finish the run first (stage=run)")
    try:
        return _read(path).to_pandas()
    except UNREADABLE as error:
        raise InputError(
            f"{path} is damaged ({str(error).splitlines()[0]}); make it again from its parts: "
            f"{command()} stage=merge run_dir={run_dir}"
        ) from error


def read_part_inputs(path: Path) -> PartInputs | None:
    """What the rows of a part were computed from; None where it cannot be read."""
    try:
        return _AS_JSON.validate_json((pq.read_schema(path).metadata or {}).get(_INPUTS, b"{}"))
    except UNREADABLE:
        return None


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of a table; page checksums do not cover what its columns are called and hold."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        schema = file.schema_arrow
        kinds = dict(zip(schema.names, schema.types, strict=True))
        texts = all(kinds.get(name, TEXT[0]) in TEXT for name in ("image_id", "model", "part"))
        if not {"image_id", *_key_of(schema)} <= kinds.keys() or not texts:
            raise OSError(f"{path} has other columns than a table of results")
        return file.read([name for name in columns or kinds if name in kinds])


def _key_of(schema: pa.Schema) -> list[str]:
    return _KEYS.validate_json((schema.metadata or {}).get(_KEY, b"[]"))


def fault(path: Path) -> str:
    """What is wrong with a part: it cannot be read, or has lost a picture; "" if it is whole."""
    try:
        is_part = bool(_key_of(_read(path).schema))
    except UNREADABLE:
        is_part = False
    if not is_part:
        return "cannot be read"
    inputs = read_part_inputs(path)
    for name, stored in inputs.pictures.items() if inputs is not None else ():
        file = path.parents[1] / name
        if not file.is_file() or checksum(file.read_bytes()) != stored:
            return f"has lost its picture {name}"
    return ""


def _to_bytes(rows: pd.DataFrame, key: Sequence[str], inputs: PartInputs | None = None) -> bytes:
    metadata: dict[bytes, bytes] = {_KEY: json.dumps(list(key)).encode()}
    if inputs is not None:
        metadata[_INPUTS] = json.dumps(asdict(inputs)).encode()
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(metadata)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()
