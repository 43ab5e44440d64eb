"""Who is told about a run besides its files: nobody, or Weights and Biases."""

from __future__ import annotations

import hashlib
import json
import netrc
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

from PIL import Image

from attnguide.config import LoggerConfig
from attnguide.findings import Findings
from attnguide.store.table import read
from attnguide.tracking.wandb_payload import curves, sample, scalars
from attnguide.viz.style import render

FILES = {
    "results": (
        "results.parquet",
        "summary.csv",
        "config.yaml",
        "provenance.json",
        "aggregate.csv",
    ),
    "figure": ("figure.png", "figure.pdf", "aggregate.png", "aggregate.pdf"),
}
PATIENCE = 15  # seconds for W&B to answer
FINISH_PATIENCE = 120  # seconds for the last upload


class RunLogger(Protocol):
    """Something that hears of a run."""

    def progress(self, model: str, images: int, rate: float) -> None:
        """Images done so far with a model, and how many per second."""

    def log(self, findings: Findings) -> None:
        """Take in what was found, when the run's files are written."""


@contextmanager
def open_logger(
    settings: LoggerConfig,
    run_dir: Path,
    config: Mapping[str, Any],
    *,
    shard: int | None = None,
    group: str | None = None,
) -> Iterator[RunLogger]:
    """The chosen logger, open; the files of a run are complete whatever it does.

    Args:
        settings: As on the command line; those in `config`, without secrets, come first.
        run_dir: Of the run.
        config: Plain values without secrets.
        shard: Number of this share where the run has several.
        group: What the run belongs to, where the settings name nothing.
    """
    if settings.name == "files":
        yield Files()
        return
    settings = LoggerConfig(**config["logger"]) if "logger" in config else settings
    logger = WandB(settings, run_dir, config, shard=shard, group=group)
    try:
        yield logger
    except BaseException:
        logger.finish(failed=True)
        raise
    logger.finish()


class Files:
    """Nobody else is told: the run's files are all."""

    def progress(self, model: str, images: int, rate: float) -> None:
        """Nothing to do."""

    def log(self, findings: Findings) -> None:
        """Nothing to do."""


class WandB:
    """One W&B run per run folder and shard, offline without key or network; never asks.

    Whatever W&B raises is told once, and the run goes on without it.

    Args:
        settings, run_dir, config, shard, group: As of `open_logger`. The id comes from folder and
            shard, so a resumed or requeued run goes on in its W&B run.
    """

    def __init__(
        self,
        settings: LoggerConfig,
        run_dir: Path,
        config: Mapping[str, Any],
        *,
        shard: int | None = None,
        group: str | None = None,
    ) -> None:
        self.run_dir, self.failed = run_dir, False
        self.run: Any = None
        experiment = re.sub(r"[^\w.-]", "-", str(config.get("experiment")))
        digest = hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:8]
        self.id = f"{experiment}-{digest}" + ("" if shard is None else f"-shard{shard:04d}")
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        chosen: dict[str, Any] = {
            "project": settings.project,
            "entity": settings.entity,
            "group": settings.group or (f"array-{array}" if array else group),
            "job_type": experiment,
            "tags": _tags(settings.tags, config),
            "config": {**config, **_slurm()},
            "dir": str(run_dir),
            "id": self.id,
            "resume": "allow",
        }
        self._try(lambda: self._open(chosen, settings.mode or os.environ.get("WANDB_MODE")))

    def _open(self, chosen: dict[str, Any], mode: str | None) -> None:
        import wandb

        self._wandb = wandb
        quiet = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,  # an address may hold a token
            save_code=False,
            init_timeout=PATIENCE,
            finish_timeout=FINISH_PATIENCE,
        )
        later = f"later: wandb login, wandb sync {self.run_dir}/wandb/offline-run-*"
        if mode not in ("offline", "disabled", "dryrun") and not has_key():
            warnings.warn(
                f"W&B has no key here, so this run is logged offline; {later}", stacklevel=5
            )
            mode = "offline"
        try:
            self.run = wandb.init(**chosen, mode=mode or "online", settings=quiet)  # type: ignore[arg-type]
        except Exception as error:
            if mode == "offline":
                raise
            warnings.warn(
                f"W&B is out of reach ({str(error).splitlines()[0]}); this run is logged offline; "
                f"{later}",
                stacklevel=5,
            )
            wandb.teardown()  # its process still holds the id
            self.run = wandb.init(**chosen, mode="offline", settings=quiet)
        for pattern, step in (("curve/*", "fraction"), ("progress/*", "progress/images")):
            self.run.define_metric(step, hidden=True)
            self.run.define_metric(pattern, step_metric=step)

    def progress(self, model: str, images: int, rate: float) -> None:
        """Images done and images per second, by images."""
        name = f"progress/{model}/images_per_second"
        self._try(lambda: self.run.log({"progress/images": images, name: rate}))

    def log(self, findings: Findings) -> None:
        """Provenance, numbers, curves, tables, pictures, and the files as artifacts."""
        for part in (self._log_numbers, self._log_pictures, self._log_files):
            self._try(partial(part, findings))

    def _log_numbers(self, findings: Findings) -> None:
        stored = self.run_dir / "provenance.json"
        if stored.is_file():
            provenance = {"provenance": json.loads(stored.read_text())}
            self.run.config.update(provenance, allow_val_change=True)
        self.run.summary.update(scalars(findings.summary))
        tables = {"summary": findings.summary, **findings.tables}
        if (self.run_dir / "results.parquet").is_file():
            rows = read(self.run_dir)
            for step in curves(rows):
                self.run.log(step)
            tables["images"] = sample(rows)
        self.run.log({f"table/{k}": self._wandb.Table(dataframe=v) for k, v in tables.items()})

    def _log_pictures(self, findings: Findings) -> None:
        figures = {"figure": findings.figure, **findings.figures}
        pictures = {name: Image.open(BytesIO(render(fig))) for name, fig in figures.items()}
        named = {f"figure/{name}": self._wandb.Image(p) for name, p in pictures.items()}
        self.run.log(named)

    def _log_files(self, _: Findings) -> None:
        for kind, names in FILES.items():
            artifact = self._wandb.Artifact(f"{kind}-{self.id}", type=kind)
            for name in names:
                if (self.run_dir / name).is_file():
                    artifact.add_file(str(self.run_dir / name))
            self.run.log_artifact(artifact)

    def finish(self, *, failed: bool = False) -> None:
        """End the run, and wait until W&B's own process has written everything.

        `run.finish` returns before that: its last message is sent without waiting for an answer.
        """
        if self.run is None:
            return
        self.failed = False  # also after an error, what is there is sent
        self._try(lambda: self.run.finish(exit_code=int(failed)))
        if self._wandb.run is None:
            self._try(self._wandb.teardown)

    def _try(self, action: Callable[[], Any]) -> None:
        """Do it, or say once that W&B could not."""
        if self.failed:
            return
        try:
            action()
        except Exception as error:
            self.failed = True
            warnings.warn(
                f"W&B failed ({error!r}); the run goes on without it, and its files are complete",
                stacklevel=4,
            )


def _tags(given: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The user's, and what runs are looked for by; W&B takes 64 characters."""
    model = config.get("model") or {}
    name = model.get("name", []) if isinstance(model, Mapping) else model
    models = name if isinstance(name, list) else [name]
    tags = [*given, config.get("scale"), *config.get("method", {}), *models]
    return list(dict.fromkeys(str(tag)[:64] for tag in tags if tag))


def _slurm() -> dict[str, Any]:
    names = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")
    found = {name.lower(): os.environ[name] for name in names if name in os.environ}
    return {"slurm": found} if found else {}


def has_key() -> bool:
    """Whether W&B could log in without asking."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import wandb

    addresses = (
        os.environ.get("WANDB_BASE_URL"),
        wandb.Settings().base_url,
        "https://api.wandb.ai",
    )
    hosts = [str(urlparse(address).hostname) for address in addresses if address]
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(known.authenticators(host) is not None for host in hosts)
