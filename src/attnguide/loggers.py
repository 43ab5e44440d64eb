"""Who is told about a run besides its files: nobody, or Weights and Biases."""

from __future__ import annotations

import hashlib
import netrc
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from attnguide.config import LoggerConfig
from attnguide.findings import Findings
from attnguide.viz.style import render


class RunLogger(Protocol):
    """Something that hears of a run's outcome."""

    def log(self, findings: Findings) -> None:
        """Take in summary and figures."""


@contextmanager
def open_logger(
    settings: LoggerConfig, run_dir: Path, config: Mapping[str, Any]
) -> Iterator[RunLogger]:
    """The chosen logger, open; the files of a run are complete whatever it does."""
    if settings.name == "files":
        yield Files()
        return
    logger = WandB(settings, run_dir, config)
    try:
        yield logger
    finally:
        logger.finish()


class Files:
    """Nobody else is told: the run's files are all."""

    def log(self, findings: Findings) -> None:
        """Nothing to do."""


class WandB:
    """One W&B run per run folder, offline where there is no key or no network; never asks.

    Args:
        settings: Project, entity, group, tags, mode.
        run_dir: Holds the `wandb` folder; its path names the run, so a resumed one goes on.
        config: Plain values without secrets.
    """

    def __init__(self, settings: LoggerConfig, run_dir: Path, config: Mapping[str, Any]) -> None:
        import wandb

        name = re.sub(r"[^\w.-]", "-", str(config.get("experiment")))
        digest = hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:8]
        chosen: dict[str, Any] = {
            "project": settings.project,
            "entity": settings.entity,
            "group": settings.group,
            "tags": list(settings.tags),
            "config": dict(config),
            "dir": str(run_dir),
            "id": f"{name}-{digest}",
            "resume": "allow",
        }
        mode = settings.mode or os.environ.get("WANDB_MODE") or ("online" if _has_key() else None)
        if mode is None:
            mode = "offline"
            warnings.warn(
                "W&B has no key here, so this run is logged offline; later: wandb login, "
                f"wandb sync {run_dir}/wandb/offline-run-*",
                stacklevel=2,
            )
        quiet = wandb.Settings(silent=True, init_timeout=15)
        try:
            self.run = wandb.init(**chosen, mode=mode, settings=quiet)  # type: ignore[arg-type]
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            warnings.warn(
                f"W&B is out of reach ({error}); this run is logged offline", stacklevel=2
            )
            self.run = wandb.init(**chosen, mode="offline", settings=quiet)
        self._wandb = wandb

    def log(self, findings: Findings) -> None:
        """Summary as a table, figures as pictures."""
        figures = {"figure": findings.figure, **findings.figures}
        pictures = {name: Image.open(BytesIO(render(fig))) for name, fig in figures.items()}
        self.run.log(
            {
                "summary": self._wandb.Table(dataframe=findings.summary),
                **{name: self._wandb.Image(picture) for name, picture in pictures.items()},
            }
        )

    def finish(self) -> None:
        """Flush; the run counts as ended."""
        self.run.finish()


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
