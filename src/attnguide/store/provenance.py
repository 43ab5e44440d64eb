"""Where the numbers of a run come from: commit, versions, checksums, device, time."""

from __future__ import annotations

import hashlib
import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from attnguide.errors import InputError
from attnguide.store.files import checksum, read_json, write_atomic
from attnguide.store.folder import RunFolder

PACKAGES = ("attnguide", "torch", "timm", "pytorch-lightning", "numpy", "pandas", "pillow")
DECIDE = PACKAGES[:3]  # their versions decide numbers
PACKAGE = Path(__file__).resolve().parents[1]
TABLE = "results.parquet"


class _Record(BaseModel, extra="allow", allow_inf_nan=False):
    """What is read from a stored record, and what it may be; more stands in it for people."""

    started: str | None = None
    finished: str | None = None
    seconds: float | None = None
    peak_memory_mb: float | None = None
    skipped: list[str] = []
    files: dict[str, str] = {}
    notes: dict[str, str] = {}
    weights_sha256: dict[str, str] = {}


_RECORD = TypeAdapter(_Record)


def read_record(path: Path) -> dict[str, Any]:
    """A record, which may come from somebody else.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged.
    """
    return read_json(path, _RECORD).model_dump(exclude_unset=True)


class Provenance:
    """Where a run's numbers come from; one file per run, and one per shard where there are several.

    Args:
        run_dir: Of the run.
        shard, num_shards: This process's share.
    """

    def __init__(self, run_dir: Path, shard: int = 0, num_shards: int = 1) -> None:
        self.run_dir = Path(run_dir)
        self.path = RunFolder(run_dir).provenance(shard, num_shards)
        self.values: dict[str, Any] = {}
        if self.path.is_file():
            try:
                self.values = read_record(self.path)
            except InputError as error:
                warnings.warn(f"{error}; it is written anew", stacklevel=2)
        self._begun: float | None = None

    @property
    def finished(self) -> bool:
        """Whether all was computed."""
        return bool(self.values.get("finished"))

    @property
    def skipped(self) -> list[str]:
        """Pictures that could not be read."""
        return list(self.values.get("skipped", ()))

    def begin(self, **facts: Any) -> None:
        """Store what is known before the work; a resumed run keeps its first start.

        Args:
            facts: Seed, device, precision and the like, plain values.
        """
        self._begun = time.monotonic()
        commit, dirty = _git()
        self.values = {
            "commit": commit,
            "dirty": dirty,
            "versions": {"python": platform.python_version(), **_versions(PACKAGES)},
            "weights_sha256": {},
            "notes": {},
            "started": self.values.get("started") or _now(),
            "finished": None,
            "resumed": bool(self.values.get("started")),
            "seconds": self.values.get("seconds", 0.0),
            "files": self.values.get("files", {}),
            **facts,
        }
        self._store()

    def note(self, model: str, of_model: dict[str, str], facts: dict[str, Any]) -> None:
        """Store what is known after a model.

        Args:
            model: Its name.
            of_model: Facts that each model has: checksum of its weights, engine, what was left out.
            facts: Of the run; `skipped` are ids of pictures that could not be read.
        """
        for name, fact in of_model.items():
            self.values.setdefault(name, {})[model] = fact
        skipped = sorted({*self.skipped, *facts["skipped"]})
        self.values |= facts | {"skipped": skipped}
        self._store()

    def end(self, *, finished: bool) -> None:
        """Store how the work ended, if it has begun; `seconds` adds up over all starts."""
        if self._begun is None:
            return
        self.values["finished"] = _now() if finished else None
        self.values["seconds"] += round(time.monotonic() - self._begun, 1)
        processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peak = max(resource.getrusage(process).ru_maxrss for process in processes)
        self.values["peak_memory_mb"] = round(peak / (2**20 if sys.platform == "darwin" else 1024))
        self._store()

    def drawn(self, *files: str) -> None:
        """Store the table's checksum, and those of all that was drawn; none while it is drawn."""
        self.values["files"] = {name: self._checksum(name) for name in (TABLE, *files)}
        self._store()

    @property
    def is_drawn(self) -> bool:
        """Whether all files were drawn, and are as they were."""
        return len(self.values.get("files") or ()) > 1 and not self.changed()

    def changed(self) -> list[str]:
        """The table and files that were drawn, where they are missing or not as they were."""
        files = self.values.get("files") or {}
        return [name for name in files if self._checksum(name) != files[name]]

    def gather(self, shards: Sequence[Provenance]) -> None:
        """Of a merged run: what its shards say, once where they agree."""
        each = [shard.values for shard in shards]
        agreed = {
            key: each[0][key] for key in each[0] if all(e.get(key) == each[0][key] for e in each)
        }
        self.values = agreed | {
            "started": min(values["started"] for values in each),
            "finished": max(values["finished"] for values in each),
            "seconds": round(sum(values["seconds"] for values in each), 1),
            "skipped": sorted({name for values in each for name in values.get("skipped", [])}),
            "shards": len(each),
        }
        self._store()

    def _store(self) -> None:
        write_atomic(self.path, (json.dumps(self.values, indent=2) + "\n").encode())

    def _checksum(self, name: str) -> str:
        path = self.run_dir / name
        return checksum(path.read_bytes()) if path.is_file() else ""


@cache
def code_version() -> dict[str, str]:
    """What decides numbers beside the inputs: versions, commit, checksum of the source."""
    source = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        source.update(path.read_bytes())
    digest = source.hexdigest()[:16]
    return {**_versions(DECIDE), "commit": _git()[0] or "", "source": digest}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def _git() -> tuple[str | None, bool | None]:
    """Commit of the source and whether it was changed since; None outside a repository."""
    root, words = PACKAGE.parents[1], ("describe", "--always", "--dirty", "--exclude=*")
    if not (root / ".git").exists():
        return None, None
    git = ["git", "-C", str(root), *words, "--abbrev=40"]
    try:
        said = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return said.removesuffix("-dirty"), said.endswith("-dirty")
