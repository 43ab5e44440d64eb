"""The bodies of the eight species: everything two siblings have in common.

Each function takes the groups of the distinguishing part and puts them at their depth between the
groups of the body, back to front. All animals look to the left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from attnguide.data.creatures.parts import PARTS, Sway
from attnguide.data.creatures.shapes import (
    BLACK,
    WHITE,
    Colour,
    Group,
    Points,
    Shape,
    blob,
    ellipse,
    eye,
    left_out,
    limb,
    polygon,
)


def _plain(points: Points, colour: Colour) -> Shape:
    return Shape(points, colour, outlined=False)


def fox(part: list[Group], s: Sway) -> list[Group]:
    """Orange, walking; the part is its tail."""
    fur, shade, dark = (0.93, 0.52, 0.16), (0.72, 0.36, 0.10), (0.30, 0.16, 0.12)
    far = [
        Shape(limb((0.40, 0.64, 0.09), (0.43 + s[1], 0.92, 0.06)), shade),
        Shape(limb((0.62, 0.64, 0.09), (0.61 + s[2], 0.92, 0.06)), shade),
    ]
    trunk = blob((0.28, 0.54), (0.44, 0.44), (0.66, 0.47), (0.73, 0.58), (0.64, 0.70), (0.36, 0.71))
    body = [
        Shape(trunk, fur),
        Shape(limb((0.35, 0.62, 0.11), (0.33 + s[3], 0.92, 0.07)), fur),
        Shape(limb((0.67, 0.60, 0.12), (0.70 + s[4], 0.76, 0.08), (0.69 + s[4], 0.92, 0.07)), fur),
    ]
    details = [
        _plain(blob((0.27, 0.56), (0.36, 0.52), (0.38, 0.66), (0.31, 0.70)), WHITE),
        _plain(limb((0.331 + s[3], 0.85, 0.075), (0.33 + s[3], 0.92, 0.07)), dark),
        _plain(limb((0.69 + s[4], 0.85, 0.075), (0.69 + s[4], 0.92, 0.07)), dark),
    ]
    skull = blob((0.04, 0.50), (0.16, 0.34), (0.30, 0.29), (0.42, 0.40), (0.34, 0.54), (0.18, 0.57))
    head = [
        Shape(polygon((0.17, 0.36), (0.16, 0.14), (0.29, 0.30)), fur),
        Shape(polygon((0.28, 0.32), (0.39, 0.12), (0.41, 0.40)), fur),
        Shape(skull, fur),
    ]
    face = [
        _plain(polygon((0.33, 0.29), (0.375, 0.19), (0.39, 0.33)), dark),
        _plain(blob((0.05, 0.505), (0.16, 0.47), (0.30, 0.47), (0.30, 0.55), (0.17, 0.56)), WHITE),
        _plain(ellipse(0.055, 0.495, 0.032, 0.028), BLACK),
    ]
    return [*part, far, body, details, head, face, *eye(0.225, 0.41, 0.033)]


def hare(part: list[Group], s: Sway) -> list[Group]:
    """Sandy, sitting; the part is its ears."""
    fur, pale = (0.80, 0.66, 0.46), (0.95, 0.88, 0.74)
    trunk = blob((0.36, 0.48), (0.56, 0.46), (0.74, 0.62), (0.78, 0.84), (0.60, 0.93), (0.38, 0.90),
                 (0.32, 0.66))  # fmt: skip
    body = [
        Shape(ellipse(0.80, 0.76, 0.09, 0.08), WHITE),
        Shape(trunk, fur),
        Shape(ellipse(0.64, 0.77, 0.15, 0.14), fur),
    ]
    front = [
        _plain(ellipse(0.43, 0.66, 0.08, 0.15), pale),
        Shape(limb((0.38, 0.66, 0.09), (0.35 + s[2], 0.90, 0.07)), fur),
        Shape(limb((0.64, 0.90, 0.07), (0.48 + s[3], 0.92, 0.08)), fur),
    ]
    skull = blob((0.19, 0.44), (0.24, 0.30), (0.38, 0.26), (0.51, 0.36), (0.49, 0.50), (0.35, 0.56),
                 (0.23, 0.54))  # fmt: skip
    face = [
        _plain(ellipse(0.25, 0.49, 0.065, 0.055), pale),
        _plain(ellipse(0.205, 0.45, 0.028, 0.022), (0.85, 0.35, 0.42)),
    ]
    return [body, front, [Shape(skull, fur)], face, *part, *eye(0.345, 0.39, 0.04)]


def tapir(part: list[Group], s: Sway) -> list[Group]:
    """Heavy and blue-grey with a pale saddle; the part is its nose."""
    hide, shade = (0.42, 0.47, 0.58), (0.30, 0.34, 0.44)
    far = [
        Shape(limb((0.44, 0.66, 0.12), (0.46 + s[1], 0.91, 0.10)), shade),
        Shape(limb((0.76, 0.66, 0.12), (0.74 + s[2], 0.91, 0.10)), shade),
    ]
    trunk = blob((0.30, 0.44), (0.50, 0.28), (0.76, 0.30), (0.92, 0.46), (0.90, 0.66), (0.70, 0.76),
                 (0.42, 0.74))  # fmt: skip
    body = [
        Shape(limb((0.90, 0.44, 0.05), (0.97, 0.56 + s[3], 0.04)), hide),
        Shape(trunk, hide),
        Shape(limb((0.40, 0.66, 0.13), (0.38 + s[4], 0.92, 0.11)), hide),
        Shape(limb((0.82, 0.64, 0.14), (0.84 + s[5], 0.92, 0.11)), hide),
    ]
    saddle = blob(
        (0.56, 0.30), (0.74, 0.32), (0.78, 0.52), (0.72, 0.70), (0.58, 0.66), (0.54, 0.46)
    )
    skull = blob((0.13, 0.48), (0.20, 0.34), (0.34, 0.28), (0.46, 0.40), (0.42, 0.58), (0.24, 0.60))
    ear = [Shape(ellipse(0.40, 0.29, 0.06, 0.09, 0.4), shade)]
    mouth = [_plain(limb((0.17, 0.56, 0.015), (0.25, 0.565, 0.015)), shade)]
    return [
        far, body, [_plain(saddle, (0.80, 0.82, 0.84))], [Shape(skull, hide)], mouth, *part, ear,
        *eye(0.29, 0.40, 0.033),
    ]  # fmt: skip


def snail(part: list[Group], s: Sway) -> list[Group]:
    """Lime-coloured, crawling; the part is its shell."""
    skin = (0.72, 0.78, 0.36)
    neck = (0.15 + s[1], 0.66)
    foot = limb((0.97, 0.88, 0.03), (0.70, 0.84, 0.15), (0.36, 0.84, 0.17),
                (0.20 + s[1], 0.76, 0.16), (*neck, 0.15))  # fmt: skip
    stalks = [
        Shape(limb((*neck, 0.05), (0.06 + s[2], 0.42, 0.035)), skin),
        Shape(limb((neck[0] + 0.04, 0.64, 0.05), (0.24 + s[3], 0.38, 0.035)), skin),
    ]
    mouth = [
        _plain(limb((0.09 + s[1], 0.71, 0.015), (0.14 + s[1], 0.73, 0.015)), (0.35, 0.38, 0.14))
    ]
    eyes = [*eye(0.06 + s[2], 0.40, 0.05), *eye(0.24 + s[3], 0.36, 0.05)]
    return [[*stalks, Shape(foot, skin)], mouth, *part, *eyes]


def eagle(part: list[Group], s: Sway) -> list[Group]:
    """Dark brown, perched; the part is its head."""
    brown, wing, gold = (0.42, 0.28, 0.18), (0.28, 0.18, 0.12), (0.96, 0.74, 0.14)
    tail = [
        Shape(limb((0.58, 0.70, 0.16), (0.66 + s[1], 0.97, 0.10)), wing),
        Shape(limb((0.60, 0.70, 0.14), (0.74 + s[1], 0.94, 0.09)), wing),
    ]
    trunk = blob((0.34, 0.48), (0.48, 0.34), (0.64, 0.38), (0.72, 0.60), (0.62, 0.82), (0.44, 0.82),
                 (0.33, 0.66))  # fmt: skip
    legs = [
        Shape(limb((0.44, 0.76, 0.11), (0.42, 0.90, 0.05)), brown),
        Shape(limb((0.55, 0.76, 0.11), (0.55, 0.90, 0.05)), brown),
        Shape(limb((0.35, 0.94, 0.04), (0.42, 0.91, 0.06), (0.47, 0.94, 0.04)), gold),
        Shape(limb((0.49, 0.94, 0.04), (0.55, 0.91, 0.06), (0.61, 0.94, 0.04)), gold),
    ]
    fold = blob((0.56, 0.42), (0.70, 0.40), (0.80 + s[2], 0.62), (0.76 + s[2], 0.88), (0.66, 0.76),
                (0.56, 0.60))  # fmt: skip
    quills = [
        _plain(limb((0.62 + d, 0.54, 0.015), (0.70 + d + s[2], 0.76, 0.015)), (0.50, 0.36, 0.24))
        for d in (0.0, 0.05)
    ]
    speckles = [
        _plain(ellipse(x, y, 0.02, 0.03), (0.62, 0.46, 0.32))
        for x, y in ((0.42, 0.56), (0.50, 0.62), (0.42, 0.68), (0.50, 0.74))
    ]
    return [tail, legs, [Shape(trunk, brown)], speckles, [Shape(fold, wing)], quills, *part]


def ibis(part: list[Group], s: Sway) -> list[Group]:
    """Pale pink with a long bent bill; the part is its legs."""
    down, shade, bill = (0.97, 0.82, 0.82), (0.90, 0.62, 0.66), (0.16, 0.14, 0.18)
    tail = [
        Shape(limb((0.72, 0.36, 0.14), (0.94, 0.36 + s[2], 0.05)), shade),
        Shape(limb((0.72, 0.40, 0.14), (0.90, 0.48 + s[2], 0.05)), shade),
    ]
    throat = limb(
        (0.40, 0.42, 0.15), (0.30, 0.34, 0.11), (0.34, 0.20, 0.10), (0.25 + s[3], 0.12, 0.12)
    )
    beak = limb((0.20 + s[3], 0.12, 0.06), (0.09 + s[3], 0.19, 0.045), (0.04 + s[3], 0.34, 0.02))
    trunk = blob((0.32, 0.42), (0.44, 0.28), (0.66, 0.26), (0.80, 0.36), (0.70, 0.50), (0.48, 0.55))
    wing = blob((0.46, 0.36), (0.62, 0.29), (0.84, 0.38 + s[4]), (0.68, 0.46), (0.52, 0.46))
    crown = [*eye(0.245 + s[3], 0.115, 0.03)]
    body = [Shape(trunk, down), Shape(throat, down)]
    return [*part, tail, [Shape(beak, bill)], body, [Shape(wing, shade)], *crown]


def fish(part: list[Group], s: Sway) -> list[Group]:
    """Blue and plump; the part is the mark on its flank."""
    scales, fin, belly = (0.26, 0.56, 0.86), (0.16, 0.36, 0.70), (0.70, 0.86, 0.94)
    fins = [
        Shape(blob((0.74, 0.50), (0.96, 0.24 + s[1]), (0.90, 0.50), (0.97, 0.76 + s[2])), fin),
        Shape(blob((0.30, 0.34), (0.44, 0.10 + s[3]), (0.66, 0.16 + s[3]), (0.66, 0.34)), fin),
        Shape(blob((0.42, 0.70), (0.52, 0.88 + s[4]), (0.64, 0.84 + s[4]), (0.62, 0.66)), fin),
    ]
    trunk = blob((0.05, 0.52), (0.20, 0.32), (0.46, 0.25), (0.68, 0.36), (0.82, 0.50), (0.68, 0.66),
                 (0.46, 0.76), (0.20, 0.70))  # fmt: skip
    paunch = blob(
        (0.12, 0.60), (0.30, 0.62), (0.50, 0.68), (0.64, 0.66), (0.46, 0.75), (0.21, 0.69)
    )
    face = [
        _plain(limb((0.06, 0.57, 0.018), (0.13, 0.585, 0.018)), (0.10, 0.20, 0.40)),
        _plain(limb((0.27, 0.40, 0.018), (0.29, 0.52, 0.018), (0.27, 0.62, 0.018)), fin),
    ]
    return [
        fins,
        [Shape(trunk, scales), _plain(paunch, belly)],
        face,
        *part,
        *eye(0.185, 0.45, 0.048),
    ]


def lizard(part: list[Group], s: Sway) -> list[Group]:
    """Green, low and long; the part is its crest."""
    skin, shade, spot = (0.30, 0.62, 0.26), (0.20, 0.46, 0.20), (0.62, 0.82, 0.32)
    far = [
        Shape(
            limb((0.40, 0.70, 0.09), (0.46 + s[1], 0.84, 0.07), (0.42 + s[1], 0.91, 0.06)), shade
        ),
        Shape(
            limb((0.66, 0.72, 0.09), (0.72 + s[2], 0.84, 0.07), (0.68 + s[2], 0.91, 0.06)), shade
        ),
    ]
    trunk = limb((0.98, 0.52 + s[3], 0.02), (0.90, 0.74, 0.08), (0.70, 0.70, 0.19),
                 (0.50, 0.66, 0.22), (0.32, 0.60, 0.19))  # fmt: skip
    body = [
        Shape(trunk, skin),
        Shape(limb((0.36, 0.68, 0.10), (0.30 + s[4], 0.82, 0.08), (0.34 + s[4], 0.92, 0.07)), skin),
        Shape(limb((0.64, 0.70, 0.11), (0.58 + s[5], 0.83, 0.08), (0.62 + s[5], 0.92, 0.07)), skin),
    ]
    spots = [
        _plain(ellipse(x, y, 0.026, 0.022), spot)
        for x, y in ((0.46, 0.61), (0.55, 0.66), (0.63, 0.64), (0.72, 0.68), (0.80, 0.70))
    ]
    skull = blob((0.03, 0.58), (0.12, 0.46), (0.28, 0.44), (0.42, 0.52), (0.38, 0.66), (0.16, 0.68))
    smile = [
        _plain(
            limb((0.05, 0.605, 0.016), (0.16, 0.62, 0.016), (0.25, 0.59, 0.016)), (0.10, 0.24, 0.10)
        )
    ]
    return [far, body, spots, *part, [Shape(skull, skin)], smile, *eye(0.20, 0.51, 0.042)]


BODIES: tuple[Callable[[list[Group], Sway], list[Group]], ...] = (
    fox, hare, tapir, snail, eagle, ibis, fish, lizard,
)  # fmt: skip


def draw(species: int, variant: int, sway: Sway, without: Collection[int] = ()) -> list[Group]:
    """Groups of one animal in the unit square, back to front, without some of its pieces."""
    return left_out(BODIES[species](PARTS[species][variant](sway), sway), without)
