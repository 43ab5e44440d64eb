"""What a run prints: warnings as plain lines, the summary, where the files lie."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from attnguide.figures.claims import sentences
from attnguide.findings import Findings

PRINTED_ROWS = 40  # of the summary; summary.csv holds all
BADGES = {"holds": "green", "does not hold": "red", "inconclusive": "yellow"}


def make_console() -> Console:
    """Where a run prints; warnings and log records go there too."""
    console = Console(markup=False, emoji=False, highlight=False)  # names are data
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
    """Log records as plain lines, above a progress bar where there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        bad = record.levelno >= logging.WARNING
        text = f"warning: {record.getMessage()}" if bad else record.getMessage()
        style = "yellow" if bad else None
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_summary(findings: Findings, figure: Path, report: Path, console: Console) -> None:
    """Table, claims with verdicts, sentences, and the paths of figure and report."""
    console.print()
    console.print(_table(findings.summary.head(PRINTED_ROWS), findings.title))
    more = len(findings.summary) - PRINTED_ROWS
    if more > 0:
        console.print(f"... and {more} more rows in the csv beside the figure")
    for sentence in [*sentences(findings.claims), *findings.found]:
        console.print(f"- {sentence}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    for name, path in (("Figure", figure), ("Report", report)):
        console.print(f"{name}  {path}", markup=False, highlight=False, soft_wrap=True)


def _table(summary: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in summary.columns:
        numbers = pd.api.types.is_numeric_dtype(summary[name])
        table.add_column(str(name), justify="right" if numbers else "left")
    for row in summary.itertuples(index=False):
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
    return table
