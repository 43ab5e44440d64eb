"""Tables of numbers as colours: a row per method, a column per stage or measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from attnguide.viz.style import INK, QUIET, SMALL, minus, relevance_colormap, typography

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL, _ROW = 0.46, 0.21  # inches: width and height of a cell
_NAMES, _HEAD = 2.2, 1.2  # inches: names of rows and the legend, names of columns
_MISSING = "#d5d5d5"
_DARK = 0.6  # beyond this share of the colours the text is white


@dataclass(frozen=True)
class HeatPanel:
    """A table of numbers.

    Attributes:
        title: Beneath: what the numbers and their colours are.
        rows, columns: Their names.
        values: (R, C), from -1 to 1; NaN is missing, a grey cell.
        texts: (R, C) what is printed; by default the values.
        legend: What the warmest and the coldest colour mean; by default a bar of numbers.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: ArrayLike
    texts: Sequence[Sequence[str]] | None = None
    legend: tuple[str, str] | tuple[()] = ()


def draw_heat(panels: Sequence[HeatPanel]) -> Figure:
    """The panels one below the other."""
    from attnguide.viz.notebook_figure import NotebookFigure

    shapes = [np.shape(panel.values) for panel in panels]
    heights = [_HEAD + _ROW * rows for rows, _ in shapes]
    with typography():
        size = (_NAMES + _CELL * max(columns for _, columns in shapes), sum(heights))
        figure = NotebookFigure(figsize=size, layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel)
    return figure


def _draw(axes: Axes, panel: HeatPanel) -> None:
    from matplotlib.colors import to_hex
    from matplotlib.patches import Patch

    values = np.asarray(panel.values, dtype=float)
    texts = panel.texts or [["" if np.isnan(v) else f"{v:.2f}" for v in row] for row in values]
    colours = relevance_colormap().with_extremes(bad=_MISSING)
    image = axes.imshow(np.ma.masked_invalid(values), colours, vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, minus(texts[row][column]), ha="center", va="center",
                  size=SMALL - 1, color="white" if abs(value) > _DARK else INK)  # fmt: skip
    axes.set_xticks(range(values.shape[1]), panel.columns, rotation=40, ha="left", size=SMALL)
    axes.set_yticks(range(values.shape[0]), panel.rows, size=SMALL)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(panel.title, color=QUIET)
    if panel.legend:
        shades = (*map(to_hex, colours([1.0, 0.0])), _MISSING)
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
