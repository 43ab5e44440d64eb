"""Small plots beneath the panels of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from attnguide.viz.style import INK, QUIET, SMALL, open_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

FIRST, SECOND = "#c4262e", "#1f5fbf"  # what is explained, and what stands against it
PLOT_HEIGHT = 1.75  # inches, with title and axis


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        label: Its name; empty for none.
        x, y: (S,).
        colour: Of the line.
        dash: As matplotlib writes it.
        low, high: (S,) ends of its band, or None.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    colour: str = INK
    dash: str = "-"
    low: ArrayLike | None = None
    high: ArrayLike | None = None


@dataclass(frozen=True)
class Plot:
    """Lines over one axis.

    Attributes:
        title, x_label, y_label: Text.
        lines: From the most to the least important.
        marks: Where to draw a vertical line.
        limits: Ends of the y axis, or None to fit the lines.
        zero: Draw the line of zero.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    marks: Sequence[float] = field(default=())
    limits: tuple[float, float] | None = None
    zero: bool = False


def draw_plots(part: SubFigure, rows: Sequence[Sequence[Plot]]) -> None:
    """Draw rows of plots, from top to bottom and left to right, into a part of a figure."""
    grid = part.subplots(len(rows), max(map(len, rows)), squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        for axes, plot in zip(line, row, strict=True):
            _draw(axes, plot)


def _draw(axes: Axes, plot: Plot) -> None:
    for line in plot.lines:
        axes.plot(line.x, line.y, line.dash, color=line.colour, linewidth=1.3, label=line.label)
        if line.low is not None and line.high is not None:
            axes.fill_between(
                line.x, line.low, line.high, color=line.colour, alpha=0.14, linewidth=0
            )
    if plot.zero:
        axes.axhline(0, color=QUIET, linewidth=0.6, zorder=0)
    for mark in plot.marks:
        axes.axvline(mark, color=QUIET, linewidth=0.7, dashes=(3, 2), zorder=0)
    axes.set_title(plot.title, loc="left", pad=4, size=SMALL + 1)
    axes.set(xlabel=plot.x_label, ylabel=plot.y_label)
    if plot.limits is not None:
        axes.set_ylim(plot.limits)
    axes.margins(x=0.01)
    open_axes(axes, "y")
    if any(line.label for line in plot.lines):
        axes.legend(frameon=False, borderpad=0.1, handlelength=1.6, labelspacing=0.25)
