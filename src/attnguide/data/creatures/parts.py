"""The sixteen distinguishing parts: what tells the two variants of a species apart.

Siblings share every other shape. Their parts differ in shape and in colour and are large enough to
be seen by a ViT with patches of 8 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from attnguide.data.creatures.shapes import (
    WHITE,
    Colour,
    Group,
    Points,
    Shape,
    blob,
    ellipse,
    eye,
    limb,
    star,
)

Sway = NDArray[np.float64]  # (6,), small offsets of the posture, in units of the unit square


def _rimmed(points: Points, colour: Colour) -> Shape:
    return Shape(points, colour, part=True)


def _plain(points: Points, colour: Colour) -> Shape:
    return Shape(points, colour, part=True, outlined=False)


def bushy_tail(s: Sway) -> list[Group]:
    """Fox: thick, red, with a white tip."""
    brush = limb(
        (0.68, 0.56, 0.06), (0.82, 0.56, 0.15), (0.90, 0.38 + s[0], 0.22), (0.86, 0.12, 0.05)
    )
    tip = limb((0.895, 0.29 + s[0], 0.17), (0.88, 0.21, 0.13), (0.86, 0.12, 0.03))
    return [[_rimmed(brush, (0.95, 0.32, 0.08)), _plain(tip, WHITE)]]


def thin_tail(s: Sway) -> list[Group]:
    """Fox: a violet whip with a pale blue tuft."""
    y = 0.44 + s[0]
    whip = limb((0.68, 0.56, 0.05), (0.84, 0.62, 0.05), (0.91, y, 0.05), (0.86, 0.24, 0.05))
    return [
        [_rimmed(whip, (0.40, 0.22, 0.62))],
        [_rimmed(star(0.86, 0.19, 0.13, 7, 0.6), (0.45, 0.80, 0.92))],
    ]


def long_ears(s: Sway) -> list[Group]:
    """Hare: upright, pink inside."""
    rim, inner = (0.86, 0.60, 0.50), (0.99, 0.62, 0.70)
    back = limb((0.42, 0.33, 0.08), (0.48 + s[0], 0.17, 0.13), (0.55 + s[0], 0.03, 0.05))
    front = limb((0.31, 0.33, 0.08), (0.29 + s[1], 0.16, 0.13), (0.31 + s[1], 0.01, 0.05))
    back_inner = limb((0.44, 0.27, 0.04), (0.48 + s[0], 0.17, 0.07), (0.54 + s[0], 0.06, 0.02))
    front_inner = limb((0.305, 0.27, 0.04), (0.29 + s[1], 0.16, 0.07), (0.308 + s[1], 0.04, 0.02))
    return [
        [_rimmed(back, rim), _rimmed(front, rim)],
        [_plain(back_inner, inner), _plain(front_inner, inner)],
    ]


def lop_ears(s: Sway) -> list[Group]:
    """Hare: dark brown, hanging down on both sides."""
    fur, inner = (0.33, 0.18, 0.11), (0.55, 0.35, 0.22)
    right = limb(
        (0.42, 0.30, 0.08), (0.56, 0.30, 0.14), (0.62 + s[0], 0.46, 0.17), (0.58 + s[0], 0.60, 0.08)
    )
    left = limb(
        (0.30, 0.30, 0.08), (0.17, 0.30, 0.13), (0.11 + s[1], 0.46, 0.15), (0.13 + s[1], 0.60, 0.08)
    )
    lining = limb((0.60, 0.38, 0.05), (0.62 + s[0], 0.47, 0.08), (0.58 + s[0], 0.56, 0.03))
    return [[_rimmed(right, fur), _rimmed(left, fur), _plain(lining, inner)]]


def trunk_nose(s: Sway) -> list[Group]:
    """Tapir: a long rosy trunk that hangs."""
    trunk = limb(
        (0.20, 0.46, 0.15), (0.09, 0.52, 0.12), (0.08 + s[0], 0.72, 0.10), (0.17 + s[0], 0.86, 0.08)
    )
    folds = [
        _plain(limb((0.045 + s[0] * k, y, 0.015), (0.12 + s[0] * k, y, 0.015)), (0.62, 0.28, 0.36))
        for y, k in ((0.58, 0.4), (0.66, 0.8), (0.74, 1.0))
    ]
    return [[_rimmed(trunk, (0.90, 0.50, 0.56)), *folds]]


def horn_nose(s: Sway) -> list[Group]:
    """Tapir: an ivory horn that points upwards."""
    horn = limb(
        (0.17, 0.47, 0.19), (0.07, 0.33, 0.13), (0.06 + s[0], 0.20, 0.08), (0.09 + s[0], 0.05, 0.01)
    )
    rings = [
        _plain(limb((x, y, 0.016), (x + w, y - 0.01, 0.016)), (0.80, 0.66, 0.30))
        for x, y, w in ((0.035, 0.34, 0.09), (0.03, 0.27, 0.075))
    ]
    return [[_rimmed(horn, (0.98, 0.92, 0.70)), *rings]]


def spiral_shell(s: Sway) -> list[Group]:
    """Snail: round and brown, with a cream spiral."""
    turn = np.linspace(0, 4.6 * np.pi, 30)
    r = 0.23 * (1 - turn / turn[-1]) + 0.01
    x, y = 0.60 + r * np.cos(turn + s[0]), 0.50 + r * np.sin(turn + s[0])
    spiral = limb(*zip(x, y, 0.045 - 0.02 * turn / turn[-1], strict=True))
    return [
        [
            _rimmed(ellipse(0.60, 0.50, 0.29, 0.29), (0.66, 0.32, 0.12)),
            _plain(spiral, (0.96, 0.84, 0.58)),
        ]
    ]


def spire_shell(s: Sway) -> list[Group]:
    """Snail: a tall turquoise spire with white whorls."""
    whorls: list[Group] = []
    for step, t in enumerate(np.linspace(0, 1, 6)):
        x, y = 0.58 + (0.16 + s[0]) * t, 0.68 - 0.60 * t
        colour = (0.08, 0.56, 0.62) if step % 2 == 0 else (0.90, 0.95, 0.92)
        whorls.append(
            [_rimmed(ellipse(x, y, 0.30 * (1 - 0.86 * t), 0.12 - 0.06 * t, 0.12), colour)]
        )
    return whorls


def white_head(s: Sway) -> list[Group]:
    """Eagle: a big white head with a yellow beak."""
    x = 0.44 + s[0]
    beak = blob(
        (x - 0.11, 0.22), (x - 0.21, 0.22), (x - 0.25, 0.34), (x - 0.17, 0.30), (x - 0.10, 0.32)
    )
    hood = blob((x - 0.14, 0.24), (x - 0.07, 0.10), (x + 0.08, 0.09), (x + 0.17, 0.22),
                (x + 0.20, 0.42), (x + 0.10, 0.38), (x + 0.04, 0.46), (x - 0.03, 0.38),
                (x - 0.10, 0.43), (x - 0.12, 0.33))  # fmt: skip
    brow = limb((x - 0.11, 0.19, 0.02), (x - 0.01, 0.21, 0.02))
    return [
        [_rimmed(hood, WHITE), _rimmed(beak, (0.98, 0.78, 0.12))],
        *eye(x - 0.05, 0.235, 0.03, part=True),
        [_plain(brow, (0.60, 0.58, 0.55))],
    ]


def red_neck(s: Sway) -> list[Group]:
    """Eagle: a small bald head on a long red neck, with a grey beak."""
    x = 0.38 + s[0]
    neck = limb((0.52, 0.44, 0.18), (0.51, 0.30, 0.13), (x + 0.06, 0.17, 0.12), (x, 0.16, 0.13))
    beak = blob(
        (x - 0.05, 0.11), (x - 0.14, 0.12), (x - 0.17, 0.24), (x - 0.11, 0.20), (x - 0.04, 0.21)
    )
    wattle = limb((x - 0.01, 0.22, 0.04), (x + 0.01, 0.30, 0.05))
    return [
        [_rimmed(neck, (0.88, 0.16, 0.20)), _rimmed(wattle, (0.65, 0.06, 0.14))],
        [_rimmed(beak, (0.45, 0.47, 0.52))],
        *eye(x - 0.01, 0.15, 0.028, part=True),
    ]


def stilt_legs(s: Sway) -> list[Group]:
    """Ibis: two thin coral legs with knobbly knees and long toes."""
    coral, shapes = (0.96, 0.30, 0.22), []
    for x, bend in ((0.50, s[0]), (0.60, s[1])):
        foot = x + bend
        shapes += [
            _rimmed(
                limb((x, 0.46, 0.045), (x + bend + 0.01, 0.68, 0.04), (foot, 0.93, 0.04)), coral
            ),
            _rimmed(ellipse(x + bend + 0.01, 0.69, 0.036, 0.036), coral),
            _rimmed(
                limb((foot - 0.12, 0.94, 0.035), (foot, 0.92, 0.04), (foot + 0.05, 0.94, 0.03)),
                coral,
            ),
        ]
    return [shapes]


def feather_legs(s: Sway) -> list[Group]:
    """Ibis: thick indigo trousers of feathers over yellow feet."""
    indigo, shapes, feet = (0.26, 0.22, 0.62), [], []
    for x, bend in ((0.47, s[0]), (0.64, s[1])):
        foot = x + bend
        shapes.append(
            _rimmed(limb((x, 0.46, 0.13), (foot, 0.66, 0.17), (foot, 0.84, 0.15)), indigo)
        )
        feet.append(_rimmed(ellipse(foot - 0.03, 0.92, 0.10, 0.04), (0.98, 0.80, 0.15)))
    return [feet, shapes]


def star_mark(s: Sway) -> list[Group]:
    """Fish: a golden star on the flank."""
    return [[_rimmed(star(0.46 + s[0], 0.51, 0.20), (1.00, 0.84, 0.12))]]


def band_mark(s: Sway) -> list[Group]:
    """Fish: a crimson band between two white lines, around the flank."""
    x = 0.46 + s[0]
    line = limb((x + 0.01, 0.37, 0.24), (x, 0.51, 0.25), (x + 0.01, 0.65, 0.24))
    band = limb((x + 0.01, 0.34, 0.14), (x, 0.51, 0.15), (x + 0.01, 0.68, 0.14))
    return [[_plain(line, WHITE), _plain(band, (0.80, 0.08, 0.22))]]


def fan_crest(s: Sway) -> list[Group]:
    """Lizard: a scalloped orange fan behind the head."""
    turn = np.linspace(-1.12 * np.pi, 0.02 * np.pi, 15)
    r = np.where(np.arange(15) % 2 == 0, 0.34, 0.28)[:, None]
    edge = np.stack([0.36 + r[:, 0] * np.cos(turn), 0.50 + s[0] + r[:, 0] * np.sin(turn)], axis=1)
    rays = [
        _plain(limb((0.36, 0.50, 0.02), (0.8 * x + 0.072, 0.8 * y + 0.1, 0.03)), (0.75, 0.12, 0.10))
        for x, y in edge[2:-1:2]
    ]
    fan = np.concatenate([edge, [[0.36, 0.56]]])
    return [[_rimmed(fan, (1.00, 0.58, 0.10)), *rays]]


def plume_crest(s: Sway) -> list[Group]:
    """Lizard: three blue plumes swept back from the brow."""
    plumes = [
        ((0.26, 0.44, 0.08), (0.26, 0.24, 0.11), (0.40, 0.08 + s[0], 0.02)),
        ((0.30, 0.44, 0.08), (0.39, 0.27, 0.11), (0.60, 0.16 + s[0], 0.02)),
        ((0.34, 0.46, 0.08), (0.50, 0.36, 0.11), (0.74, 0.30 + s[0], 0.02)),
    ]
    return [[_rimmed(limb(*p), (0.22, 0.30, 0.92))] for p in plumes]


PARTS: tuple[tuple[Callable[[Sway], list[Group]], Callable[[Sway], list[Group]]], ...] = (
    (bushy_tail, thin_tail),
    (long_ears, lop_ears),
    (trunk_nose, horn_nose),
    (spiral_shell, spire_shell),
    (white_head, red_neck),
    (stilt_legs, feather_legs),
    (star_mark, band_mark),
    (fan_crest, plume_crest),
)
