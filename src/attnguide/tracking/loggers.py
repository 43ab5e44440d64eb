"""The loggers that `conf/logger` chooses, with their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnguide.errors import unknown_name
from attnguide.findings import Findings, ShownPicture

if TYPE_CHECKING:
    from attnguide.tracking.wandb_run import WandBRun

MODES = ("online", "offline", "disabled")


@dataclass(frozen=True)
class Files:
    """No tracker: the run's files are all."""

    @contextmanager
    def open(self, *_: Any, **__: Any) -> Iterator[Files]:
        """As `WandB.open`."""
        yield self

    def progress(self, model: str, images: int, rate: float) -> None:
        """As `WandBRun.progress`."""

    def log(self, findings: Findings, viewer: Sequence[ShownPicture] = ()) -> None:
        """As `WandBRun.log`."""


@dataclass(frozen=True)
class WandB:
    """Weights and Biases: a copy of the files, offline without key or network; never prompts.

    Attributes:
        project, entity: where runs go; without an entity to the user's own.
        group: what runs belong to; by default their sweep, their shards' run or their SLURM array.
        tags: besides scale, methods and models.
        mode: "online", "offline" or "disabled"; by default what WANDB_MODE says, else online.
    """

    project: str = "attnguide"
    entity: str | None = None
    group: str | None = None
    tags: Sequence[str] = field(default_factory=list)
    mode: str | None = None

    def __post_init__(self) -> None:
        if self.mode is not None and self.mode not in MODES:
            raise unknown_name("logger.mode", self.mode, MODES)

    @contextmanager
    def open(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        shard: int | None = None,
        group: str | None = None,
    ) -> Iterator[WandBRun]:
        """Begin to log a run, and end with it; its files are complete whatever W&B does.

        Args:
            run_dir: Of the run.
            config: Plain values without secrets.
            shard: Number of this share where the run has several.
            group: What the run belongs to, where the settings name nothing.
        """
        from attnguide.tracking.wandb_run import WandBRun

        run = WandBRun(self, run_dir, config, shard=shard, group=group)
        try:
            yield run
        except BaseException as error:
            run.finish(error)
            raise
        run.finish()
