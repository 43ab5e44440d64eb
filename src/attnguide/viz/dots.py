"""Measured numbers with their intervals, as dots on a line: one row per quantity or setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnguide.viz.style import (
    HAIRLINE,
    INK,
    QUIET,
    SMALL,
    method_label,
    method_style,
    minus,
    open_axes,
    typography,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE, _GAP, _WIDTH, _AROUND = 0.19, 0.1, 5.0, 0.75  # inches: of a dot, a row, a panel, its axis
COLUMNS = 2  # panels beside each other


@dataclass(frozen=True)
class Dot:
    """A mean with its interval.

    Attributes:
        method: Decides colour, marker and name.
        value, low, high: In the unit of the panel.
    """

    method: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class DotPanel:
    """Rows of dots over one axis.

    Attributes:
        title: Above.
        x_label: Quantity and unit.
        rows: Name and dots of each row, from top to bottom.
        limits: Ends of the axis.
        chance: Where a map without knowledge would be: a dashed line; None for none.
    """

    title: str
    x_label: str
    rows: Sequence[tuple[str, Sequence[Dot]]]
    limits: tuple[float, float] = (0.0, 1.0)
    chance: float | None = None

    @property
    def height(self) -> float:
        """Inches of its rows."""
        return sum(_LINE * len(dots) + _GAP for _, dots in self.rows)


def table_panel(
    table: pd.DataFrame,
    measures: Sequence[str],
    methods: Sequence[str],
    title: str,
    x_label: str,
    **look: Any,
) -> DotPanel:
    """A row per measure, in it a dot per method, from a table of `summarise`.

    Args:
        table: Lines of one model, with `method`, `measure`, `value`, `ci_low`, `ci_high`, `n`.
        measures, methods: Which lines, in order; those that are missing are left out.
        title: Above; the number of images follows it.
        x_label, look: Of the panel.
    """
    table = table[table["measure"].isin(measures)]
    lines = table.set_index(["measure", "method"])[["value", "ci_low", "ci_high"]].T.to_dict("list")
    rows = [
        (name, [Dot(m, *lines[name, m]) for m in methods if (name, m) in lines])
        for name in measures
        if any((name, m) in lines for m in methods)
    ]
    counts = sorted({int(n) for n in table["n"]}) or [0]
    n = f"n = {counts[0]}" + (f" to {counts[-1]}" if counts[1:] else "")
    return DotPanel(f"{title} ({n})", x_label, rows, **look)


def draw_dots(panels: Sequence[DotPanel]) -> Figure:
    """A figure of dots with 95 % intervals and their numbers; `render` makes a file of it.

    Args:
        panels: From left to right, then down; each with dots.
    """
    from attnguide.viz.notebook_figure import NotebookFigure

    across = min(COLUMNS, len(panels))
    bands = [panels[start : start + across] for start in range(0, len(panels), across)]
    heights = [max(panel.height for panel in band) for band in bands]
    with typography():
        size = (across * _WIDTH, sum(heights) + _AROUND * len(heights))
        figure = NotebookFigure(figsize=size, layout="constrained")
        grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
        for number, axes in enumerate(grid.flat):
            if number < len(panels):
                _draw_panel(axes, panels[number], heights[number // across])
            else:
                axes.remove()
    return figure


def _draw_panel(axes: Axes, panel: DotPanel, height: float) -> None:
    several = len({dot.method for _, dots in panel.rows for dot in dots}) > 1
    ticks, names, top = [], [], 0.0
    for number, (name, dots) in enumerate(panel.rows):
        bottom = top + _LINE * len(dots) + _GAP
        if number % 2:
            axes.axhspan(top, bottom, color=HAIRLINE, alpha=0.16, linewidth=0)
        for line, dot in enumerate(dots):
            y = top + _GAP / 2 + _LINE * (line + 0.5)
            _draw_dot(axes, dot, y)
            method = method_label(dot.method) if several else ""
            ticks.append(y)
            names.append("   ".join(filter(None, dict.fromkeys(["" if line else name, method]))))
        top = bottom
    if panel.chance is not None:
        axes.axvline(panel.chance, color=QUIET, linewidth=0.7, dashes=(3, 2), zorder=1)
    axes.set(xlim=panel.limits, ylim=(max(top, height), 0), xlabel=panel.x_label)
    axes.set_yticks(ticks, names)
    axes.set_title(panel.title, loc="left", pad=5)
    axes.locator_params(axis="x", nbins=4)
    open_axes(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def _draw_dot(axes: Axes, dot: Dot, y: float) -> None:
    """The dot over its interval, and its number at the right."""
    style = method_style(dot.method)
    axes.plot([dot.low, dot.high], [y, y], color=style.colour, linewidth=1.6, alpha=0.55)
    axes.plot(dot.value, y, style.marker, color=style.colour, markersize=4.2, clip_on=False)
    axes.text(1.03, y, minus(f"{dot.value:.2f}"), transform=axes.get_yaxis_transform(),
              size=SMALL, color=QUIET, va="center")  # fmt: skip
