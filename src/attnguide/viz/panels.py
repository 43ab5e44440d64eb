"""Rows and columns of pictures with relevance, as a paper prints them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, zip_longest
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnguide.errors import InputError
from attnguide.viz.overlay import MAP_WEIGHT, as_picture, overlay
from attnguide.viz.style import (
    BODY,
    HAIRLINE,
    INK,
    QUIET,
    SMALL,
    figure_settings,
    minus,
    relevance_colormap,
    typography,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RED_FRAME = "#c4262e"
TEXT_GAP = 3.0  # points between a picture and its text
# inches
BAR, SIDE, GAP = 0.6, 0.25, 0.07  # of the colour bar with its numbers, of titles of rows, of a gap
LEAST = 0.8  # that a panel is wide where the width of the figure is given
PLOT_WIDTH, PLOT_HEIGHT = 1.7, 1.75  # that a plot beneath takes at least, with title and axis


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Attributes:
        image: PIL picture, (H, W, 3) array, or (3, H, W) tensor in [0, 1].
        relevance: (rows, cols) raw map to lay over it, or None for the picture alone.
        title: Line above.
        note: Numbers beneath; several lines are separated by line breaks.
        frame: Colour of a frame around it, such as `RED_FRAME`.
        weight: Share of the map, in [0, 1]; 1 for the map alone.
        grey, cmap: As `overlay` takes them.
    """

    image: Any
    relevance: Any = None
    title: str = ""
    note: str = ""
    frame: str | None = None
    weight: float = MAP_WEIGHT
    grey: bool | None = None
    cmap: str | None = None

    @property
    def pixels(self) -> NDArray[np.float32]:
        """(H, W, 3) in [0, 1], as it is shown."""
        if self.relevance is None:
            return as_picture(self.image)
        look: Any = {"weight": self.weight, "grey": self.grey, "cmap": self.cmap}
        return overlay(self.image, self.relevance, **look)


def draw_panels(
    rows: Sequence[Sequence[Panel | None]],
    *,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    title: str = "",
    panel_width: float = 1.45,
    letters: bool = False,
    below: Sequence[Sequence[Callable[[Axes], None]]] = (),
) -> Figure:
    """A figure of panels; `render` makes a file of it.

    Text is wrapped to the panel it belongs to. The colour bar appears where a map is shown. Where
    panels are too many for the width of `FigureSettings`, columns follow below each other.

    Args:
        rows: Panels from top to bottom, left to right; None leaves a place empty.
        column_titles: One per column, or none.
        row_titles: One per row, or none; set along the row's height.
        title: Above everything.
        panel_width: Inches.
        letters: Put (a), (b), ... before the titles of the columns, as a paper does.
        below: Rows of plots beneath the panels, over their whole width: each draws into its axes.

    Raises:
        ValueError: no panel at all, or titles that do not match rows and columns.
    """
    from attnguide.viz.notebook_figure import NotebookFigure

    columns = max((len(row) for row in rows), default=0)
    panels = [panel for row in rows for panel in row if panel is not None]
    if not panels:
        raise InputError("a figure needs at least one panel, got none")
    for kind, titles, count in (("row", row_titles, len(rows)), ("column", column_titles, columns)):
        if len(titles) not in (0, count):
            raise InputError(f"expected {count} {kind} titles, or none, got {len(titles)}")
    if letters:
        column_titles = [f"({a}) {t}" for a, t in zip(ascii_lowercase, column_titles, strict=False)]
    maps = [panel for panel in panels if panel.relevance is not None]
    side = (BAR if maps else 0) + (SIDE if row_titles else 0)
    bands = -(-columns // fitting(columns, side))
    columns = -(-columns // bands)
    if whole := figure_settings().width:
        panel_width = (whole - side) / columns - GAP
    rows, bands = _folded(rows, columns, bands, is_flow=not (column_titles or row_titles))
    height, width = as_picture(panels[0].image).shape[:2]
    box = panel_width, panel_width * min(height / width, 2.0)
    lines = sum(_lines(row, panel_width) for row in rows)
    across = whole or columns * (box[0] + GAP) + side
    down = len(rows) * (box[1] + 0.12) + lines * SMALL * 1.3 / 72 + 0.3 * bands
    beside = max(1, min(len(below[0]), int(across // PLOT_WIDTH))) if below else 1
    plots = PLOT_HEIGHT * -(-sum(map(len, below)) // beside)
    with typography():
        figure = NotebookFigure(figsize=(across, down + plots), layout="compressed")
        part = _draw_beneath(figure, [*chain(*below)], beside, (down, plots)) if below else figure
        if title:
            words = "\n".join(wrap(title, max(across - BAR, 2.5), BODY + 2))
            part.suptitle(words, size=BODY + 2, weight="bold", parse_math=False)
        grid = part.subplots(len(rows), columns, squeeze=False)
        names = [*row_titles] * bands or [""] * len(rows)
        for axes, row, titled in zip(grid, rows, names, strict=True):
            _draw_row(axes, row, titled, box)
        for band, top in enumerate(grid[:: len(rows) // bands]):
            _column_titles(top, column_titles[band * columns :], panel_width)
        if maps:
            _colour_bar(part, grid, maps[0].cmap)
    return figure


def fitting(columns: int, side: float = BAR + SIDE) -> int:
    """How many of the panels fit beside each other, where the figure's width is given.

    Args:
        columns: At most; all where no width is given.
        side: Inches that others take.
    """
    width = figure_settings().width
    fit = columns if width is None else int((width - side) // (LEAST + GAP))
    return max(1, min(columns, fit))


def _draw_beneath(
    figure: Any, plots: Sequence[Callable[[Axes], None]], columns: int, heights: tuple[float, float]
) -> Any:
    """Draw the plots, and give the part of the figure above them."""
    above, lower = figure.subfigures(2, 1, height_ratios=heights)
    grid = lower.subplots(-(-len(plots) // columns), columns, squeeze=False)
    for draw, axes in zip(plots, grid.flat, strict=True):
        draw(axes)
    return above


def _folded(
    rows: Sequence[Sequence[Panel | None]], columns: int, bands: int, *, is_flow: bool
) -> tuple[list[Sequence[Panel | None]], int]:
    """Rows of at most so many columns, and in how many bands: the first columns of all, the next.

    Panels that no titles order flow on instead, in one band.
    """
    if is_flow and bands > 1:
        every = list(chain(*rows))
        return [every[n : n + columns] for n in range(0, len(every), columns)], 1
    starts = range(0, columns * bands, columns)
    return [row[start : start + columns] for start in starts for row in rows], bands


def short_name(class_name: str) -> str:
    """The first of a class's comma-separated synonyms: "tench, Tinca tinca" is "tench"."""
    return class_name.split(",")[0].strip()


def wrap(text: str, width: float, size: float) -> list[str]:
    """Lines of at most `width` inches at `size` points, broken at spaces where possible.

    Only a word that is longer than a line is broken within, and a number with a sign stays with
    the word before it. Line breaks in the text are kept.
    """
    lines: list[str] = []
    for paragraph in re.sub(r" (?=[+\N{MINUS SIGN}]\d)", "\N{NO-BREAK SPACE}", text).splitlines():
        # Letters differ in width: take one letter less per line until the widest line fits.
        for letters in range(len(paragraph), 0, -1):
            fitted = textwrap.wrap(paragraph, letters, break_on_hyphens=False)
            if max((_text_width(line, size) for line in fitted), default=0.0) <= width:
                break
        lines += fitted if paragraph else [""]
    return lines


@lru_cache(maxsize=4096)  # frames and rows repeat their words
def _text_width(text: str, size: float) -> float:
    """Inches that a line of text takes."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def _lines(row: Sequence[Panel | None], width: float) -> int:
    """Lines of text above and beneath the pictures of a row."""
    words = [(panel.title, panel.note) for panel in row if panel is not None]
    return sum(
        max(len(wrap(text, width, SMALL)) for text in texts) for texts in zip(*words, strict=True)
    )


def _draw_row(
    grid: Sequence[Axes], panels: Sequence[Panel | None], title: str, box: tuple[float, float]
) -> None:
    """Pictures with their text, each in a `box` of width and height in inches."""
    width, height = box
    for axes, panel in zip_longest(grid, panels):
        if panel is None:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_aspect(height / width, adjustable="box")
        else:
            draw_panel(axes, panel, width)
    words = "\n".join(wrap(title, height, BODY))
    grid[0].set_ylabel(words, size=BODY, color=INK, labelpad=TEXT_GAP, parse_math=False)


def draw_panel(axes: Axes, panel: Panel, width: float = 3.0) -> None:
    """A picture with its text, in axes that are `width` inches wide."""
    shown = panel.pixels
    axes.imshow(shown, interpolation="lanczos" if shown.shape[1] < 200 else "antialiased")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=panel.frame or HAIRLINE, linewidth=1.8 if panel.frame else 0.5)
    above, beneath = ("\n".join(wrap(t, width, SMALL)) for t in (panel.title, panel.note))
    axes.set_title(above, size=SMALL, pad=TEXT_GAP, parse_math=False)
    look: Any = {"size": SMALL, "color": QUIET, "labelpad": TEXT_GAP, "parse_math": False}
    axes.set_xlabel(minus(beneath), **look)


def _column_titles(top: Sequence[Axes], titles: Sequence[str], width: float) -> None:
    """Above the titles of the first row, all at one height."""
    lines = max(len(axes.get_title().splitlines()) for axes in top)
    for axes, title in zip(top, titles, strict=False):
        axes.annotate(
            "\n".join(wrap(title, width, BODY)),
            (0.5, 1.0),
            (0, 2 * TEXT_GAP + 1.25 * SMALL * lines),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            size=BODY,
            parse_math=False,
        )


def _colour_bar(figure: Any, grid: Any, cmap: str | None) -> None:
    """The scale of every map, at the right of the last one of the first row that has it."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-1, 1), relevance_colormap(cmap))
    last = next(axes for axes in grid.T[::-1].flat if axes.images)
    place = last.inset_axes((1.09, 0.0, 0.06, 1.0))
    bar = figure.colorbar(scale, cax=place, ticks=[-1, 0, 1])
    bar.ax.set_yticklabels(["\N{MINUS SIGN}1", "0", "1"])
    bar.ax.tick_params(length=2, pad=2)
    bar.outline.set_linewidth(0.5)
    bar.set_label(r"$S\,/\,\max|S|$", size=SMALL, labelpad=3)
