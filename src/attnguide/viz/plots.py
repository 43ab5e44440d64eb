"""Small plots beneath the panels of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from attnguide.viz.style import HAIRLINE, INK, QUIET, SMALL, typography

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIRST, SECOND = "#c4262e", "#1f5fbf"  # what is explained, and what stands against it
_LEFT, _BETWEEN, _DOWN = 0.42, 0.62, 0.6  # inches: before a plot, between two, between rows


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


def plots_below(figure: Figure, rows: Sequence[Sequence[Plot]], *, height: float = 1.15) -> None:
    """Draw rows of plots beneath everything that a figure holds, over its whole width.

    The page grows when it is written (`viz.style.render` fits it to its content).

    Args:
        figure: From `draw_panels`.
        rows: Plots from top to bottom, left to right.
        height: Of a plot, in inches.
    """
    across, down = figure.get_size_inches()
    with typography():
        for number, row in enumerate(rows):
            top = down + 0.3 + number * (height + _DOWN)
            width = (across - _LEFT - _BETWEEN * (len(row) - 1)) / len(row)
            for column, plot in enumerate(row):
                left = _LEFT + column * (width + _BETWEEN)
                box = (left / across, 1 - (top + height) / down, width / across, height / down)
                _draw(figure.add_axes(box), plot)


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
    axes.grid(axis="y", color=HAIRLINE, linewidth=0.4, alpha=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2.5)
    if any(line.label for line in plot.lines):
        axes.legend(frameon=False, borderpad=0.1, handlelength=1.6, labelspacing=0.25)
