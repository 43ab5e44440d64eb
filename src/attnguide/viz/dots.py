"""Measured numbers with their intervals, as dots on a line: one row per quantity or setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnguide.errors import InputError
from attnguide.viz.style import (
    HAIRLINE,
    INK,
    QUIET,
    SMALL,
    method_label,
    method_style,
    open_axes,
    typography,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE, _ROW_GAP, _WIDTH = 0.19, 0.1, 2.9  # inches: one dot's line, space between rows, plot width


@dataclass(frozen=True)
class Dot:
    """A mean with its interval.

    Attributes:
        method: Decides colour and marker.
        value, low, high: In the unit of the panel.
        label: Its name at the side, where the method's own is not enough.
    """

    method: str
    value: float
    low: float
    high: float
    label: str = ""


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
    rows, counts = [], []
    for name in measures:
        lines = table[table["measure"] == name].set_index("method").to_dict("index")
        dots = [
            Dot(m, lines[m]["value"], lines[m]["ci_low"], lines[m]["ci_high"])
            for m in methods
            if m in lines
        ]
        counts += [int(line["n"]) for line in lines.values()]
        if dots:
            rows.append((name, dots))
    least, most = min(counts, default=0), max(counts, default=0)
    n = f"n = {least}" + (f" to {most}" if least < most else "")
    return DotPanel(f"{title} ({n})", x_label, rows, **look)


def draw_dots(panels: Sequence[DotPanel], *, columns: int = 2) -> Figure:
    """A figure of dots with 95 % intervals and their numbers; `render` makes a file of it.

    Args:
        panels: From left to right, then down.
        columns: Panels beside each other.

    Raises:
        ValueError: no panel, or one without dots.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from attnguide.viz.sheet import Sheet

    if not panels or any(not any(dots for _, dots in panel.rows) for panel in panels):
        raise InputError("a figure of dots needs panels, and each panel at least one dot")
    bands = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(_height(panel) for panel in band) for band in bands]
    across = min(columns, len(panels))
    with typography():
        size = (across * (_WIDTH + 2.1), sum(heights) + 0.75 * len(bands))
        figure = Sheet(figsize=size)
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
        grid = figure.add_gridspec(len(bands), across, height_ratios=heights)
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(grid[number // columns, number % columns])
            _draw_panel(axes, panel, heights[number // columns])
    return figure


def _height(panel: DotPanel) -> float:
    return sum(_LINE * len(dots) + _ROW_GAP for _, dots in panel.rows)


def _draw_panel(axes: Axes, panel: DotPanel, height: float) -> None:
    methods = {dot.method for _, dots in panel.rows for dot in dots}
    ticks, names, top = [], [], 0.0
    for number, (name, dots) in enumerate(panel.rows):
        bottom = top + _LINE * len(dots) + _ROW_GAP
        if number % 2:
            axes.axhspan(top, bottom, color=HAIRLINE, alpha=0.16, linewidth=0)
        for line, dot in enumerate(dots):
            y = top + _ROW_GAP / 2 + _LINE * (line + 0.5)
            _draw_dot(axes, dot, y)
            ticks.append(y)
            names.append(_name(name if line == 0 else "", dot, several=len(methods) > 1))
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


def _name(row: str, dot: Dot, *, several: bool) -> str:
    own = dot.label or (method_label(dot.method) if several else "")
    return f"{row}   {own}".strip() if row and own and row != own else row or own


def _draw_dot(axes: Axes, dot: Dot, y: float) -> None:
    style = method_style(dot.method)
    axes.plot([dot.low, dot.high], [y, y], color=style.colour, linewidth=1.6, alpha=0.55)
    axes.plot(
        [dot.value], [y], color=style.colour, marker=style.marker, markersize=4.2, clip_on=False
    )
    axes.annotate(
        f"{dot.value:.2f}".replace("-", "\N{MINUS SIGN}"),
        (1.03, y),
        xycoords=axes.get_yaxis_transform(),
        size=SMALL,
        color=QUIET,
        va="center",
        annotation_clip=False,
    )
