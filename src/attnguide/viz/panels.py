"""Rows and columns of pictures with relevance, as a paper prints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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
    relevance_colormap,
    typography,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RED_FRAME = "#c4262e"
_POINT = 1 / 72  # inch
_LEADING = 1.25  # line distance over type size
_GAP, _ROW_GAP = 0.07, 0.1  # inch between panels
_TEXT_GAP = 0.05  # inch between text and panel
_BAR_GAP, _BAR_WIDTH, _BAR_TEXT = 0.14, 0.09, 0.36  # inch


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
        grey: Take the colours out of the picture beneath the map.
    """

    image: Any
    relevance: Any = None
    title: str = ""
    note: str = ""
    frame: str | None = None
    weight: float = MAP_WEIGHT
    grey: bool = False

    @property
    def pixels(self) -> NDArray[np.float32]:
        """(H, W, 3) in [0, 1], as it is shown."""
        if self.relevance is None:
            return as_picture(self.image)
        return overlay(self.image, self.relevance, weight=self.weight, grey=self.grey)


def draw_panels(
    rows: Sequence[Sequence[Panel | None]],
    *,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    title: str = "",
    panel_width: float = 1.45,
    colour_bar: bool = True,
    letters: bool = False,
) -> Figure:
    """A figure of panels; `render` makes a file of it.

    Text is wrapped to the panel it belongs to. The colour bar appears where a map is shown.

    Args:
        rows: Panels from top to bottom, left to right; None leaves a place empty.
        column_titles: One per column, or none.
        row_titles: One per row, or none; set along the row's height.
        title: Above everything.
        panel_width: Inches.
        colour_bar: Draw the scale at the right.
        letters: Put (a), (b), ... before the titles of the columns, as a paper does.

    Raises:
        ValueError: no panel at all, or titles that do not match rows and columns, or letters
            without titles.
    """
    columns = max((len(row) for row in rows), default=0)
    panels = [panel for row in rows for panel in row if panel is not None]
    if not panels:
        raise InputError("a figure needs at least one panel, got none")
    _check_titles("row", row_titles, len(rows))
    _check_titles("column", column_titles, columns)
    if letters:
        if not column_titles:
            raise InputError("letters stand before column titles; pass column_titles=[...]")
        column_titles = [
            f"({a}) {text}" for a, text in zip(ascii_lowercase, column_titles, strict=False)
        ]
    with typography():
        page = _Page(rows, columns, column_titles, row_titles, title, panel_width)
        figure = page.draw()
        if colour_bar and any(panel.relevance is not None for panel in panels):
            page.draw_colour_bar(figure)
    return figure


def short_name(class_name: str) -> str:
    """The first of a class's comma-separated synonyms: "tench, Tinca tinca" is "tench"."""
    return class_name.split(",")[0].strip()


def wrap(text: str, width: float, size: float) -> list[str]:
    """Lines of at most `width` inches at `size` points, broken at spaces where possible.

    Only a word that is longer than a line is broken within. Line breaks in the text are kept.
    """
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and _text_width(longer, size) > width:
                lines.append(line)
                longer = word
            while _text_width(longer, size) > width and len(longer) > 1:
                fits = [n for n in range(1, len(longer)) if _text_width(longer[:n], size) <= width]
                cut = max(fits, default=1)
                lines.append(longer[:cut])
                longer = longer[cut:]
            line = longer
        lines.append(line)
    return lines


@lru_cache(maxsize=4096)  # frames and rows repeat their words
def _text_width(text: str, size: float) -> float:
    """Inches that a line of text takes."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family="DejaVu Sans", size=size)
    width, _, _ = _ruler().get_text_width_height_descent(text, font, ismath=False)
    return float(width) * _POINT


@lru_cache(maxsize=1)
def _ruler() -> Any:
    from matplotlib.backends import backend_agg

    agg: Any = backend_agg  # matplotlib leaves it without types
    return agg.RendererAgg(1, 1, 72)


def _check_titles(kind: str, titles: Sequence[str], count: int) -> None:
    if len(titles) not in (0, count):
        raise InputError(f"expected {count} {kind} titles, or none, got {len(titles)}")


class _Page:
    """Where everything of a figure of panels stands, in inches from the top left."""

    def __init__(
        self,
        rows: Sequence[Sequence[Panel | None]],
        columns: int,
        column_titles: Sequence[str],
        row_titles: Sequence[str],
        title: str,
        panel_width: float,
    ) -> None:
        self.rows, self.width = rows, panel_width
        first = next(panel for row in rows for panel in row if panel is not None)
        height, width = as_picture(first.image).shape[:2]
        self.height = panel_width * min(height / width, 2.0)
        self.titles = [[wrap(p.title if p else "", panel_width, SMALL) for p in r] for r in rows]
        self.notes = [[wrap(p.note if p else "", panel_width, SMALL) for p in r] for r in rows]
        self.column_titles = [wrap(text, panel_width, BODY) for text in column_titles]
        self.row_titles = [wrap(text, self.height, BODY) for text in row_titles]
        body = columns * panel_width + (columns - 1) * _GAP
        self.title = wrap(title, max(body, 2.5), BODY + 2)
        self.left = _block(self.row_titles, BODY)
        self.right = self.left + body
        top = (
            _block([self.title], BODY + 2)
            + (_TEXT_GAP if title else 0)
            + _block(self.column_titles, BODY)
        )
        self.tops: list[float] = []  # upper edge of the pictures of each row
        for titles, notes in zip(self.titles, self.notes, strict=True):
            top += _block(titles, SMALL)
            self.tops.append(top)
            top += self.height + _block(notes, SMALL) + _ROW_GAP
        self.bottom = top - _ROW_GAP

    def draw(self) -> Figure:
        from attnguide.viz.sheet import Sheet

        figure = Sheet(figsize=(self.right + _BAR_GAP + _BAR_WIDTH + _BAR_TEXT, self.bottom))
        middle = (self.left + self.right) / 2
        self._text(figure, self.title, middle, 0.0, BODY + 2, weight="bold", va="top")
        for index, lines in enumerate(self.column_titles):
            above = self.tops[0] - _block(self.titles[0], SMALL) - _TEXT_GAP
            self._text(figure, lines, self._centre(index), above, BODY, va="bottom")
        for top, lines in zip(self.tops, self.row_titles, strict=False):
            self._text(
                figure,
                lines,
                self.left - _TEXT_GAP,
                top + self.height / 2,
                BODY,
                ha="right",
                va="center",
                rotation=90,
            )
        for row, panels in enumerate(self.rows):
            for column, panel in enumerate(panels):
                if panel is not None:
                    self._panel(figure, panel, row, column)
        return figure

    def draw_colour_bar(self, figure: Figure) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        top, bottom = self.tops[0], self.tops[-1] + self.height
        length = min(bottom - top, 2.4 * self.height)
        axes = self._axes(figure, self.right + _BAR_GAP, top, _BAR_WIDTH, length)
        scale = ScalarMappable(Normalize(-1, 1), relevance_colormap())
        bar = figure.colorbar(scale, cax=axes, ticks=[-1, 0, 1])
        bar.ax.set_yticklabels(["\N{MINUS SIGN}1", "0", "1"])
        bar.ax.tick_params(length=2, pad=2)
        bar.outline.set_linewidth(0.5)
        bar.set_label(r"$S\,/\,\max|S|$", size=SMALL, labelpad=3)

    def _panel(self, figure: Figure, panel: Panel, row: int, column: int) -> None:
        shown = panel.pixels
        left = self._centre(column) - self.width / 2
        axes = self._axes(figure, left, self.tops[row], self.width, self.height)
        axes.imshow(shown, interpolation="lanczos" if shown.shape[1] < 200 else "antialiased")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=panel.frame or HAIRLINE, linewidth=1.8 if panel.frame else 0.5)
        middle, top = self._centre(column), self.tops[row]
        self._text(
            figure, self.titles[row][column], middle, top - _TEXT_GAP, SMALL, va="bottom", color=INK
        )
        below = top + self.height + _TEXT_GAP
        self._text(figure, self.notes[row][column], middle, below, SMALL, va="top", color=QUIET)

    def _centre(self, column: int) -> float:
        return self.left + column * (self.width + _GAP) + self.width / 2

    def _axes(self, figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
        """Axes with the given upper left corner, in inches."""
        across, down = figure.get_size_inches()
        return figure.add_axes(
            (left / across, 1 - (top + height) / down, width / across, height / down)
        )

    def _text(
        self, figure: Figure, lines: list[str], x: float, y: float, size: float, **options: Any
    ) -> None:
        across, down = figure.get_size_inches()
        style: dict[str, Any] = {
            "ha": "center",
            "linespacing": _LEADING / 1.2,
            "parse_math": False,
        } | options
        figure.text(x / across, 1 - y / down, "\n".join(lines), size=size, **style)


def _block(texts: Sequence[list[str]], size: float) -> float:
    """Inches that a line of titles takes: the tallest of them and the gap to what follows."""
    lines = max((len(text) for text in texts), default=0)
    return lines * size * _LEADING * _POINT + _TEXT_GAP if lines else 0.0
