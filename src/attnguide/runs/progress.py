"""How far the work on a data set is: a bar, or a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal to draw a bar on


class Progress(Callback):
    """Images done, images per second, time left; the first process shows it for all.

    Attributes:
        cuda_peak: Most bytes of CUDA memory that this process has held.
    """

    def __init__(self, console: Console, report: Callable[[str, int, float], None]) -> None:
        """Nothing is shown yet.

        Args:
            console: Where.
            report: Is told model, images and images per second now and then.
        """
        self.console, self.report, self.cuda_peak = console, report, 0
        self.bar = self._new_bar()

    def begin(self, model: str, total: int, missing: int, devices: int) -> None:
        """What is to be done with a model."""
        self.model, self.total, self.stored, self.devices = model, total, total - missing, devices
        self.new, self.begun = 0, time.monotonic()
        self.last = self.begun
        if self.stored:
            self.console.print(f"{model}: {self.stored} of {total} images are stored already")

    def on_predict_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Begin to count."""
        self.begun = self.last = time.monotonic()
        if trainer.is_global_zero:
            self.bar = self._new_bar()
            self.bar.start()
            self.bar.add_task(self.model, total=self.total, completed=self.stored, rate="")

    def on_predict_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Show how far it is."""
        batch = args[2]  # after the module and its outputs
        device = trainer.strategy.root_device
        if device.type == "cuda":
            self.cuda_peak = max(self.cuda_peak, torch.cuda.max_memory_allocated(device))
        if not trainer.is_global_zero:
            return
        self.new = min(self.new + batch[1] * self.devices, self.total - self.stored)
        now, done = time.monotonic(), self.stored + self.new
        rate = self.new / max(now - self.begun, 1e-9)
        self.bar.update(self.bar.task_ids[0], completed=done, rate=f"{rate:.1f} per s")
        if now - self.last >= SECONDS_BETWEEN_LINES and done < self.total:
            self.last = now
            self._print(done, rate, f"{(self.total - done) / rate:.0f} s left")
            self.report(self.model, done, rate)

    def on_predict_end(self, *_: Any) -> None:
        """Give the terminal back."""
        self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        """Give the terminal back."""
        self.bar.stop()

    def end(self) -> None:
        """Say how long it took."""
        spent = time.monotonic() - self.begun
        rate = (self.total - self.stored) / max(spent, 1e-9)
        self._print(self.total, rate, f"{spent:.0f} s")
        self.report(self.model, self.total, rate)

    def _print(self, done: int, rate: float, clock: str) -> None:
        if not self.console.is_terminal:
            self.console.print(
                f"{self.model}: {done} of {self.total} images, {rate:.1f} per s, {clock}"
            )

    def _new_bar(self) -> RichProgress:
        return RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} images, {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
