"""Creatures: a procedural image world whose every pixel is known.

Eight species of animals, each in two variants that differ in exactly one part, on textured
backgrounds with clutter. Every scene comes with the exact visible mask of each animal and of its
distinguishing part, so that an explanation can be judged. A scene is a pure function of its
(seed, index): order, process and batch do not matter.

The world is easy by design and does not replace evidence on photographs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from attnguide.data.creatures.shapes import (
    Colour,
    Points,
    Raster,
    Shape,
    ellipse,
    limb,
    rasterise,
    star,
)
from attnguide.data.creatures.species import draw
from attnguide.errors import InputError

IMAGE_SIZE = 96
MAX_CLUTTER = 7  # things in the background
SWAY = 0.03  # largest offset of a posture, as a share of the animal's size
CLASS_NAMES: tuple[str, ...] = (
    "bushy-tailed fox",
    "thin-tailed fox",
    "long-eared hare",
    "lop-eared hare",
    "trunk-nosed tapir",
    "horn-nosed tapir",
    "spiral-shelled snail",
    "spire-shelled snail",
    "white-headed eagle",
    "red-necked eagle",
    "stilt-legged ibis",
    "feather-legged ibis",
    "star-marked fish",
    "band-marked fish",
    "fan-crested lizard",
    "plume-crested lizard",
)
NUM_CLASSES = len(CLASS_NAMES)
_SINGLE, _PAIR, _GUIDE = 0, 1, 2  # separate the random streams of the kinds of scenes


@dataclass(frozen=True)
class Scene:
    """A picture with its ground truth.

    Attributes:
        image: (3, 96, 96) float32 in [0, 1], a multiple of 1/255.
        labels: Class index of each animal.
        animal_masks: Visible pixels of each animal, (96, 96) bool, disjoint.
        part_masks: Visible pixels of each animal's distinguishing part, inside its animal mask.
        id: Kind, seed and index; names the picture in tables.
    """

    image: Tensor
    labels: tuple[int, ...]
    animal_masks: tuple[Tensor, ...]
    part_masks: tuple[Tensor, ...]
    id: str

    def to_pil(self) -> Image.Image:
        """The picture with 8 bits per channel; nothing is lost."""
        pixels = (self.image * 255).round().to(torch.uint8)
        return Image.fromarray(pixels.permute(1, 2, 0).numpy())


class Pose(NamedTuple):
    """Where an animal stands: shares of the canvas, radians, aspect as log(width / height)."""

    x: float
    y: float
    size: float
    angle: float = 0.0
    aspect: float = 0.0
    mirrored: bool = False

    def affine(self, pixels: int) -> NDArray[np.float64]:
        """(2, 3) map from the animal's unit square to pixels of a square canvas."""
        width = self.size * np.exp(self.aspect / 2) * (-1 if self.mirrored else 1)
        height = self.size * np.exp(-self.aspect / 2)
        c, s = np.cos(self.angle), np.sin(self.angle)
        linear = np.array([[c * width, -s * height], [s * width, c * height]])
        offset = np.array([self.x, self.y]) - linear @ np.array([0.5, 0.5])
        return pixels * np.concatenate([linear, offset[:, None]], axis=1)


def sibling(label: int) -> int:
    """The other variant of the same species."""
    return _checked(label) ^ 1


def species(label: int) -> int:
    """Index of the species, 0 to 7."""
    return _checked(label) // 2


def _checked(label: int) -> int:
    if not 0 <= label < NUM_CLASSES:
        raise InputError(f"label must lie in 0..{NUM_CLASSES - 1}, got {label}; see CLASS_NAMES")
    return int(label)


def _generator(kind: int, seed: int, index: int) -> np.random.Generator:
    if seed < 0 or index < 0:
        raise InputError(f"seed and index must not be negative, got seed={seed}, index={index}")
    return np.random.default_rng([kind, seed, index])


def animal(
    rng: np.random.Generator,
    label: int,
    pose: Pose,
    size: int = IMAGE_SIZE,
    without: Collection[int] = (),
) -> Raster:
    """One animal of random posture and tint; the same draws for both variants of a species.

    `without` are the pieces to leave out, as in `shapes.left_out`.
    """
    sway = SWAY * rng.uniform(-1, 1, 6)
    tint = rng.uniform(0.85, 1.1) * rng.uniform(0.92, 1.08, 3)
    groups = draw(species(label), label % 2, sway, without)
    return rasterise(groups, pose.affine(size), (size, size), tuple(tint))


# Backgrounds: smooth texture of two colours with leaves, stones and twigs on it.


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


def _compose(
    rng: np.random.Generator,
    ground: NDArray[np.float32],
    animals: list[Raster],
    labels: tuple[int, ...],
    name: str,
) -> Scene:
    """Lay animals over the ground in order, expose, add noise, round to 8 bits."""
    image = ground
    visible: list[NDArray[np.float32]] = []
    parts: list[NDArray[np.float32]] = []
    for raster in animals:
        alpha = raster.rgba[..., 3]
        image = image * (1 - alpha[..., None]) + raster.rgba[..., :3]
        visible = [v * (1 - alpha) for v in visible] + [alpha]
        parts = [p * (1 - alpha) for p in parts] + [raster.part]
    exposure, grain = rng.uniform(0.9, 1.08), rng.uniform(0.0, 0.03)
    image = image * exposure + grain * rng.standard_normal(image.shape, dtype=np.float32)
    pixels = np.clip(np.round(255 * image), 0, 255).astype(np.float32) / 255
    masks = [v > 0.5 for v in visible]
    return Scene(
        image=torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
        labels=labels,
        animal_masks=tuple(torch.from_numpy(m) for m in masks),
        part_masks=tuple(
            torch.from_numpy((p > 0.5) & m) for p, m in zip(parts, masks, strict=True)
        ),
        id=name,
    )


def single(
    seed: int,
    index: int,
    label: int | None = None,
    *,
    without: Collection[int] = (),
    without_clutter: Collection[int] = (),
) -> Scene:
    """A picture of one animal.

    Args:
        seed: Set of pictures.
        index: Number within the set.
        label: Class; random if absent. Everything else stays as it would be without it.
        without: Pieces of the animal to leave out, as in `shapes.left_out`; no other pixel changes.
        without_clutter: Numbers of the things in the background to leave out; likewise.

    Raises:
        ValueError: negative seed or index, or an unknown label.
    """
    rng = _generator(_SINGLE, seed, index)
    number = int(rng.integers(NUM_CLASSES))
    label = number if label is None else _checked(label)
    size = rng.uniform(0.55, 0.95)
    slack = (1 - size) / 2 + 0.02
    x, y = 0.5 + slack * rng.uniform(-1, 1, 2)
    angle, aspect = 0.2 * rng.uniform(-1, 1), np.clip(0.12 * rng.standard_normal(), -0.3, 0.3)
    pose = Pose(x, y, size, angle, aspect, bool(rng.random() < 0.5))
    ground = scenery(rng, IMAGE_SIZE, without=without_clutter)
    animals = [animal(rng, label, pose, without=without)]
    return _compose(rng, ground, animals, (label,), f"single-{seed}-{index}-{label}")


def pair(seed: int, index: int, labels: tuple[int, int] | None = None) -> Scene:
    """A picture of two animals side by side; of different species unless labels say otherwise.

    Args:
        seed: Set of pictures.
        index: Number within the set.
        labels: Class of the left and of the right animal; random if absent.

    Raises:
        ValueError: negative seed or index, an unknown label, or twice the same.
    """
    rng = _generator(_PAIR, seed, index)
    first = int(rng.integers(NUM_CLASSES))
    second = int((2 * species(first) + 2 + rng.integers(NUM_CLASSES - 2)) % NUM_CLASSES)
    left, right = (first, second) if labels is None else map(_checked, labels)
    if left == right:
        raise InputError(f"a pair needs two different classes, got {left} twice")
    ground = scenery(rng, IMAGE_SIZE, max_clutter=4)
    animals = []
    for label, x in ((left, 0.26), (right, 0.74)):
        size = rng.uniform(0.46, 0.56)
        x, y = x + 0.02 * rng.uniform(-1, 1), rng.uniform(0.32, 0.68)
        angle, aspect = 0.15 * rng.uniform(-1, 1), 0.1 * rng.uniform(-1, 1)
        pose = Pose(x, y, size, angle, aspect, bool(rng.random() < 0.5))
        animals.append(animal(rng, label, pose))
    return _compose(rng, ground, animals, (left, right), f"pair-{seed}-{index}-{left}-{right}")


def guide(label: int, seed: int = 0) -> Scene:
    """A clear, large, upright picture of a class, to be stitched beside others.

    Raises:
        ValueError: negative seed or an unknown label.
    """
    rng = _generator(_GUIDE, seed, _checked(label))
    ground = scenery(rng, IMAGE_SIZE, max_clutter=0)
    raster = animal(rng, label, Pose(0.5, 0.5, 0.9))
    return _compose(rng, ground, [raster], (label,), f"guide-{seed}-{label}")
