"""How far a run is: a bar on a terminal, a line every ten seconds in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from attnguide.store.provenance import Provenance

SECONDS_BETWEEN_LINES = 10.0


@dataclass
class _Count:
    """Images of one model, over all devices."""

    task: TaskID
    total: int = 0
    stored: int = 0  # by earlier lives of the run
    new: int = 0
    devices: int = 0  # that have begun
    begun: float = field(default_factory=time.monotonic)


class Monitor:
    """What the processes of a run report: progress for the console, facts for the records.

    Args:
        console: Where it is shown.
        provenance: Where facts are stored.
        track: Is told model, images and images per second now and then.
        devices: How many processes report.

    Attributes:
        batch_size: Images per step, as the last model had it.
        cuda_peak: Most bytes of CUDA memory that one process has held.
    """

    def __init__(
        self,
        console: Console,
        provenance: Provenance,
        track: Callable[[str, int, float], None],
        devices: int = 1,
    ) -> None:
        self.console, self.provenance, self.track, self.devices = (
            console,
            provenance,
            track,
            devices,
        )
        self.batch_size, self.cuda_peak = 0, 0
        self._counts: dict[str, _Count] = {}
        self._last = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} images, {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def begin(self, model: str, total: int, stored: int, batch_size: int) -> None:
        """A device begins with its share of a model's images, some of which are stored already."""
        if model not in self._counts:
            self._counts[model] = _Count(self._bar.add_task(model, rate=""))
        count = self._counts[model]
        count.total, count.stored = count.total + total, count.stored + stored
        count.devices, self.batch_size = count.devices + 1, batch_size
        if count.devices == self.devices and count.stored:
            self.console.print(
                f"{model}: {count.stored} of {count.total} images are stored already"
            )
        self._bar.start()
        self._bar.update(count.task, total=count.total, completed=count.stored + count.new)

    def advance(self, model: str, images: int) -> None:
        """A batch is stored."""
        count = self._counts[model]
        count.new += images
        now, done = time.monotonic(), count.stored + count.new
        spent, left = max(now - count.begun, 1e-9), count.total - done
        rate = count.new / spent
        self._bar.update(count.task, completed=done, rate=f"{rate:.1f} per s")
        finished = not left and count.devices == self.devices
        if finished or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self.track(model, done, rate)
            if not self.console.is_terminal:
                clock = f"{spent:.0f} s" if finished else f"{left / rate:.0f} s left"
                self.console.print(
                    f"{model}: {done} of {count.total} images, {rate:.1f} per s, {clock}"
                )

    def note(
        self,
        model: str,
        weights: str,
        note: str,
        skipped: Sequence[str],
        engine: str,
        cuda_peak: int,
    ) -> None:
        """A device has finished with a model."""
        said = model in self.provenance.values["notes"]
        self.provenance.note(model, weights, note, skipped, engine)
        self.cuda_peak = max(self.cuda_peak, cuda_peak)
        if note and not said:
            self.console.print(f"{model}: {note}", soft_wrap=True)
        if skipped:
            total = self._counts[model].total
            self.console.print(f"{model}: skipped {len(skipped)} unreadable of {total} images")

    def close(self) -> None:
        """Give the terminal back."""
        self._bar.stop()

    def facts(self) -> dict[str, Any]:
        """What the work brought, for the records."""
        peak = {"peak_cuda_memory_mb": round(self.cuda_peak / 2**20)} if self.cuda_peak else {}
        return {"batch_size": self.batch_size, **peak}
