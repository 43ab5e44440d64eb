"""Numbers drawn: dots with intervals, perturbation curves with bands, tables of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnguide.viz.style import (
    HAIRLINE,
    INK,
    QUIET,
    SMALL,
    method_label,
    method_style,
    minus,
    open_axes,
    relevance_colormap,
    typography,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# inches
DOT, DOT_GAP, DOT_WIDTH, DOT_AROUND = 0.19, 0.1, 5.0, 0.75  # a dot, a row, a panel, its axis
CURVE_WIDTH, CURVE_HEIGHT, KEY_LINE = 3.5, 2.9, 0.155  # a panel, and a line of its key
CELL_WIDTH, CELL_HEIGHT = 0.46, 0.21
CELL_NAMES, CELL_HEAD = 2.2, 1.2  # names of rows and the legend, names of columns

COLUMNS = 2  # panels of dots beside each other
MAX_BANDS = 4  # of a panel of curves; more hide each other, and the key has the intervals
MISSING = "#d5d5d5"  # colour of a cell
DARK = 0.6  # beyond this share of the colours the text is white


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
        return sum(DOT * len(dots) + DOT_GAP for _, dots in self.rows)


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
        size = (across * DOT_WIDTH, sum(heights) + DOT_AROUND * len(heights))
        figure = NotebookFigure(figsize=size, layout="constrained")
        grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
        for number, axes in enumerate(grid.flat):
            if number < len(panels):
                _draw_dots(axes, panels[number], heights[number // across])
            else:
                axes.remove()
    return figure


def _draw_dots(axes: Axes, panel: DotPanel, height: float) -> None:
    several = len({dot.method for _, dots in panel.rows for dot in dots}) > 1
    ticks, names, top = [], [], 0.0
    for number, (name, dots) in enumerate(panel.rows):
        bottom = top + DOT * len(dots) + DOT_GAP
        if number % 2:
            axes.axhspan(top, bottom, color=HAIRLINE, alpha=0.16, linewidth=0)
        for line, dot in enumerate(dots):
            y = top + DOT_GAP / 2 + DOT * (line + 0.5)
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


@dataclass(frozen=True)
class Curve:
    """One method's line: means over images, with the interval of each mean.

    Attributes:
        method: Decides colour, dash and marker.
        band: `value`, `ci_low` and `ci_high` in percent, by the share of the patches that are
            filled, in [0, 1].
        area: Area under it and the ends of its interval, in percent.
        label: Its name in the key, where the method's own is not enough.
    """

    method: str
    band: pd.DataFrame
    area: tuple[float, float, float]
    label: str = ""


@dataclass(frozen=True)
class CurvePanel:
    """The curves of one model, order and quantity.

    Attributes:
        title: Above the panel.
        y_label: Quantity and unit.
        higher_is_better: Direction of the arrow.
        curves: From the most to the least important.
    """

    title: str
    y_label: str
    higher_is_better: bool
    curves: Sequence[Curve]


def draw_curves(rows: Sequence[Sequence[CurvePanel]]) -> Figure:
    """A figure of perturbation curves; `render` makes a file of it.

    The panels of a row share their scale, so that the two orders can be compared.

    Args:
        rows: Panels from top to bottom, left to right; as many in each row, each with curves.
    """
    from attnguide.viz.notebook_figure import NotebookFigure

    keys = [KEY_LINE * max(len(panel.curves) for panel in row) for row in rows]
    heights = [CURVE_HEIGHT + key for key in keys]
    with typography():
        size = (CURVE_WIDTH * len(rows[0]), sum(heights))
        figure = NotebookFigure(figsize=size, layout="constrained")
        grid = figure.subplots(
            len(rows), len(rows[0]), squeeze=False, sharey="row", height_ratios=heights
        )
        for axes, panel in zip(grid.flat, (panel for row in rows for panel in row), strict=True):
            _draw_curves(axes, panel)
    return figure


def _draw_curves(axes: Axes, panel: CurvePanel) -> None:
    for order, curve in enumerate(panel.curves):
        style, band, at = method_style(curve.method), curve.band, 100 * curve.band.index
        axes.plot(
            at, band["value"], linestyle=style.dash, color=style.colour,
            marker=style.marker, markersize=3.4, markeredgewidth=0.8, linewidth=1.4,
            zorder=10 - order,
        )  # fmt: skip
        if len(panel.curves) <= MAX_BANDS:
            ends = band["ci_low"], band["ci_high"]
            axes.fill_between(at, *ends, color=style.colour, alpha=0.13, linewidth=0)
    axes.set(xlabel="patches masked (%)", ylabel=panel.y_label)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    open_axes(axes, "y")
    axes.tick_params(labelleft=True)
    better = "\N{DOWNWARDS ARROW} lower is better"
    if panel.higher_is_better:
        better = "\N{UPWARDS ARROW} higher is better"
    axes.set_title(panel.title, loc="left", pad=5)
    axes.set_title(better, loc="right", size=SMALL, color=QUIET, pad=5)
    _draw_key(axes, panel.curves)


def _draw_key(axes: Axes, curves: Sequence[Curve]) -> None:
    """Names and areas beneath the panel, where they hide no curve: two columns of a legend."""
    from matplotlib.lines import Line2D

    blank = Line2D([], [], linestyle="none")
    names = ["", *(curve.label or method_label(curve.method) for curve in curves)]
    areas = [
        f"{value:5.1f}".replace(" ", "\N{FIGURE SPACE}") + f"   [{low:.1f}, {high:.1f}]"
        for value, low, high in (curve.area for curve in curves)
    ]
    axes.legend(
        [blank, *axes.lines, *[blank] * (len(curves) + 1)],
        [*names, "area (%), 95 % interval", *areas],
        ncols=2, loc="upper left", bbox_to_anchor=(-0.02, -0.18), frameon=False,
        handlelength=3.4, labelspacing=0.25, columnspacing=0, borderpad=0,
    )  # fmt: skip


@dataclass(frozen=True)
class HeatPanel:
    """A table of numbers.

    Attributes:
        title: Beneath: what the numbers and their colours are.
        values: Named rows and columns, from -1 to 1; NaN is missing, a grey cell.
        texts: (R, C) what is printed; by default the values.
        legend: What the warmest and the coldest colour mean; by default a bar of numbers.
    """

    title: str
    values: pd.DataFrame
    texts: Sequence[Sequence[str]] | None = None
    legend: tuple[str, str] | tuple[()] = ()


def draw_heat(panels: Sequence[HeatPanel]) -> Figure:
    """The panels one below the other."""
    from attnguide.viz.notebook_figure import NotebookFigure

    heights = [CELL_HEAD + CELL_HEIGHT * len(panel.values) for panel in panels]
    width = CELL_NAMES + CELL_WIDTH * max(panel.values.shape[1] for panel in panels)
    with typography():
        figure = NotebookFigure(figsize=(width, sum(heights)), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw_heat(axes, panel)
    return figure


def _draw_heat(axes: Axes, panel: HeatPanel) -> None:
    from matplotlib.colors import to_hex
    from matplotlib.patches import Patch

    values = panel.values.to_numpy(float)
    texts = panel.texts or [["" if np.isnan(v) else f"{v:.2f}" for v in row] for row in values]
    colours = relevance_colormap().with_extremes(bad=MISSING)
    image = axes.imshow(np.ma.masked_invalid(values), colours, vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, minus(texts[row][column]), ha="center", va="center",
                  size=SMALL - 1, color="white" if abs(value) > DARK else INK)  # fmt: skip
    rows, columns = panel.values.axes
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="left", size=SMALL)
    axes.set_yticks(range(len(rows)), rows, size=SMALL)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(panel.title, color=QUIET)
    if panel.legend:
        shades = (*map(to_hex, colours([1.0, 0.0])), MISSING)
        words = zip((*panel.legend, "missing"), shades, strict=True)
        marks: list[Artist] = [Patch(color=shade, label=word) for word, shade in words]
        axes.legend(
            handles=marks,
            loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=SMALL,
        )  # fmt: skip
        return
    bar = axes.figure.colorbar(image, ax=axes, ticks=[-1, 0, 1], aspect=12)
    bar.outline.set_visible(False)
    bar.set_ticklabels(["\N{MINUS SIGN}1", "0", "1"])
