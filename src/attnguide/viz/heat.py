"""Tables of numbers as colours: a row per method, a column per stage or measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from attnguide.errors import InputError
from attnguide.viz.style import INK, QUIET, SMALL, relevance_colormap, typography

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL, _ROW = 0.46, 0.21  # inches: width and height of a cell
_NAMES, _HEAD = 1.7, 1.2  # inches: room for the names of rows and columns
_MISSING = "#d5d5d5"
_DARK = 0.6  # beyond this share of the colours the text is white


@dataclass(frozen=True)
class HeatPanel:
    """A table of numbers.

    Attributes:
        title: Above.
        rows, columns: Their names.
        values: (R, C); NaN is missing, a grey cell.
        texts: (R, C) what is printed; by default the values.
        limits: Values of the coldest and the warmest colour.
        legend: What the warmest and the coldest colour mean; no legend if it is empty.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: ArrayLike
    texts: Sequence[Sequence[str]] | None = None
    limits: tuple[float, float] = (-1.0, 1.0)
    legend: tuple[str, str] | tuple[()] = ()


def draw_heat(panels: Sequence[HeatPanel]) -> Figure:
    """The panels one below the other.

    Raises:
        ValueError: no panel, or numbers that do not fit the names.
    """
    from attnguide.viz.sheet import Sheet

    shapes = [np.shape(panel.values) for panel in panels]
    if not panels or any(
        shape != (len(panel.rows), len(panel.columns)) or 0 in shape
        for panel, shape in zip(panels, shapes, strict=True)
    ):
        raise InputError("a table of colours needs as many numbers as rows times columns")
    columns = max(shape[1] for shape in shapes)
    heights = [_HEAD + _ROW * shape[0] for shape in shapes]
    with typography():
        size = (_NAMES + _CELL * columns, sum(heights))
        figure = Sheet(figsize=size, layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel)
    return figure


def _draw(axes: Axes, panel: HeatPanel) -> None:
    from matplotlib.patches import Patch

    values = np.asarray(panel.values, dtype=float)
    low, high = panel.limits
    colours = relevance_colormap().with_extremes(bad=_MISSING)
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) or panel.texts:
            text = panel.texts[row][column] if panel.texts else f"{value:.2f}"
            strength = abs(2 * (value - low) / (high - low) - 1) if np.isfinite(value) else 0.0
            axes.text(column, row, text.replace("-", "\N{MINUS SIGN}"), ha="center", va="center",
                      size=SMALL - 1, color="white" if strength > _DARK else INK)  # fmt: skip
    axes.set_xticks(range(values.shape[1]), panel.columns, rotation=40, ha="left", size=SMALL)
    axes.set_yticks(range(values.shape[0]), panel.rows, size=SMALL)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(panel.title, color=QUIET)
    if panel.legend:
        words = zip((*panel.legend, "missing"), (colours(1.0), colours(0.0), _MISSING), strict=True)
        axes.legend(
            handles=[Patch(color=colour, label=word) for word, colour in words],
            loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=SMALL,
        )  # fmt: skip
