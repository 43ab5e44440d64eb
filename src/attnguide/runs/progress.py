"""How far the work on a data set is: a bar, or a line now and then."""

from __future__ import annotations

import os
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from attnguide.runs.job import Job

SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal to draw a bar on


class Tally:
    """What the processes of a run tell each other, in memory that they share.

    Attributes:
        done: (devices,) images that each has been through.
        skipped: (images,) whether a picture could not be read.
        peak: (devices,) most bytes of CUDA memory that each has held.
    """

    def __init__(self, images: int, devices: int) -> None:
        self.done = torch.zeros(devices, dtype=torch.int64).share_memory_()
        self.skipped = torch.zeros(images, dtype=torch.bool).share_memory_()
        self.peak = torch.zeros(devices, dtype=torch.int64).share_memory_()


class Bar(Callback):
    """Images done by all devices, images per second, time left; the first process shows it."""

    def __init__(self, job: Job, name: str, tally: Tally, stored: int, total: int) -> None:
        self.console, self.name, self.tally, self.tell = job.console, name, tally, job.progress
        self.parent = os.getpid()
        self.stored, self.total = stored, total
        self.begun = self.told = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} images, {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=job.console,
            disable=not job.console.is_terminal,
        )

    def on_predict_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Begin to count."""
        self.begun = self.told = time.monotonic()
        if trainer.is_global_zero:
            self.bar.start()
            self.bar.add_task(self.name, total=self.total, completed=self.stored, rate="")

    def on_predict_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Show how far it is."""
        if not trainer.is_global_zero:
            return
        now, new = time.monotonic(), int(self.tally.done.sum())
        rate = new / max(now - self.begun, 1e-9)
        done = self.stored + new
        self.bar.update(self.bar.task_ids[0], completed=done, rate=f"{rate:.1f} per s")
        if now - self.told >= SECONDS_BETWEEN_LINES and done < self.total:
            self.told = now
            self._say(done, rate, f"{(self.total - done) / rate:.0f} s left")
            if os.getpid() == self.parent:  # a logger's connection does not survive a fork
                self.tell(self.name, done, rate)

    def on_predict_end(self, *_: Any) -> None:
        """Give the terminal back."""
        self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        """Give the terminal back."""
        self.bar.stop()

    def finish(self) -> None:
        """Say how long it took, when the last device is done."""
        spent, new = time.monotonic() - self.begun, int(self.tally.done.sum())
        rate = new / max(spent, 1e-9)
        self._say(self.stored + new, rate, f"{spent:.0f} s")
        self.tell(self.name, self.stored + new, rate)

    def _say(self, done: int, rate: float, clock: str) -> None:
        if not self.console.is_terminal:
            self.console.print(
                f"{self.name}: {done} of {self.total} images, {rate:.1f} per s, {clock}"
            )
