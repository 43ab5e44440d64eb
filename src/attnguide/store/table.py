"""Results on disk: rows in append-only parts, one merged table, raw maps.

A part is `parts/<shard>-<n>-<sha8>.parquet`: complete or absent, never half there. Whoever reads
checks the checksum in the name; a part that does not match is named and set aside, so its images
are computed again. It says what it was computed from (`store.origins`). Nothing in the merged table
depends on the time, so a resumed run ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attnguide.errors import InputError, command
from attnguide.store.agreement import once
from attnguide.store.files import release_lock, subfolder, take_lock, write_atomic
from attnguide.store.origins import Origin, lost_pictures, remaining, with_origin

PART = re.compile(r"(\d{4,})-(\d{6,})-([0-9a-f]{8})\.parquet")
NO_MATCH = "does not match its checksum"
_KEY = b"attnguide.key"


class Results:
    """The rows of one shard of a run, for writing; a context that holds the shard's lock.

    Args:
        run_dir: Of the run.
        key: Columns that together name a row; the first is `image_id`.
        shard: Number of this process's share.
        owner: False in a process that another one started, which holds the lock for both.

    Raises:
        ValueError: a key that does not begin with `image_id`.
    """

    def __init__(
        self, run_dir: Path, key: Sequence[str], shard: int = 0, *, owner: bool = True
    ) -> None:
        if not key or key[0] != "image_id":
            raise InputError(f"the key of the results must begin with 'image_id', got {list(key)}")
        self.key = tuple(key)
        self.shard = shard
        self.run_dir = Path(run_dir)
        self.parts = self.run_dir / "parts"
        self.owner = owner
        self._lock = -1
        self._next: int | None = None  # number of the next part

    def __enter__(self) -> Self:
        """Take the lock, a crashed owner's being released by the kernel; set damaged parts aside.

        Raises:
            ValueError: another process writes to this shard.
            OSError: the file system keeps no locks.
        """
        subfolder(self.run_dir, "parts")
        if not self.owner:
            return self
        path, what = (
            self.parts / f"{self.shard:04d}.lock",
            f"shard {self.shard} of {self.parts.parent}",
        )
        self._lock = take_lock(path, what)
        for leftover in self.parts.glob(f".{self.shard:04d}-*.tmp"):
            leftover.unlink()
        for path in _damaged(self.parts, self.shard):
            path.rename(path.with_suffix(".damaged"))
            matches = _matches(path.name, path.with_suffix(".damaged").read_bytes())
            fault = "has lost pictures that belong to it" if matches else NO_MATCH
            warnings.warn(
                f"{path} {fault}: set aside as .damaged, its rows are computed again", stacklevel=2
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

    def append(self, rows: pd.DataFrame, origin: Origin | None = None) -> None:
        """Store rows, all of them or none; all rows of an image (and model) belong in one call.

        Args:
            rows: With the columns of the key.
            origin: What they were computed from.

        Raises:
            ValueError: no rows, a missing key column, or a key that occurs twice.
            OSError: the disk is full or refuses; nothing stored before is lost.
        """
        if self.owner and self._lock < 0:
            raise RuntimeError("results are written inside `with results:`")
        missing = [column for column in self.key if column not in rows]
        if missing or rows.empty:
            raise InputError(f"rows need the columns {list(self.key)}, got {list(rows.columns)}")
        if rows.duplicated(list(self.key)).any():
            raise InputError(f"two rows with the same key {list(self.key)}: {_example(rows, self)}")
        data = _to_bytes(rows, self.key, origin)
        if self._next is None:  # other processes may use the same numbers: checksums differ
            names = (PART.fullmatch(path.name) for path in self.own_parts())
            self._next = 1 + max((int(name[2]) for name in names if name), default=-1)
        digest = hashlib.sha256(data).hexdigest()[:8]
        write_atomic(self.parts / f"{self.shard:04d}-{self._next:06d}-{digest}.parquet", data)
        self._next += 1

    def own_parts(self) -> list[Path]:
        """The parts of this shard."""
        return sorted(self.parts.glob(f"{self.shard:04d}-*.parquet"))

    def drop(self, paths: Sequence[Path], items: set[str] | None = None) -> None:
        """Remove the rows of some items from parts; what remains is stored first.

        Args:
            paths: The parts.
            items: Keys as `store.origins` names them; all if absent.
        """
        for path in paths:
            kept = None if items is None else remaining(path.read_bytes(), items)
            if kept is not None:
                self.append(*kept)
            path.unlink()

    def done(self, **where: object) -> set[tuple[str, str]]:
        """Part of the study and id of the items that have rows, in any shard: `done(model="x")`."""
        found: set[tuple[str, str]] = set()
        for _, table in _read_parts(self.parts):
            columns = [name for name in ("part", "image_id", *where) if name in table.column_names]
            rows = table.select(columns).to_pandas()
            for column, value in where.items():
                rows = rows[rows[column] == value]
            parts = rows["part"] if "part" in rows else [""] * len(rows)
            found.update(zip(parts, rows["image_id"], strict=True))
        return found


def merge(run_dir: Path) -> pd.DataFrame:
    """All parts as one table, sorted by key, stored as `results.parquet`.

    Rows that occur twice and agree, up to how batches round (`store.agreement`), are kept once.

    Raises:
        FileNotFoundError: no part.
        ValueError: a damaged part; parts of different columns or keys; two rows of one key that
            disagree.
    """
    damaged = [path.name for path in _damaged(Path(run_dir) / "parts")]
    if damaged:
        raise InputError(
            f"{len(damaged)} parts of {run_dir} do not match their checksums or have lost "
            f"pictures: {', '.join(damaged[:8])}; run the same command again, it computes them "
            "anew (of a sharded run the shard that begins their names)"
        )
    parts = list(_read_parts(Path(run_dir) / "parts"))
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
    rows, clash = once(pd.concat(frames, ignore_index=True), key)
    if not clash.empty:
        raise InputError(
            f"{len(clash)} rows of {run_dir} share a key but disagree, first "
            f"{clash.iloc[0][key].to_dict()}; remove the part that is wrong and run its shard "
            "again"
        )
    merged: pd.DataFrame = rows.sort_values(key, kind="stable", ignore_index=True)
    write_atomic(Path(run_dir) / "results.parquet", _to_bytes(merged, key))
    return merged


def read(run_dir: Path) -> pd.DataFrame:
    """The merged table of a run.

    Raises:
        FileNotFoundError: nothing merged yet.
        ValueError: the table is damaged.
    """
    path = Path(run_dir) / "results.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; finish the run first (stage=run)")
    try:
        return pq.read_table(path, page_checksum_verification=True).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is damaged ({str(error).splitlines()[0]}); make it again from its parts: "
            f"{command()} stage=merge run_dir={run_dir}"
        ) from error


def digest(run_dir: Path, shard: int = 0) -> str:
    """Checksum of what is stored of a shard, intact parts only."""
    parts = Path(run_dir) / "parts"
    damaged = set(_damaged(parts, shard))
    names = sorted(p.name for p in parts.glob(f"{shard:04d}-*.parquet") if p not in damaged)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def intact_parts(run_dir: Path, shard: int | None = None) -> list[Path]:
    """The parts of a shard, or of all, whose content is what was written."""
    pattern = "*.parquet" if shard is None else f"{shard:04d}-*.parquet"
    found = sorted((Path(run_dir) / "parts").glob(pattern))
    return [path for path in found if _matches(path.name, path.read_bytes())]


def _read_parts(parts: Path) -> Iterator[tuple[Path, pa.Table]]:
    """The intact parts by name; the others are named in a warning."""
    for path in sorted(parts.glob("*.parquet")):
        data = path.read_bytes()
        if not _matches(path.name, data):
            warnings.warn(f"{path} is ignored: it {NO_MATCH}", stacklevel=3)
            continue
        yield path, pq.read_table(io.BytesIO(data))


def _damaged(parts: Path, shard: int | None = None) -> list[Path]:
    """Parts of a shard, or of all, that are not what was written, or lost pictures of theirs."""
    pattern = "*.parquet" if shard is None else f"{shard:04d}-*.parquet"
    found = []
    for path in (path for path in sorted(parts.glob(pattern)) if PART.fullmatch(path.name)):
        data = path.read_bytes()
        if not _matches(path.name, data) or lost_pictures(parts.parent, data):
            found.append(path)
    return found


def _matches(name: str, data: bytes) -> bool:
    part = PART.fullmatch(name)
    return part is not None and hashlib.sha256(data).hexdigest()[:8] == part[3]


def _to_bytes(rows: pd.DataFrame, key: Sequence[str], origin: Origin | None = None) -> bytes:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    metadata = with_origin({_KEY: json.dumps(list(key)).encode()}, origin)
    table = table.replace_schema_metadata(metadata)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def _example(rows: pd.DataFrame, results: Results) -> dict[str, object]:
    key = list(results.key)
    return dict(rows.loc[rows.duplicated(key), key].iloc[0])
