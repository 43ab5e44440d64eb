"""The pipeline of the complete correction as one drawing, every tile of it data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnguide.viz.overlay import as_picture, normalize, overlay
from attnguide.viz.style import BODY, HAIRLINE, INK, QUIET, SMALL, relevance_colours, typography

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.floating]
TILE, GAP = 1.25, 0.5  # inches; of a tile between two
SHIFT = 0.09  # of a card behind another, as a share of a tile
STEPS = {
    "attention": ("$A^{(l)}$", "attention after softmax,\nmean over heads"),
    "gradient": ("$G^{(l)}$", "gradient of the target's\nlogit, Eq. 7"),
    "corrected": (r"$G\odot A$", "complete correction,\nEq. 5"),
}


def draw_pipeline(picture: Any, target: str, steps: Mapping[str, Array]) -> Figure:
    """Picture, attention, gradient, correction, rollout and map, from left to right.

    Args:
        picture: As `as_picture` takes it.
        target: Name of the explained class.
        steps: `layers`, numbers of the layers that are shown, from 1, the foremost first, the
            model's last one last; (layers, N, N) matrices by the names of `STEPS`; `rows`
            (L, rows, cols), what the class token has gathered after the last layer, after the last
            but one, ..., after the first; `relevance` (rows, cols), the map; and `num_prefix`,
            tokens before the patches.
    """
    from matplotlib.figure import Figure

    with typography():
        figure = Figure(figsize=(TILE * (6 + 5 * GAP), TILE))  # `render` adds what sticks out
        edges = {"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": GAP}
        tiles = figure.subplots(1, 6, gridspec_kw=edges)
        for axes in tiles:
            axes.set_axis_off()
        image, layers, count = as_picture(picture), steps["layers"], len(steps["rows"])
        whole = (0.0, 0.0, 1.0, 1.0)
        _tile(tiles[0], whole, image)
        _words(tiles[0], "image", f"explained: {target}")
        for axes, (name, words) in zip(tiles[1:4], STEPS.items(), strict=True):
            _cards(axes, [_matrix(name, values) for values in steps[name]])
            _words(axes, *words)
            row = steps[name][-1][0, int(steps["num_prefix"]) :].reshape(steps["relevance"].shape)
            _tile(axes, (0.18, -1.2, 0.64, 0.64), overlay(image, row))
        _film(tiles[4], steps["rows"])
        _words(
            tiles[4],
            r"$\bar A^{(L)}\cdots\bar A^{(1)}$",
            f"rollout: the class row\nafter layers {count} to 1",
        )
        _tile(tiles[5], whole, overlay(image, steps["relevance"]))
        _words(tiles[5], r"$S\,/\,\max|S|$", "relevance: red for the target,\nblue against it")
        cards = f"layers {', '.join(map(str, layers))} of {count}, the first in front"
        _text(tiles[1], 0.0, 1.07 + SHIFT * len(layers), cards, ha="left")
        below = f"row of the class\ntoken, layer {layers[-1]},\non the picture"
        _text(tiles[1], 0.1, -0.88, below, ha="right")
        for number, axes in enumerate(tiles[1:]):
            behind = SHIFT * (len(layers) - 1) if number in (1, 2, 3) else 0.0
            _arrow(axes, behind)
    return figure


def _matrix(name: str, values: Array) -> NDArray[np.float32]:
    """Colours of a token-to-token matrix; small numbers are lifted, or only a few dots show."""
    lifted = np.sign(values) * np.abs(values) ** 0.4
    scaled = normalize(lifted)
    if name == "attention":
        return np.repeat(1 - 0.9 * scaled[..., None], 3, -1).astype(np.float32)
    return relevance_colours(scaled)


def _cards(axes: Axes, matrices: Sequence[NDArray[np.float32]]) -> None:
    """Matrices of several layers, one behind the other."""
    for place, matrix in reversed(list(enumerate(matrices))):
        _tile(axes, (place * SHIFT, place * SHIFT, 1.0, 1.0), matrix)


def _film(axes: Axes, rows: Array) -> None:
    """What the class row holds after each layer, in reading order."""
    columns = int(np.ceil(np.sqrt(len(rows))))
    pitch = 1.04 / columns
    top = (1 + pitch * -(-len(rows) // columns)) / 2  # the lines stand in the middle
    for number, row in enumerate(rows):
        left, bottom = number % columns * pitch, top - (number // columns + 1) * pitch
        _tile(axes, (left, bottom, pitch - 0.04, pitch - 0.04), relevance_colours(normalize(row)))


def _tile(axes: Axes, box: tuple[float, float, float, float], pixels: Any) -> None:
    """A picture at left, bottom, width and height, in shares of the tile that holds it."""
    tile = axes.inset_axes(box)
    tile.imshow(pixels, interpolation="nearest" if pixels.shape[0] < 40 else "antialiased")
    tile.set(xticks=[], yticks=[])
    tile.spines[:].set(color=HAIRLINE, linewidth=0.6)


def _words(axes: Axes, symbol: str, words: str) -> None:
    _text(axes, 0.5, -0.05, symbol, size=BODY + 2, va="top", color=INK)
    _text(axes, 0.5, -0.24, words, va="top")


def _text(axes: Axes, x: float, y: float, words: str, **look: Any) -> None:
    style: dict[str, Any] = {"size": SMALL, "color": QUIET, "ha": "center", "va": "center"} | look
    axes.text(x, y, words, transform=axes.transAxes, linespacing=1.15, **style)


def _arrow(axes: Axes, behind: float) -> None:
    """From the tile before, whose cards end `behind` it, to this one."""
    look = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.0, "mutation_scale": 9}
    axes.annotate(
        "", (-0.04, 0.5), (0.04 - GAP + behind, 0.5), xycoords="axes fraction", arrowprops=look
    )
