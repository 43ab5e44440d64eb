"""The pipeline of the complete correction as one drawing, every tile of it data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnguide.viz.overlay import as_picture, normalize, overlay
from attnguide.viz.style import BODY, HAIRLINE, INK, QUIET, SMALL, relevance_colours, typography

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.floating]
_TILE, _SMALL, _GAP, _SHIFT = 1.25, 0.8, 0.42, 0.11  # inches
_TOP, _LOWER = 0.5, 2.42  # inches from the top to the large and to the small tiles
_STEPS = (("attention", "$A^{(l)}$"), ("gradient", "$G^{(l)}$"), ("corrected", r"$G\odot A$"))
_WORDS = {
    "attention": "attention after softmax,\nmean over heads",
    "gradient": "gradient of the target's\nlogit, Eq. 7",
    "corrected": "complete correction,\nEq. 5",
}


@dataclass(frozen=True)
class Pipeline:
    """What the drawing shows.

    Attributes:
        picture: As `as_picture` takes it.
        target: Name of the explained class.
        layers: Numbers of the layers that are shown, from 1; the foremost first, the model's last
            one last.
        matrices: (len(layers), N, N) by the names "attention", "gradient", "corrected".
        rows: (L, rows, cols), what the class token has gathered after the last layer, after the
            last but one, ..., after the first.
        relevance: (rows, cols), the map.
        num_prefix: Tokens before the patches.
    """

    picture: Any
    target: str
    layers: Sequence[int]
    matrices: Mapping[str, Array]
    rows: Array
    relevance: Array
    num_prefix: int


def draw_pipeline(shown: Pipeline) -> Figure:
    """Picture, attention, gradient, correction, rollout and map, from left to right."""
    from matplotlib.figure import Figure

    stack = _TILE + (len(shown.layers) - 1) * _SHIFT
    lefts = [0.05 + _TILE + _GAP + number * (stack + _GAP) for number in range(4)]
    last = lefts[3] + _TILE + _GAP + 0.05
    with typography():
        page = Figure(figsize=(last + _TILE + 0.5, _LOWER + _SMALL + 0.1))
        image = as_picture(shown.picture)
        _tile(page, 0.05, _TOP, _TILE, image)
        _words(page, 0.05, _TILE, "image", f"explained: {shown.target}")
        for left, (name, symbol) in zip(lefts, _STEPS, strict=False):
            _cards(page, left, shown, name)
            _words(page, left, _TILE, symbol, _WORDS[name])
            row = shown.matrices[name][-1][0, shown.num_prefix :].reshape(shown.relevance.shape)
            _tile(page, left + (_TILE - _SMALL) / 2, _LOWER, _SMALL, overlay(image, row))
        _film(page, lefts[3], shown.rows)
        _words(
            page,
            lefts[3],
            _TILE,
            r"$\bar A^{(L)}\cdots\bar A^{(1)}$",
            f"rollout: the class row\nafter layers {len(shown.rows)} to 1",
        )
        _tile(page, last, _TOP, _TILE, overlay(image, shown.relevance))
        _words(
            page, last, _TILE, r"$S\,/\,\max|S|$", "relevance: red for the target,\nblue against it"
        )
        _lower_words(page, lefts[0], shown)
        for left in (*lefts[:3], lefts[3], last):
            _arrow(page, left - _GAP + 0.06, left)
    return page


def _matrix(name: str, values: Array) -> NDArray[np.float32]:
    """Colours of a token-to-token matrix; small numbers are lifted, or only a few dots show."""
    lifted = np.sign(values) * np.abs(values) ** 0.4
    scaled = normalize(lifted)
    if name == "attention":
        return np.repeat(1 - 0.9 * scaled[..., None], 3, -1).astype(np.float32)
    return relevance_colours(scaled)


def _cards(page: Figure, left: float, shown: Pipeline, name: str) -> None:
    """Matrices of several layers, one behind the other."""
    for place in reversed(range(len(shown.layers))):
        matrix = _matrix(name, shown.matrices[name][place])
        shift = place * _SHIFT
        axes = _tile(page, left + shift, _TOP - shift, _TILE, matrix)
        axes.set_zorder(10 - place)


def _film(page: Figure, left: float, rows: Array) -> None:
    """What the class row holds after each layer, in reading order."""
    columns = int(np.ceil(np.sqrt(len(rows))))
    lines = -(-len(rows) // columns)
    size = (_TILE - 0.05 * (columns - 1)) / columns
    top = _TOP + (_TILE - lines * (size + 0.05) + 0.05) / 2
    for number, row in enumerate(rows):
        x, y = left + number % columns * (size + 0.05), top + number // columns * (size + 0.05)
        _tile(page, x, y, size, relevance_colours(normalize(row)))


def _tile(page: Figure, left: float, top: float, size: float, pixels: Any) -> Axes:
    width, height = page.get_size_inches()
    axes = page.add_axes((left / width, 1 - (top + size) / height, size / width, size / height))
    axes.imshow(pixels, interpolation="nearest" if pixels.shape[0] < 40 else "antialiased")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=HAIRLINE, linewidth=0.6)
    return axes


def _words(page: Figure, left: float, size: float, symbol: str, words: str) -> None:
    _text(page, left + size / 2, _TOP + size + 0.07, symbol, size=BODY + 2, va="top")
    _text(page, left + size / 2, _TOP + size + 0.31, words, size=SMALL, va="top", color=QUIET)


def _lower_words(page: Figure, left: float, shown: Pipeline) -> None:
    layers = ", ".join(map(str, shown.layers))
    words = f"row of the class\ntoken, layer {shown.layers[-1]},\non the picture"
    _text(page, left - 0.1, _LOWER + _SMALL / 2, words, size=SMALL, ha="right", color=QUIET)
    _text(
        page,
        left,
        _TOP - 0.36,
        f"layers {layers} of {len(shown.rows)}, the first in front",
        size=SMALL,
        ha="left",
        color=QUIET,
    )


def _text(page: Figure, x: float, y: float, words: str, **style: Any) -> None:
    width, height = page.get_size_inches()
    look: dict[str, Any] = {"ha": "center", "va": "center", "color": INK} | style
    page.text(x / width, 1 - y / height, words, linespacing=1.15, **look)


def _arrow(page: Figure, start: float, stop: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    width, height = page.get_size_inches()
    y = 1 - (_TOP + _TILE / 2) / height
    page.add_artist(
        FancyArrowPatch(
            (start / width, y),
            ((stop - 0.05) / width, y),
            arrowstyle="-|>",
            mutation_scale=9,
            color=INK,
            linewidth=1.0,
            zorder=20,
        )
    )
