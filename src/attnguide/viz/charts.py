"""Numbers drawn: dots with intervals, perturbation curves with bands, tables of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from attnguide.viz.panels import wrap
from attnguide.viz.style import (
    BODY,
    HAIRLINE,
    INK,
    QUIET,
    SMALL,
    figure_settings,
    method_label,
    method_style,
    minus,
    open_axes,
    relevance_colormap,
    typography,
    without_wnid,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# inches
DOT, DOT_GAP, DOT_WIDTH, DOT_AROUND = 0.19, 0.1, 5.0, 0.75  # a dot, a row, a panel, its axis
LEAST_DOTS, LEAST_CURVES, LOW_CURVES = 3.0, 2.5, 1.8  # of a panel where the width is given
CURVE_WIDTH, CURVE_HEIGHT, KEY_LINE = 3.5, 2.9, 0.155  # a panel, and a line of its key
NAME_HEIGHT, NAMES = 0.12, 0.8  # a name at the end of a curve; what is no curve in a panel
KEY_GAP = 0.4  # between a panel and its key
CELL_WIDTH, CELL_HEIGHT = 0.46, 0.21
CELL_NAMES, CELL_HEAD = 2.2, 1.2  # names of rows and the legend, names of columns

NAME_SHARE = 0.4  # of the width of a panel of dots
COLUMNS = 2  # panels of dots beside each other
MAX_BANDS = 4  # of a panel of curves; more hide each other: lines have names at their ends
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
        (without_wnid(name), [Dot(m, *lines[name, m]) for m in methods if (name, m) in lines])
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
    width = across * DOT_WIDTH
    if whole := figure_settings().width:
        width, across = whole, max(1, min(across, int(whole // LEAST_DOTS)))
    bands = [panels[start : start + across] for start in range(0, len(panels), across)]
    heights = [max(panel.height for panel in band) for band in bands]
    with typography():
        size = width, sum(heights) + DOT_AROUND * len(heights)
        figure = NotebookFigure(figsize=size, layout="constrained")
        grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
        for number, (axes, panel) in enumerate(zip_longest(grid.flat, panels)):
            if panel is None:
                axes.remove()
            else:
                _draw_dots(axes, panel, width / across)
                axes.set_ylim(heights[number // across], 0)
    return figure


def _draw_dots(axes: Axes, panel: DotPanel, width: float) -> None:
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
            text = "   ".join(filter(None, dict.fromkeys(["" if line else name, method])))
            ticks.append(y)
            names.append("\n".join(wrap(text, NAME_SHARE * width, SMALL)))
        top = bottom
    if panel.chance is not None:
        axes.axvline(panel.chance, color=QUIET, linewidth=0.7, dashes=(3, 2), zorder=1)
    axes.set(xlim=panel.limits, xlabel=panel.x_label)
    axes.set_yticks(ticks, names)
    title = "\n".join(wrap(panel.title, (1 - NAME_SHARE) * width, BODY + 1))
    axes.set_title(title, loc="left", pad=5, in_layout=False)
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

    The panels of a row share their scale, so that the two orders can be compared. Where the width
    of `FigureSettings` is too small for them, they stand below each other.

    Args:
        rows: Panels from top to bottom, left to right; as many in each row, each with curves.
    """
    from attnguide.viz.notebook_figure import NotebookFigure

    most = max(len(panel.curves) for row in rows for panel in row)
    across, plot, names = len(rows[0]), CURVE_HEIGHT, NAMES if most > MAX_BANDS else 0
    width = figure_settings().width or across * (CURVE_WIDTH + names)
    if width < across * LEAST_CURVES:
        across, plot = 1, LOW_CURVES
    if names:
        plot = max(plot, NAME_HEIGHT * most + NAMES)
    count = sum(map(len, rows)) // across
    with typography():
        size = width, count * (plot + KEY_LINE * most)
        figure = NotebookFigure(figsize=size, layout="constrained")
        grid = figure.subplots(count, across, squeeze=False).reshape(len(rows), -1)
        for row, panels in zip(grid, rows, strict=True):
            for axes, panel in zip(row, panels, strict=True):
                axes.sharey(row[0])
                _draw_curves(axes, panel)
            for axes, panel in zip(row, panels, strict=True):
                if names:
                    _name_ends(axes, panel.curves, NAME_HEIGHT / (plot - NAMES))
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
    if len(panel.curves) > MAX_BANDS:  # the names leave less room
        better = f"{better[0]} better"
    axes.set_title(panel.title, loc="left", pad=5)
    axes.set_title(better, loc="right", size=SMALL, color=QUIET, pad=5)
    _draw_key(axes, panel.curves)


def _name_ends(axes: Axes, curves: Sequence[Curve], step: float) -> None:
    """Names at the right ends of the curves, `step` of the height apart at least."""
    curves = sorted(curves, key=lambda curve: float(curve.band["value"].iloc[-1]))
    low, high = axes.get_ylim()
    values = np.array([curve.band["value"].iloc[-1] for curve in curves])
    steps = step * np.arange(len(curves))
    places = np.maximum.accumulate((values - low) / (high - low) - steps) + steps
    places = np.minimum(places, 1 - steps[::-1])
    for place, value, curve in zip(places, values, curves, strict=True):
        colour = method_style(curve.method).colour
        axes.annotate(
            _name(curve), (100 * curve.band.index[-1], value), (1.06, place),
            textcoords="axes fraction", va="center", size=SMALL, color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "relpos": (0, 0.5)},
        )  # fmt: skip


def _name(curve: Curve) -> str:
    return curve.label or method_label(curve.method)


def _draw_key(axes: Axes, curves: Sequence[Curve]) -> None:
    """Names and areas beneath the panel, where they hide no curve: two columns of a legend."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    below = ScaledTranslation(0, -KEY_GAP, axes.figure.dpi_scale_trans)
    blank = Line2D([], [], linestyle="none")
    areas = [
        f"{value:5.1f}".replace(" ", "\N{FIGURE SPACE}") + f"   [{low:.1f}, {high:.1f}]"
        for value, low, high in (curve.area for curve in curves)
    ]
    axes.legend(
        [blank, *axes.lines, *[blank] * (len(curves) + 1)],
        ["", *map(_name, curves), "area (%), 95 % interval", *areas],
        ncols=2, loc="upper left", bbox_to_anchor=(-0.02, 0), frameon=False,
        bbox_transform=axes.transAxes + below,
        handlelength=3.4, labelspacing=0.25, columnspacing=0, borderpad=0,
    )  # fmt: skip


@dataclass(frozen=True)
class HeatPanel:
    """A table of numbers.

    Attributes:
        title: Beneath: what the numbers and their colours are.
        values: Named rows and columns, from -1 to 1; NaN is missing, a grey cell.
        texts: (R, C) what is printed; by default the values.
        legend: What the warmest and the coldest colour mean.
    """

    title: str
    values: pd.DataFrame
    texts: Sequence[Sequence[str]] | None = None
    legend: tuple[str, str] = ("1, alike", "\N{MINUS SIGN}1, opposite")


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
    texts = panel.texts or [["" if np.isnan(v) else f"{v:z.2f}" for v in row] for row in values]
    colours = relevance_colormap().with_extremes(bad=MISSING)
    axes.imshow(np.ma.masked_invalid(values), colours, vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, minus(texts[row][column]), ha="center", va="center",
                  size=SMALL - 1, color="white" if abs(value) > DARK else INK)  # fmt: skip
    rows, columns = panel.values.axes
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="left", size=SMALL)
    axes.set_yticks(range(len(rows)), rows, size=SMALL)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    shades = (*map(to_hex, colours([1.0, 0.0])), MISSING)
    words = list(zip((*panel.legend, "missing"), shades, strict=True))
    marks: list[Artist] = [Patch(color=shade, label=word) for word, shade in words]
    axes.legend(
        handles=marks[: 3 if np.isnan(values).any() else 2], title=panel.title or None,
        loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=SMALL,
    )  # fmt: skip
