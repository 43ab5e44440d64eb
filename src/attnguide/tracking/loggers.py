"""The loggers that `conf/logger` chooses, with their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnguide.errors import InputError, unknown_name
from attnguide.findings import Findings, ShownPicture

if TYPE_CHECKING:
    from attnguide.tracking.wandb_run import WandBRun

MODES = ("online", "offline", "disabled")


@dataclass(frozen=True)
class Files:
    """No tracker: the run's files are all."""

    def open(self, *_: Any, **__: Any) -> AbstractContextManager[Files]:
        """As `WandB.open`."""
        return nullcontext(self)

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

    def open(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        shard: int | None = None,
        group: str | None = None,
    ) -> AbstractContextManager[WandBRun]:
        """Begin to log a run, and end with it; its files are complete whatever W&B does.

        Args:
            run_dir: Of the run.
            config: Plain values without secrets.
            shard: Number of this share where the run has several.
            group: What the run belongs to, where the settings name nothing.
        """
        from attnguide.tracking.wandb_run import WandBRun

        return WandBRun(self, run_dir, config, shard=shard, group=group)


@dataclass(frozen=True)
class LightningLogger:
    """A logger of Lightning's: it gets the settings, the progress and the numbers of the summary.

    Attributes:
        logger: With Lightning's methods `log_hyperparams`, `log_metrics` and `finalize`; or a
            partial of its class, which gets `logger` in the run's folder as its `save_dir`.

    Raises:
        ValueError: a package that it needs is not installed.
    """

    logger: Any

    def __post_init__(self) -> None:
        self._made(Path())

    def _made(self, run_dir: Path) -> Any:
        if not isinstance(self.logger, partial):
            return self.logger
        try:
            return self.logger(save_dir=str(run_dir / "logger"))
        except ModuleNotFoundError as error:
            hint = str(error).splitlines()[-1].partition("HINT: Try running ")[2]
            raise InputError(f"this logger is not installed: {hint or error}") from None

    @contextmanager
    def open(self, run_dir: Path, config: Mapping[str, Any], **_: Any) -> Iterator[LightningLogger]:
        """As `WandB.open`."""
        opened = LightningLogger(self._made(run_dir))
        opened.logger.log_hyperparams(dict(config))
        status = "failed"
        try:
            yield opened
            status = "success"
        finally:
            opened.logger.finalize(status)

    def progress(self, model: str, images: int, rate: float) -> None:
        """As `WandBRun.progress`."""
        numbers = {f"{model}/images": float(images), f"{model}/images per second": rate}
        self.logger.log_metrics(numbers, step=images)

    def log(self, findings: Findings, viewer: Sequence[ShownPicture] = ()) -> None:  # noqa: ARG002
        """Every number of the summary, under the words of its row."""
        table = findings.summary
        texts = table.select_dtypes(exclude="number").fillna("").astype(str)
        words = pd.Index(["/".join(filter(None, row)) for row in texts.to_numpy()])
        for row, values in table.select_dtypes("number").set_index(words).iterrows():
            self.logger.log_metrics({f"{row}/{name}": float(v) for name, v in values.items()})
