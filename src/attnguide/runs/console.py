"""What a run prints: warnings as plain lines, how far it is, the summary, where the files lie."""

from __future__ import annotations

import logging
import math
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.table import Table

from attnguide.figures.claims import sentences
from attnguide.findings import Findings
from attnguide.store.provenance import Provenance

PRINTED_ROWS = 40  # of the summary; summary.csv holds all
SECONDS_BETWEEN_LINES = 10.0
IN_PYTHON = "; use vit.module.double()"  # how a warning ends that says what to do in a notebook
COUNTED = re.compile(r"(\d+) of (\d+) ([^:]*)")  # a warning about some of a batch
repeated: dict[str, list[tuple[int, int]]] = {}  # counts of such warnings, by kind


def make_console() -> Console:
    """Where a run prints, each text on one line; warnings and log records go there too."""
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)  # names are data
    if not console.is_terminal:
        console.width = 160  # a log file has no edge
    lines = _Lines(console)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        lines.handle(logging.makeLogRecord({"msg": str(message), "levelno": logging.WARNING}))

    warnings.showwarning = show
    log = logging.getLogger("attnguide")
    log.handlers = [lines]
    log.setLevel(logging.INFO)
    return console


class _Lines(logging.Handler):
    """Log records as plain lines, above a progress bar where there is one.

    Of warnings "N of M maps ..." of one kind the first is printed; `print_summary` adds them up.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console
        repeated.clear()

    def emit(self, record: logging.LogRecord) -> None:
        text, bad = record.getMessage().partition(IN_PYTHON)[0], record.levelno >= logging.WARNING
        if bad and (counted := COUNTED.match(text)):
            repeated.setdefault(counted[3], []).append((int(counted[1]), int(counted[2])))
            if len(repeated[counted[3]]) > 1:
                return
        self.console.print(f"warning: {text}" if bad else text, style="yellow" if bad else None)


class Monitor:
    """What the processes of a run report: progress for the console, facts for the records.

    On a terminal progress is a bar, in a log file a line every ten seconds.

    Args:
        console: Where it is shown.
        provenance: Where facts are stored.
        track: Is told model, images and images per second now and then.
        devices: How many processes report.
        facts: What is stored when the work begins.
    """

    def __init__(
        self,
        console: Console,
        provenance: Provenance,
        track: Callable[[str, int, float], None],
        devices: int,
        facts: dict[str, Any],
    ) -> None:
        self.console, self.provenance, self.track = console, provenance, track
        self.devices, self.facts = devices, facts
        self._last = -math.inf  # a line was printed: the first batch is told of
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} images, {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def begin(self, model: str, total: int, stored: int) -> None:
        """A device begins with its share of a model's images, some of which are stored already."""
        if not self._bar.tasks:
            self.provenance.begin(**self.facts)
            self._bar.start()
        if not any(task.description == model for task in self._bar.tasks):
            self._bar.add_task(model, total=0, rate="", stored=0, devices=0)
        task = self._task(model)
        task.fields["stored"] += stored
        task.fields["devices"] += 1
        self._bar.update(task.id, total=(task.total or 0) + total, advance=stored)
        if task.fields["devices"] == self.devices and task.fields["stored"]:
            self.console.print(
                f"{model}: {task.fields['stored']} of {task.total:.0f} images are stored already"
            )

    def advance(self, model: str, images: int) -> None:
        """A batch is stored."""
        task, now = self._task(model), time.monotonic()
        assert task.total is not None
        done, spent = int(task.completed) + images, max(task.elapsed or 0.0, 1e-9)
        rate = (done - task.fields["stored"]) / spent
        self._bar.update(task.id, completed=done, rate=f"{rate:.1f} per s")
        finished = done == task.total and task.fields["devices"] == self.devices
        if finished or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self.track(model, done, rate)
            if not self.console.is_terminal:
                left = (task.total - done) / rate
                clock = f"{spent:.0f} s" if finished else f"{left:.0f} s left"
                self.console.print(
                    f"{model}: {done} of {task.total:.0f} images, {rate:.1f} per s, {clock}"
                )

    def _task(self, model: str) -> Task:
        return next(task for task in self._bar.tasks if task.description == model)

    def note(self, model: str, of_model: dict[str, str], facts: dict[str, Any]) -> None:
        """A device has finished with a model; arguments as of `Provenance.note`."""
        is_new = model not in self.provenance.values["notes"]
        self.provenance.note(model, of_model, facts)
        if of_model["notes"] and is_new:
            self.console.print(f"{model}: {of_model['notes']}")
        if skipped := len(facts["skipped"]):
            total = self._task(model).total
            self.console.print(f"{model}: skipped {skipped} unreadable of {total:.0f} images")

    def close(self) -> None:
        """Give the terminal back."""
        self._bar.stop()


def print_summary(findings: Findings, figure: Path, report: Path, console: Console) -> None:
    """Table, claims with verdicts, sentences, and the paths of figure and report."""
    table = Table(title=findings.title, title_justify="left", title_style="bold")
    shown = findings.summary.head(PRINTED_ROWS)
    for name in shown.columns:
        numbers = pd.api.types.is_numeric_dtype(shown[name])
        table.add_column(str(name), justify="right" if numbers else "left")
    for row in shown.itertuples(index=False):
        cells = ("" if pd.isna(v) else f"{v:.2f}" if isinstance(v, float) else v for v in row)
        table.add_row(*map(str, cells))
    console.print()
    console.print(table, soft_wrap=False)
    if len(findings.summary) > PRINTED_ROWS:
        more = len(findings.summary) - PRINTED_ROWS
        console.print(f"... and {more} more rows in the csv beside the figure")
    for kind, counts in repeated.items():
        if len(counts) > 1:
            some, of = map(sum, zip(*counts, strict=True))
            console.print(f"warning: {some} of {of} {kind} (in batches that had such)")
    for sentence in [*sentences(findings.claims), *findings.found]:
        console.print(f"- {sentence}")
    console.print(f"\nFigure  {figure}\nReport  {report}")
