"""Outlines of the creatures as polygons, and their rasterisation with exact masks.

Points are (x, y) in the unit square, y downwards. Everything stays a polygon until the very end,
so a pose is an affine map of points and the masks are as exact as the picture.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
Colour = tuple[float, float, float]

SUPERSAMPLING = 3
OUTLINE_WIDTH = 0.018  # of the creature's unit square
OUTLINE_SHADE = 0.35


class Shape(NamedTuple):
    """A filled polygon; `part` marks the distinguishing part, `outlined` asks for a dark rim."""

    points: Points
    colour: Colour
    part: bool = False
    outlined: bool = True


BLACK: Colour = (0.08, 0.07, 0.08)
WHITE: Colour = (0.97, 0.96, 0.93)

_T = np.linspace(0, 1, 5, endpoint=False)[:, None] ** np.arange(4)
_SPLINE = _T @ (0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]))
_TURN = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)])
_CAP = np.linspace(0, np.pi, 7)[1:-1, None]
_CAP_COS, _CAP_SIN = np.cos(_CAP), np.sin(_CAP)

Group = Sequence[Shape]  # rims of a group are drawn below all of its fills


class Raster(NamedTuple):
    """One rasterised creature, float32 in [0, 1].

    `rgba` (h, w, 4) is colour premultiplied by coverage, and coverage; `part` (h, w) is the
    coverage of the visible distinguishing part.
    """

    rgba: NDArray[np.float32]
    part: NDArray[np.float32]


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Points:
    """Ellipse around (x, y), turned by `angle` in radians."""
    c, s = np.cos(angle), np.sin(angle)
    axes = np.array([[c * rx, -s * ry], [s * rx, c * ry]])
    return (axes @ _CIRCLE).T + np.array([x, y])


def _catmull_rom(points: Points) -> Points:
    """Smooth curve from the second to the last but one of `points`, through all between."""
    windows = np.stack([points[:-3], points[1:-2], points[2:-1], points[3:]], axis=1)
    return np.concatenate([(_SPLINE @ windows).reshape(-1, points.shape[1]), points[-2:-1]])


def blob(*corners: tuple[float, float]) -> Points:
    """Closed smooth outline through `corners`."""
    p = np.array(corners)
    return _catmull_rom(np.concatenate([p[-1:], p, p[:2]]))[:-1]


def polygon(*corners: tuple[float, float]) -> Points:
    """Straight-edged outline."""
    return np.array(corners, dtype=float)


def limb(*knots: tuple[float, float, float]) -> Points:
    """Smooth stroke through knots (x, y, width) with round ends: legs, tails, trunks, necks."""
    p = np.array(knots)
    p = _catmull_rom(np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]]))
    xy, radius = p[:, :2], np.maximum(p[:, 2:], 0.004) / 2
    along = np.empty_like(xy)
    along[1:-1] = xy[2:] - xy[:-2]
    along[0], along[-1] = xy[1] - xy[0], xy[-1] - xy[-2]
    along /= np.hypot(along[:, :1], along[:, 1:]) + 1e-9
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    tail = xy[-1] + radius[-1] * (_CAP_COS * normal[-1] + _CAP_SIN * along[-1])
    head = xy[0] - radius[0] * (_CAP_COS * normal[0] + _CAP_SIN * along[0])
    return np.concatenate([xy + radius * normal, tail, (xy - radius * normal)[::-1], head])


def star(x: float, y: float, radius: float, tips: int = 5, inner: float = 0.45) -> Points:
    """Star with one tip upwards."""
    turn = np.arange(2 * tips) * np.pi / tips - np.pi / 2
    r = radius * np.where(np.arange(2 * tips) % 2 == 0, 1.0, inner)
    return np.stack([x + r * np.cos(turn), y + r * np.sin(turn)], axis=1)


def eye(x: float, y: float, radius: float, part: bool = False) -> list[Group]:
    """An eye with a glint, looking to the left."""
    rings = (
        (ellipse(x, y, radius, radius), WHITE),
        (ellipse(x - 0.2 * radius, y, 0.62 * radius, 0.7 * radius), BLACK),
        (ellipse(x - 0.4 * radius, y - 0.3 * radius, radius / 5, radius / 5), WHITE),
    )
    return [[Shape(points, colour, part, outlined=False) for points, colour in rings]]


def left_out(groups: Sequence[Group], without: Collection[int]) -> list[Group]:
    """The groups of an animal without some of its pieces.

    Args:
        groups: Back to front.
        without: Numbers of pieces: 0 is the distinguishing part, 1 and more are the groups of the
            body, back to front.
    """
    kept, number = [], 0
    for group in groups:
        is_part = any(shape.part for shape in group)
        number += not is_part
        if (0 if is_part else number) not in without:
            kept.append(group)
    return kept


def rasterise(
    groups: Iterable[Group],
    affine: NDArray[np.float64],
    size: tuple[int, int],
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Raster:
    """Draw groups back to front, antialiased.

    Args:
        groups: Shapes in the unit square.
        affine: (2, 3), maps (x, y, 1) of the unit square to pixels of the result.
        size: (height, width) of the result in pixels.
        tint: Gain of the red, green and blue of every shape.

    Returns:
        Colour and coverage, and coverage of the visible part.
    """
    k = SUPERSAMPLING
    canvas = Image.new("L", (size[1] * k, size[0] * k), 0)
    draw = ImageDraw.Draw(canvas)
    scale = float(np.sqrt(abs(np.linalg.det(affine[:, :2])))) * k
    rim = max(1, round(2 * OUTLINE_WIDTH * scale))
    palette: dict[tuple[Colour, bool], int] = {}

    def ink(colour: Colour, part: bool) -> int:
        return palette.setdefault((colour, part), len(palette) + 1)

    for group in groups:
        pixels = [
            ((s.points @ affine[:, :2].T + affine[:, 2]) * k - 0.5).ravel().tolist() for s in group
        ]
        for shape, xy in zip(group, pixels, strict=True):
            if shape.outlined:
                r, g, b = (OUTLINE_SHADE * c for c in shape.colour)
                draw.line(xy + xy[:4], fill=ink((r, g, b), shape.part), width=rim)
        for shape, xy in zip(group, pixels, strict=True):
            draw.polygon(xy, fill=ink(shape.colour, shape.part))
    return _resolve(canvas, palette, tint)


def _resolve(canvas: Image.Image, palette: dict[tuple[Colour, bool], int], tint: Colour) -> Raster:
    """Turn palette indices into colour and coverage, averaged over the supersampled pixels."""
    colours, part = np.zeros((256, 4), dtype=np.uint8), np.zeros(256, dtype=np.uint8)
    for (colour, is_part), index in palette.items():
        colours[index, :3] = np.clip(np.round(255 * np.array(colour) * np.array(tint)), 0, 255)
        colours[index, 3] = 255
        part[index] = 255 * is_part
    packed = colours.view(np.uint32)[:, 0][np.asarray(canvas)]
    fine = Image.frombuffer("RGBa", canvas.size, packed.tobytes(), "raw", "RGBa", 0, 1)
    coarse = fine.reduce(SUPERSAMPLING)
    rgba = np.frombuffer(coarse.tobytes(), np.uint8).reshape(coarse.height, coarse.width, 4)
    coverage = np.asarray(canvas.point(part.tolist()).reduce(SUPERSAMPLING))
    whole = np.float32(255)
    return Raster(rgba.astype(np.float32) / whole, coverage.astype(np.float32) / whole)
