"""Perturbation curves with their bands: what is left of the answer while patches are filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from attnguide.viz.style import QUIET, SMALL, method_label, method_style, open_axes, typography

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _LINE = 3.5, 2.9, 0.155  # inches: of a panel, and of a line of its key
MAX_BANDS = 4  # of a panel; more hide each other, and the key has the intervals


@dataclass(frozen=True)
class Curve:
    """One method's line: means over images, with the interval of each mean.

    Attributes:
        method: Decides colour, dash and marker.
        fraction: (S,) share of the patches that are filled, in [0, 1].
        mean, low, high: (S,) in percent.
        auc, auc_low, auc_high: area under it with its interval, in percent.
        label: Its name in the key, where the method's own is not enough.
    """

    method: str
    fraction: ArrayLike
    mean: ArrayLike
    low: ArrayLike
    high: ArrayLike
    auc: float
    auc_low: float
    auc_high: float
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

    keys = [_LINE * max(len(panel.curves) for panel in row) for row in rows]
    heights = [_HEIGHT + key for key in keys]
    with typography():
        size = (_WIDTH * len(rows[0]), sum(heights))
        figure = NotebookFigure(figsize=size, layout="constrained")
        grid = figure.subplots(
            len(rows), len(rows[0]), squeeze=False, sharey="row", height_ratios=heights
        )
        for axes, panel in zip(grid.flat, (panel for row in rows for panel in row), strict=True):
            _draw_panel(axes, panel)
    return figure


def _draw_panel(axes: Axes, panel: CurvePanel) -> None:
    for order, curve in enumerate(panel.curves):
        style, at = method_style(curve.method), 100 * np.asarray(curve.fraction)
        axes.plot(
            at, np.asarray(curve.mean), linestyle=style.dash, color=style.colour,
            marker=style.marker, markersize=3.4, markeredgewidth=0.8, linewidth=1.4,
            zorder=10 - order,
        )  # fmt: skip
        if len(panel.curves) <= MAX_BANDS:
            ends = np.asarray(curve.low), np.asarray(curve.high)
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
        f"{curve.auc:5.1f}".replace(" ", "\N{FIGURE SPACE}")
        + f"   [{curve.auc_low:.1f}, {curve.auc_high:.1f}]"
        for curve in curves
    ]
    axes.legend(
        [blank, *axes.lines, *[blank] * (len(curves) + 1)],
        [*names, "area (%), 95 % interval", *areas],
        ncols=2, loc="upper left", bbox_to_anchor=(-0.02, -0.18), frameon=False,
        handlelength=3.4, labelspacing=0.25, columnspacing=0, borderpad=0,
    )  # fmt: skip
