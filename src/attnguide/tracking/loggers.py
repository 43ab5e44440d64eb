"""The loggers that a run can be given: what they are told, and their settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from attnguide.errors import unknown_name
from attnguide.findings import Findings, ShownPicture

MODES = ("online", "offline", "disabled")


class RunLogger(Protocol):
    """Something that hears of a run."""

    def progress(self, model: str, images: int, rate: float) -> None:
        """Images done so far with a model, and how many per second."""

    def log(self, findings: Findings, viewer: Sequence[ShownPicture] = ()) -> None:
        """Take in what was found, when the run's files are written."""


class Logger(Protocol):
    """What conf/logger chooses."""

    def open(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        shard: int | None = None,
        group: str | None = None,
    ) -> AbstractContextManager[RunLogger]:
        """Begin to listen to a run, and end with it.

        Args:
            run_dir: Of the run.
            config: Plain values without secrets; those under "logger" replace the logger's own.
            shard: Number of this share where the run has several.
            group: What the run belongs to, where the settings name nothing.
        """


@dataclass(frozen=True)
class Files:
    """Nobody else is told: the run's files are all."""

    @contextmanager
    def open(
        self,
        run_dir: Path,  # noqa: ARG002
        config: Mapping[str, Any],  # noqa: ARG002
        shard: int | None = None,  # noqa: ARG002
        group: str | None = None,  # noqa: ARG002
    ) -> Iterator[RunLogger]:
        """As `Logger.open`."""
        yield self

    def progress(self, model: str, images: int, rate: float) -> None:
        """Nothing to do."""

    def log(self, findings: Findings, viewer: Sequence[ShownPicture] = ()) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class WandB:
    """Weights and Biases: a mirror of the files, offline without key or network; never asks.

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
    ) -> Iterator[RunLogger]:
        """As `Logger.open`; the files of a run are complete whatever W&B does."""
        from attnguide.tracking.wandb_run import WandBRun

        stored = config.get("logger") or {}
        names = {entry.name for entry in fields(self)} & set(stored)
        written = {name: stored[name] for name in names}
        known = {n: v for n, v in written.items() if not re.search(r"\$\{|\*\*\*", str(v))}
        settings = replace(self, **known)
        run = WandBRun(settings, run_dir, config, shard=shard, group=group)
        try:
            yield run
        except BaseException as error:
            run.finish(error)
            raise
        run.finish()


@dataclass(frozen=True)
class LightningLogger:
    """A logger of Lightning's: it gets the settings, the progress and the numbers of the summary.

    Attributes:
        logger: With Lightning's methods `log_hyperparams`, `log_metrics` and `finalize`.
    """

    logger: Any

    @contextmanager
    def open(
        self,
        run_dir: Path,  # noqa: ARG002
        config: Mapping[str, Any],
        shard: int | None = None,  # noqa: ARG002
        group: str | None = None,  # noqa: ARG002
    ) -> Iterator[RunLogger]:
        """As `Logger.open`."""
        self.logger.log_hyperparams(dict(config))
        try:
            yield self
        except BaseException:
            self.logger.finalize("failed")
            raise
        self.logger.finalize("success")

    def progress(self, model: str, images: int, rate: float) -> None:
        """As `RunLogger.progress`."""
        numbers = {f"{model}/images": float(images), f"{model}/images per second": rate}
        self.logger.log_metrics(numbers, step=images)

    def log(self, findings: Findings, viewer: Sequence[ShownPicture] = ()) -> None:  # noqa: ARG002
        """Every number of the summary, under the words of its row."""
        table = findings.summary
        words = table.select_dtypes(exclude="number").astype(str).agg("/".join, axis=1)
        numbers = table.select_dtypes("number").set_index(words).to_dict("index")
        for row, values in numbers.items():
            self.logger.log_metrics({f"{row}/{name}": float(v) for name, v in values.items()})
