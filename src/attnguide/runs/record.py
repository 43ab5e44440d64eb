"""What a run says about itself on disk: its config, and where its numbers come from."""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from attnguide.errors import InputError
from attnguide.runs.commandline import FREE
from attnguide.runs.job import Job
from attnguide.runs.memory import device_name
from attnguide.store.files import write_atomic
from attnguide.store.table import digest

PACKAGES = ("attnguide", "torch", "timm", "pytorch-lightning", "numpy", "pandas", "pillow")


def open_run(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Begin a run, or go on with one of the same config.

    Raises:
        ValueError: the folder holds a run of another config, or something else.
    """
    path = run_dir / "config.yaml"
    if path.is_file():
        stored, now = flat(load_config(run_dir)), flat(config)
        keys = [key for key in {**stored, **now} if not key.startswith(FREE)]
        differ = [
            f"{key} (there {stored.get(key)}, now {now.get(key)})"
            for key in keys
            if stored.get(key) != now.get(key)
        ]
        if differ:
            raise InputError(
                f"{run_dir} holds a run of another config: {'; '.join(differ[:8])}; pass the same "
                "settings to go on with it, or another run_dir"
            )
        return
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"run_dir={run_dir} is a file; pass a folder")
    if run_dir.exists():
        foreign = [p.name for p in run_dir.glob("[!.]*") if p.name not in ("logs", "multirun.yaml")]
        if foreign:
            raise InputError(
                f"{run_dir} holds {foreign[0]} but no config.yaml: it is not a run of ours; pass "
                "a new folder as run_dir"
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(path, OmegaConf.to_yaml(OmegaConf.create(dict(config))).encode())


def load_config(run_dir: Path) -> dict[str, Any]:
    """The stored config, plain values.

    Raises:
        FileNotFoundError: no run there.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} is not a run: it has no config.yaml; pass run_dir=PATH")
    values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


class Provenance:
    """Where a run's numbers come from; one file per run, and one per shard where there are several.

    Args:
        run_dir: Of the run.
        shard, num_shards: This process's share.
    """

    def __init__(self, run_dir: Path, shard: int = 0, num_shards: int = 1) -> None:
        inside = f"parts/{shard:04d}.json"
        self.path = run_dir / ("provenance.json" if num_shards == 1 else inside)
        self._run = run_dir, shard
        self.values: dict[str, Any] = {}
        if self.path.is_file():
            try:
                self.values = json.loads(self.path.read_text())
            except ValueError:
                warnings.warn(f"{self.path} is damaged and begun anew", stacklevel=2)
        self._begun = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether all was computed, and is still there."""
        stored = self.values.get("parts_sha256")
        return bool(self.values.get("finished")) and stored in (None, digest(*self._run))

    def begin(self, job: Job) -> None:
        """Store what is known before the work; a resumed run keeps its first start."""
        commit, dirty = _git()
        self.values = {
            "commit": commit,
            "dirty": dirty,
            "versions": {"python": platform.python_version(), **_versions()},
            "weights_sha256": {},
            "seed": job.seed,
            "device": device_name(job.devices),
            "precision": job.precision,
            "started": self.values.get("started") or _now(),
            "finished": None,
            "resumed": bool(self.values.get("started")),
            "seconds": self.values.get("seconds", 0.0),
        }
        self._store()

    def end(self, job: Job, *, finished: bool) -> None:
        """Store what the work brought; `seconds` adds up over all lives of the run."""
        self.values["weights_sha256"] = job.weights
        self.values["parts_sha256"] = digest(*self._run)
        self.values["skipped"] = sorted(set(job.skipped))
        self.values["finished"] = _now() if finished else None
        self.values["seconds"] += round(time.monotonic() - self._begun, 1)
        self.values["batch_size"] = job.batch_size
        processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peak = max(resource.getrusage(process).ru_maxrss for process in processes)
        self.values["peak_memory_mb"] = round(peak / (2**20 if sys.platform == "darwin" else 1024))
        if job.cuda_peak:
            self.values["peak_cuda_memory_mb"] = round(job.cuda_peak / 2**20)
        self._store()

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
            "skipped": sorted({name for values in each for name in values["skipped"]}),
            "shards": len(each),
        }
        self._store()

    def _store(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, (json.dumps(self.values, indent=2) + "\n").encode())


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git() -> tuple[str | None, bool | None]:
    """Commit of the source and whether it was changed since; None outside a repository."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None, None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit, bool(changes)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, as the command line writes them."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
