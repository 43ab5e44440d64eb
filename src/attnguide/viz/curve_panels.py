"""Perturbation curves with their bands: what is left of the answer while patches are filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from attnguide.errors import InputError
from attnguide.viz.style import (
    BODY,
    QUIET,
    SMALL,
    method_label,
    method_style,
    open_axes,
    typography,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_PLOT, _LINE = 2.6, 0.155  # inches: height of a plot, of a line of its key


@dataclass(frozen=True)
class Curve:
    """One method's line: means over images, with the interval of each mean.

    Attributes:
        method: Decides colour, dash and marker.
        fraction: (S,) share of the patches that are filled, in [0, 1].
        mean, low, high: (S,) in percent.
        auc, auc_low, auc_high: area under it with its interval, in percent.
        label: Its name in the legend, where the method's own is not enough.
        faint: Draw it thin and pale, as a control beside the others.
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
    faint: bool = False


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


def draw_curves(
    rows: Sequence[Sequence[CurvePanel]],
    *,
    title: str = "",
    x_label: str = "patches masked (%)",
) -> Figure:
    """A figure of perturbation curves; `render` makes a file of it.

    The panels of a row share their scale, so that the two orders can be compared.

    Args:
        rows: Panels from top to bottom, left to right.
        title: Above everything.
        x_label: What the fraction counts.

    Raises:
        ValueError: no panel, or a panel without curves.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from attnguide.viz.sheet import Sheet

    if not rows or any(not row or any(not panel.curves for panel in row) for row in rows):
        raise InputError("a figure of curves needs panels, and each panel at least one curve")
    columns = max(len(row) for row in rows)
    heights = [part for row in rows for part in (_PLOT, _key_height(row))]
    with typography():
        figure = Sheet(figsize=(3.5 * columns, sum(heights)))
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.03))
        grid = figure.add_gridspec(2 * len(rows), columns, height_ratios=heights)
        for number, row in enumerate(rows):
            ceiling = _ceiling(row)
            for column, panel in enumerate(row):
                plot = figure.add_subplot(grid[2 * number, column])
                _draw_panel(plot, panel, ceiling, x_label)
                _draw_key(figure.add_subplot(grid[2 * number + 1, column]), panel, _key_height(row))
        if title:
            figure.suptitle(title, size=BODY + 2, weight="bold")
    return figure


def _key_height(row: Sequence[CurvePanel]) -> float:
    """Inches that the names and areas beneath the panels of a row take."""
    return _LINE * (1.6 + max(len(panel.curves) for panel in row))


def _ceiling(row: Sequence[CurvePanel]) -> float:
    """Upper end of the y axis, in percent: the next multiple of 10 above every band."""
    top = max(float(np.max(curve.high)) for panel in row for curve in panel.curves)
    return float(np.ceil(max(top, 1.0) * 1.04 / 10) * 10)


def _draw_panel(axes: Axes, panel: CurvePanel, ceiling: float, x_label: str) -> None:
    for order, curve in enumerate(panel.curves):
        _draw_curve(axes, curve, 10 - order)
    axes.set_title(panel.title, loc="left", pad=5)
    axes.set(xlabel=x_label, ylabel=panel.y_label, ylim=(0, ceiling))
    axes.margins(x=0.02)
    open_axes(axes, "y")
    better = "\N{DOWNWARDS ARROW} lower is better"
    if panel.higher_is_better:
        better = "\N{UPWARDS ARROW} higher is better"
    axes.set_title(better, loc="right", size=SMALL, color=QUIET, pad=5)


def _draw_key(axes: Axes, panel: CurvePanel, height: float) -> None:
    """Names and areas as a small table of `height` inches, where they hide no curve."""
    axes.set(xlim=(0, 1), ylim=(height / _LINE, 0))
    axes.set_axis_off()
    axes.text(0.72, 0.5, "area (%)", size=SMALL, color=QUIET, ha="right", va="center")
    axes.text(0.76, 0.5, "95 % interval", size=SMALL, color=QUIET, va="center")
    for number, curve in enumerate(panel.curves):
        y = number + 1.5
        axes.plot([0.005, 0.06, 0.115], [y, y, y], markevery=[1], **_line(curve))
        texts = (
            (0.15, curve.label or method_label(curve.method), "left"),
            (0.72, f"{curve.auc:.1f}", "right"),
            (0.76, f"[{curve.auc_low:.1f}, {curve.auc_high:.1f}]", "left"),
        )
        for x, text, side in texts:
            axes.text(x, y, text, size=SMALL, ha=side, va="center", parse_math=False)


def _draw_curve(axes: Axes, curve: Curve, zorder: int) -> None:
    at = 100 * np.asarray(curve.fraction)
    look = _line(curve)
    axes.plot(at, np.asarray(curve.mean), zorder=zorder, **look)
    axes.fill_between(
        at,
        np.asarray(curve.low),
        np.asarray(curve.high),
        color=look["color"],
        alpha=0.13 * look["alpha"],
        linewidth=0,
        zorder=zorder - 0.5,
    )


def _line(curve: Curve) -> dict[str, Any]:
    """How the line of a curve looks, in its panel and in the key."""
    style = method_style(curve.method)
    return {
        "color": style.colour,
        "linestyle": style.dash,
        "marker": style.marker,
        "markersize": 2.6 if curve.faint else 3.4,
        "markeredgewidth": 0.8,
        "linewidth": 0.9 if curve.faint else 1.4,
        "alpha": 0.55 if curve.faint else 1.0,
    }
