"""Results on disk: rows in append-only parts, one merged table, raw maps.

A part is `parts/<shard>-<n>-<sha8>.parquet`: complete or absent, never half there. Whoever reads
checks the checksum in the name; a part that does not match is named and set aside, so its images
are computed again. Nothing here depends on the time, so a resumed run ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attnguide.errors import InputError
from attnguide.store.files import release_lock, take_lock, write_atomic

PART = re.compile(r"(\d{4})-(\d{6})-([0-9a-f]{8})\.parquet")
_KEY = b"attnguide.key"


class Results:
    """The rows of one shard of a run, for writing; a context that holds the shard's lock.

    Args:
        run_dir: Of the run.
        key: Columns that together name a row; the first is `image_id`.
        shard: Number of this process's share.

    Raises:
        ValueError: a key that does not begin with `image_id`.
    """

    def __init__(self, run_dir: Path, key: Sequence[str], shard: int = 0) -> None:
        if not key or key[0] != "image_id":
            raise InputError(f"the key of the results must begin with 'image_id', got {list(key)}")
        self.key = tuple(key)
        self.shard = shard
        self.parts = Path(run_dir) / "parts"
        self._lock = -1

    def __enter__(self) -> Self:
        """Take the lock, a crashed owner's being released by the kernel; set damaged parts aside.

        Raises:
            ValueError: another process writes to this shard.
            OSError: the file system keeps no locks.
        """
        self.parts.mkdir(parents=True, exist_ok=True)
        path, what = (
            self.parts / f"{self.shard:04d}.lock",
            f"shard {self.shard} of {self.parts.parent}",
        )
        self._lock = take_lock(path, what)
        for leftover in self.parts.glob(f".{self.shard:04d}-*.tmp"):
            leftover.unlink()
        for path in _damaged(self.parts, self.shard):
            path.rename(path.with_suffix(".damaged"))
            warnings.warn(
                f"{path} does not match its checksum: set aside as .damaged, its rows are computed "
                "again",
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
        release_lock(self._lock)
        self._lock = -1

    def append(self, rows: pd.DataFrame) -> None:
        """Store rows, all of them or none; all rows of an image (and model) belong in one call.

        Raises:
            ValueError: no rows, a missing key column, or a key that occurs twice.
            OSError: the disk is full or refuses; nothing stored before is lost.
        """
        if self._lock < 0:
            raise RuntimeError("results are written inside `with results:`")
        missing = [column for column in self.key if column not in rows]
        if missing or rows.empty:
            raise InputError(f"rows need the columns {list(self.key)}, got {list(rows.columns)}")
        if rows.duplicated(list(self.key)).any():
            raise InputError(f"two rows with the same key {list(self.key)}: {_example(rows, self)}")
        data = _to_bytes(rows, self.key)
        names = (PART.fullmatch(path.name) for path in self.parts.glob(f"{self.shard:04d}-*"))
        number = 1 + max((int(name[2]) for name in names if name), default=-1)
        digest = hashlib.sha256(data).hexdigest()[:8]
        write_atomic(self.parts / f"{self.shard:04d}-{number:06d}-{digest}.parquet", data)

    def done(self, **where: object) -> set[str]:
        """Ids of the images that have rows, in any shard, with these values: `done(model="x")`."""
        columns = ["image_id", *where]
        found: set[str] = set()
        for _, table in _read_parts(self.parts):
            rows = table.select(columns).to_pandas()
            for column, value in where.items():
                rows = rows[rows[column] == value]
            found.update(rows["image_id"])
        return found


def merge(run_dir: Path) -> pd.DataFrame:
    """All parts as one table, sorted by key, stored as `results.parquet`.

    Rows that occur twice and agree are kept once.

    Raises:
        FileNotFoundError: no part.
        ValueError: a damaged part; parts of different columns or keys; two rows of one key that
            disagree.
    """
    damaged = [path.name for path in _damaged(Path(run_dir) / "parts")]
    if damaged:
        raise InputError(
            f"{len(damaged)} parts of {run_dir} do not match their checksums: "
            f"{', '.join(damaged[:8])}; run the same command again, it computes them anew (of a "
            "sharded run the shard that begins their names)"
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
    rows = pd.concat(frames, ignore_index=True).drop_duplicates()
    clash = rows[rows.duplicated(key, keep=False)]
    if not clash.empty:
        raise InputError(
            f"{len(clash)} rows of {run_dir} share a key but disagree, first "
            f"{clash.iloc[0][key].to_dict()}; remove the part that is wrong and run again"
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
            f"python run.py stage=merge run_dir={run_dir}"
        ) from error


def digest(run_dir: Path, shard: int = 0) -> str:
    """Checksum of what is stored of a shard, intact parts only."""
    parts = Path(run_dir) / "parts"
    damaged = set(_damaged(parts, shard))
    names = sorted(p.name for p in parts.glob(f"{shard:04d}-*.parquet") if p not in damaged)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def save_maps(run_dir: Path, maps: Mapping[str, np.ndarray]) -> None:
    """Add raw relevance to `maps.npz`, by `<method>|<image id>|<target index>`."""
    path = Path(run_dir) / "maps.npz"
    stored = load_maps(run_dir) if path.is_file() else {}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(sorted({**stored, **maps}.items())))
    write_atomic(path, buffer.getvalue())


def load_maps(run_dir: Path) -> dict[str, np.ndarray]:
    """What `save_maps` stored.

    Raises:
        FileNotFoundError: no maps.
        ValueError: the file is damaged.
    """
    path = Path(run_dir) / "maps.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; finish the run first (stage=run)")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as maps:
            return {name: maps[name] for name in maps.files}
    except (BadZipFile, EOFError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({error}); compute it again in another run_dir"
        ) from error


def _read_parts(parts: Path) -> Iterator[tuple[Path, pa.Table]]:
    """The intact parts by name; the others are named in a warning."""
    for path in sorted(parts.glob("*.parquet")):
        data = path.read_bytes()
        if not _matches(path.name, data):
            warnings.warn(f"{path} is ignored: it does not match its checksum", stacklevel=3)
            continue
        yield path, pq.read_table(io.BytesIO(data))


def _damaged(parts: Path, shard: int | None = None) -> list[Path]:
    """Parts of a shard, or of all, whose content is not what was written."""
    pattern = "*.parquet" if shard is None else f"{shard:04d}-*.parquet"
    named = (path for path in sorted(parts.glob(pattern)) if PART.fullmatch(path.name))
    return [path for path in named if not _matches(path.name, path.read_bytes())]


def _matches(name: str, data: bytes) -> bool:
    part = PART.fullmatch(name)
    return part is not None and hashlib.sha256(data).hexdigest()[:8] == part[3]


def _to_bytes(rows: pd.DataFrame, key: Sequence[str]) -> bytes:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    table = table.replace_schema_metadata({_KEY: json.dumps(list(key)).encode()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def _example(rows: pd.DataFrame, results: Results) -> dict[str, object]:
    key = list(results.key)
    return dict(rows.loc[rows.duplicated(key), key].iloc[0])
