"""Results on disk: rows in append-only parts, and one merged table.

A part is a parquet file in `parts/`, complete or absent, whose pages have checksums. A part that
cannot be read is set aside, and its items are computed again. Its metadata say what it was computed
from (`store.inputs`). Nothing in the merged table depends on time or order, so that a resumed run
ends with the same bytes.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attnguide.errors import InputError, command
from attnguide.store.files import release_lock, take_lock, write_atomic
from attnguide.store.folder import RunFolder
from attnguide.store.inputs import PartInputs
from attnguide.store.sources import checksum

PART = re.compile(r"\d{4,}-\d+-(\d{6,})\.parquet")
_KEY, _INPUTS = b"attnguide.key", b"attnguide.inputs"


class Results:
    """The rows of one shard of a run, for writing; a context that holds the shard's lock.

    Args:
        run_dir: Of the run.
        key: Columns that together name a row; the first is `image_id`.
        shard: Number of this process's share.
        device: Number of this process among those of one shard, whose parent holds the lock.

    Raises:
        ValueError: a key that does not begin with `image_id`.
    """

    def __init__(
        self, run_dir: Path, key: Sequence[str], shard: int = 0, *, device: int | None = None
    ) -> None:
        if not key or key[0] != "image_id":
            raise InputError(f"the key of the results must begin with 'image_id', got {list(key)}")
        self.key = tuple(key)
        self.shard, self.device = shard, device
        self.folder = RunFolder(run_dir)
        self._lock = -1
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
        lock = self.folder.lock(f"{self.shard:04d}")
        self._lock = take_lock(lock, f"shard {self.shard} of {self.folder.path}")
        for leftover in self.folder.parts.glob(f".{self.shard:04d}-*.tmp"):
            leftover.unlink()
        for path in self.parts():
            fault = _fault(path)
            if fault:
                path.rename(path.with_suffix(".damaged"))
                warnings.warn(
                    f"{path} {fault}: renamed to *.damaged, its rows will be recomputed",
                    stacklevel=2,
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        if self._lock >= 0:
            release_lock(self._lock)
        self._lock = -1

    def append(self, rows: pd.DataFrame, inputs: PartInputs | None = None) -> None:
        """Store rows, all of them or none; all rows of an image (and model) belong in one call.

        Args:
            rows: With the columns of the key.
            inputs: What they were computed from.

        Raises:
            ValueError: no rows, a missing key column, or a key that occurs twice.
            OSError: the disk is full or refuses; nothing stored before is lost.
        """
        if self.device is None and self._lock < 0:
            raise RuntimeError("results are written inside `with results:`")
        missing = [column for column in self.key if column not in rows]
        if missing or rows.empty:
            raise InputError(f"rows need the columns {list(self.key)}, got {list(rows.columns)}")
        twice = rows.duplicated(list(self.key))
        if twice.any():
            example = rows.loc[twice, list(self.key)].iloc[0].to_dict()
            raise InputError(f"two rows with the same key {list(self.key)}: {example}")
        prefix = f"{self.shard:04d}-{self.device or 0}-"
        if self._next is None:
            names = (PART.fullmatch(path.name) for path in self.parts())
            own = [int(name[1]) for name in names if name and name[0].startswith(prefix)]
            self._next = 1 + max(own, default=-1)
        data = _to_bytes(rows, self.key, inputs)
        write_atomic(self.folder.parts / f"{prefix}{self._next:06d}.parquet", data)
        self._next += 1

    def parts(self) -> list[Path]:
        """The parts of this shard."""
        return [path for path in self.folder.part_files(self.shard) if PART.fullmatch(path.name)]

    def done(self, **where: object) -> set[tuple[str, str]]:
        """Part of the study and id of the items that have rows, in any shard: `done(model="x")`."""
        return done(self.folder.path, **where)


def done(run_dir: Path, **where: object) -> set[tuple[str, str]]:
    """Part of the study and id of the items that have rows in a run: `done(run_dir, model="x")`."""
    names: set[tuple[str, str]] = set()
    for _, table in _readable_parts(run_dir, ["part", "image_id", *where]):
        rows = table.to_pandas()
        for column, value in where.items():
            rows = rows[rows[column] == value]
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
    folder = RunFolder(run_dir)
    damaged = [p.name for p in folder.part_files() if PART.fullmatch(p.name) and _fault(p)]
    if damaged:
        raise InputError(
            f"{len(damaged)} parts of {run_dir} cannot be read or have lost pictures: "
            f"{', '.join(damaged[:8])}; run the same command again to recompute them (of a sharded "
            "run the shard whose number begins their names)"
        )
    parts = list(_readable_parts(run_dir))
    if not parts:
        raise FileNotFoundError(f"no results in {run_dir}; compute them first (stage=run)")
    first, table = parts[0]
    key = json.loads(table.schema.metadata[_KEY])
    columns = key + [name for name in table.column_names if name not in key]
    for path, other in parts:
        same_key = json.loads(other.schema.metadata[_KEY]) == key
        if not same_key or set(other.column_names) != set(columns):
            raise InputError(
                f"{path.name} has the columns {other.column_names}, {first.name} {columns}; they "
                "come from different programs: use another run_dir"
            )
    frames = [part.to_pandas()[columns] for _, part in parts]
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
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is damaged ({str(error).splitlines()[0]}); make it again from its parts: "
            f"{command()} stage=merge run_dir={run_dir}"
        ) from error


def read_part_inputs(path: Path) -> PartInputs | None:
    """What the rows of a part were computed from; without a model where it does not say.

    None where it cannot be read.
    """
    try:
        stored = (pq.read_schema(path).metadata or {}).get(_INPUTS)
        return PartInputs("", "") if stored is None else PartInputs(**json.loads(stored))
    except (pa.ArrowException, OSError, TypeError, ValueError):
        return None


def _readable_parts(
    run_dir: Path, columns: Sequence[str] | None = None
) -> Iterator[tuple[Path, pa.Table]]:
    """The parts by name; files that are none are named in a warning."""
    for path in RunFolder(run_dir).part_files():
        try:
            yield path, _read_part(path, columns)
        except (pa.ArrowException, OSError):
            warnings.warn(f"{path} is ignored: it cannot be read", stacklevel=3)


def _read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of a part; page checksums do not cover the names of columns."""
    table = _read(path, columns)
    if "image_id" not in table.column_names:
        raise OSError(f"{path} has no column image_id")
    return table


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        present = None if columns is None else [n for n in columns if n in file.schema_arrow.names]
        return file.read(present)


def _fault(path: Path) -> str:
    """What is wrong with a part: it cannot be read, or has lost a picture; "" if it is whole."""
    try:
        _read_part(path)
    except (pa.ArrowException, OSError):
        return "cannot be read"
    inputs, run_dir = read_part_inputs(path), path.parents[1]
    for name, stored in inputs.pictures.items() if inputs is not None else ():
        file = run_dir / name
        if not file.is_file() or checksum(file.read_bytes()) != stored:
            return f"has lost its picture {name}"
    return ""


def _to_bytes(rows: pd.DataFrame, key: Sequence[str], inputs: PartInputs | None = None) -> bytes:
    metadata = {_KEY: json.dumps(list(key)).encode()}
    if inputs is not None:
        metadata[_INPUTS] = json.dumps(asdict(inputs)).encode()
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(metadata)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()
