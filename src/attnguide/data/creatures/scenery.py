"""Backgrounds of the creatures: smooth two-colour texture with leaves, stones and twigs on it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnguide.data.creatures.shapes import Colour, Points, Shape, ellipse, limb, rasterise, star

MAX_CLUTTER = 7


def _noise(rng: np.random.Generator, cells: int, size: int) -> NDArray[np.float32]:
    """Smooth noise in [0, 1] with about `cells` bumps along a side."""
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    smooth = coarse.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32) / np.float32(255)


def texture(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Two random colours mixed by noise of three scales, (size, size, 3) in [0, 1]."""
    first, second = rng.uniform(0.15, 0.95, (2, 3)).astype(np.float32)
    second = first + rng.uniform(0.25, 0.7) * (second - first)
    mix = 0.6 * _noise(rng, int(rng.integers(3, 6)), size)
    mix += 0.25 * _noise(rng, int(rng.integers(8, 16)), size)
    mix += 0.15 * _noise(rng, int(rng.integers(24, 48)), size)
    grain = rng.uniform(0.0, 0.12) * (_noise(rng, size, size) - 0.5)
    colours = first + np.clip(2 * mix - 0.5, 0, 1)[..., None] * (second - first)
    return np.clip(colours + grain[..., None], 0, 1)


def _clutter(rng: np.random.Generator) -> Shape:
    """One stone, twig or leaf of any colour, also that of a distinguishing part."""
    x, y = rng.uniform(0, 1, 2)
    extent, turn = rng.uniform(0.03, 0.10), rng.uniform(0, 2 * np.pi)
    points: Points
    match rng.integers(3):
        case 0:
            points = ellipse(x, y, extent, extent * rng.uniform(0.5, 1.0), turn)
        case 1:
            dx, dy = 2 * extent * np.cos(turn), 2 * extent * np.sin(turn)
            points = limb((x - dx, y - dy, 0.03), (x, y + 0.02, 0.03), (x + dx, y + dy, 0.015))
        case _:
            points = star(x, y, extent, tips=int(rng.integers(3, 8)), inner=rng.uniform(0.4, 0.9))
    r, g, b = rng.uniform(0.1, 1.0, 3)
    colour: Colour = (float(r), float(g), float(b))
    return Shape(points, colour, outlined=bool(rng.random() < 0.5))


def scenery(
    rng: np.random.Generator,
    size: int,
    max_clutter: int = MAX_CLUTTER,
    without: Collection[int] = (),
) -> NDArray[np.float32]:
    """A textured background with up to `max_clutter` things on it, (size, size, 3) in [0, 1].

    Things whose numbers (from 0) are in `without` are left out; all else stays as it is.
    """
    ground = texture(rng, size)
    things = [[_clutter(rng)] for _ in range(rng.integers(0, max_clutter + 1))]
    things = [thing for number, thing in enumerate(things) if number not in without]
    if not things:
        return ground
    to_pixels = np.array([[size, 0.0, 0.0], [0.0, size, 0.0]])
    rgba = rasterise(things, to_pixels, (size, size)).rgba
    return ground * (1 - rgba[..., 3:]) + rgba[..., :3]
