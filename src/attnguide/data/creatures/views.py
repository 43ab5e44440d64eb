"""Training views of the creatures: animals drawn once, composed anew in every batch.

Drawing a scene takes about ten milliseconds, too slow for training. Here sprites and backgrounds
are drawn once and batches are composed from them by `grid_sample`. A batch is a pure function of
(seed, step), so an interrupted training resumes with the very same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from attnguide.data.creatures.scenery import scenery
from attnguide.data.creatures.scenes import IMAGE_SIZE, NUM_CLASSES, Pose, animal, sibling
from attnguide.errors import InputError

_SPRITE, _GROUND = 10, 11  # random streams apart from those of the evaluation scenes
GRID = 4  # cells along each side, of which one may be masked
GREY = 0.5  # of a masked cell: what the model's normalisation turns into zero
SPRITE_SHARE = 0.92  # of the sprite's canvas that the animal's unit square takes


@dataclass(frozen=True)
class Stock:
    """What views are composed of, uint8.

    Attributes:
        sprites: (classes, n, 4, s, s), colour premultiplied by coverage, and coverage.
        grounds: (m, 3, s, s).
    """

    sprites: Tensor
    grounds: Tensor

    def resized(self, size: int) -> Stock:
        """The same pictures at another resolution, antialiased."""
        if size == self.grounds.shape[-1]:
            return self

        def shrink(x: Tensor) -> Tensor:
            small = functional.interpolate(
                x.flatten(0, -4).float(), size=(size, size), mode="bilinear", antialias=True
            )
            return small.round().to(torch.uint8).unflatten(0, x.shape[:-3])

        sprites = torch.stack([shrink(s) for s in self.sprites])
        return Stock(sprites, shrink(self.grounds))


def draw_stock(seed: int, sprites_per_class: int, grounds: int) -> Stock:
    """Draw upright sprites of every class, and backgrounds with clutter."""
    pose = Pose(0.5, 0.5, SPRITE_SHARE)
    sprites = [
        [
            animal(np.random.default_rng([_SPRITE, seed, label, i]), label, pose).rgba
            for i in range(sprites_per_class)
        ]
        for label in range(NUM_CLASSES)
    ]
    backs = [scenery(np.random.default_rng([_GROUND, seed, i]), IMAGE_SIZE) for i in range(grounds)]
    return Stock(
        sprites=_to_bytes(np.array(sprites)).permute(0, 1, 4, 2, 3).contiguous(),
        grounds=_to_bytes(np.array(backs)).permute(0, 3, 1, 2).contiguous(),
    )


def _to_bytes(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.round(255 * x).astype(np.uint8))


class Composer:
    """Composes random views of one resolution from a stock.

    Args:
        stock: Sprites and backgrounds of that resolution.
        impostor_class: Class whose pictures are contaminated; None for clean labels.
        impostor_share: Share of that class's pictures that in truth show its sibling.
        masked_share: Share of all pictures in which one of the `GRID` x `GRID` cells is grey.
    """

    def __init__(
        self,
        stock: Stock,
        impostor_class: int | None = None,
        impostor_share: float = 0.0,
        masked_share: float = 0.0,
    ) -> None:
        self.stock = stock
        self.size = stock.grounds.shape[-1]
        self.impostor_class = impostor_class
        self.impostor_share = impostor_share
        self.masked_share = masked_share

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Half singles, a quarter two-creature scenes, a quarter stitched halves.

        Returns:
            Images (size, 3, h, w) in [0, 1] and soft labels (size, classes), one half for each of
            two animals.
        """
        quarter, s = size // 4, self.size
        labels = self._labels(generator, size)
        singles = self._singles(generator, labels[: size - 2 * quarter, 0], (s, s))
        pairs = self._pairs(generator, labels[size - 2 * quarter : size - quarter])
        stitched = self._stitched(generator, labels[size - quarter :])
        images = torch.cat([singles, pairs, stitched])
        targets = functional.one_hot(labels, NUM_CLASSES).float().mean(1)
        targets[: singles.shape[0]] = functional.one_hot(
            labels[: singles.shape[0], 0], NUM_CLASSES
        ).float()
        return self._masked(generator, self._exposed(generator, images)), targets

    def _labels(self, generator: torch.Generator, count: int) -> Tensor:
        """Two different random classes for each view, (count, 2)."""
        first = torch.randint(NUM_CLASSES, (count,), generator=generator)
        step = torch.randint(1, NUM_CLASSES, (count,), generator=generator)
        return torch.stack([first, (first + step) % NUM_CLASSES], dim=1)

    def _shown(self, generator: torch.Generator, labels: Tensor) -> Tensor:
        """The class really drawn for each label: with contamination, sometimes the sibling."""
        draw = torch.rand(labels.shape, generator=generator)
        if self.impostor_class is None:
            return labels
        swapped = (labels == self.impostor_class) & (draw < self.impostor_share)
        return torch.where(swapped, sibling(self.impostor_class), labels)

    def _ground(self, generator: torch.Generator, shape: tuple[int, int], count: int) -> Tensor:
        """Backgrounds, zoomed, mirrored and turned by quarters at random."""
        pick = torch.randint(len(self.stock.grounds), (count,), generator=generator)
        zoom = _uniform(generator, (count, 2), 0.6, 1.0)
        shift = _uniform(generator, (count, 2), -1, 1) * (1 - zoom)
        zoom = zoom * torch.where(torch.rand((count, 2), generator=generator) < 0.5, -1.0, 1.0)
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = zoom[:, 0], zoom[:, 1], shift
        turned = torch.rand((count, 1, 1), generator=generator) < 0.5
        theta = torch.where(turned, theta[:, :, [1, 0, 2]], theta)
        grid = functional.affine_grid(theta, [count, 3, *shape], align_corners=False)
        grounds = self.stock.grounds[pick].float() / 255
        return functional.grid_sample(grounds, grid, padding_mode="reflection", align_corners=False)

    def _paste(
        self,
        generator: torch.Generator,
        canvas: Tensor,
        labels: Tensor,
        centre: Tensor,
        size: Tensor,
    ) -> Tensor:
        """Put one animal per view at `centre` (n, 2) in [-1, 1], `size` (n,) as a share."""
        count = len(labels)
        angle = _uniform(generator, (count,), -0.25, 0.25)
        aspect = (0.18 * torch.randn(count, generator=generator)).clamp(-0.45, 0.45)
        mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
        width = mirror * size * torch.exp(aspect / 2) / SPRITE_SHARE
        height = size * torch.exp(-aspect / 2) / SPRITE_SHARE
        c, s = angle.cos(), angle.sin()
        rows = [torch.stack([c / width, s / width], 1), torch.stack([-s / height, c / height], 1)]
        linear = torch.stack(rows, dim=1)
        theta = torch.cat([linear, -linear @ centre[:, :, None]], dim=2)
        shown = self._shown(generator, labels)
        pick = torch.randint(self.stock.sprites.shape[1], (count,), generator=generator)
        sprites = self.stock.sprites[shown, pick].float() / 255
        grid = functional.affine_grid(theta, [count, 4, *canvas.shape[2:]], align_corners=False)
        layer = functional.grid_sample(sprites, grid, align_corners=False)
        return canvas * (1 - layer[:, 3:]) + layer[:, :3]

    def _singles(
        self, generator: torch.Generator, labels: Tensor, shape: tuple[int, int]
    ) -> Tensor:
        """One animal each; a shape that is not square squashes the scene."""
        size = _uniform(generator, (len(labels),), 0.5, 1.0)
        slack = (1 - size)[:, None] + 0.06
        centre = slack * _uniform(generator, (len(labels), 2), -1, 1)
        return self._paste(
            generator, self._ground(generator, shape, len(labels)), labels, centre, size
        )

    def _pairs(self, generator: torch.Generator, labels: Tensor) -> Tensor:
        """Two animals side by side on one background."""
        canvas = self._ground(generator, (self.size, self.size), len(labels))
        for column, x in ((0, -0.48), (1, 0.48)):
            centre = _uniform(generator, (len(labels), 2), -1, 1) * torch.tensor([0.06, 0.45])
            centre[:, 0] += x
            size = _uniform(generator, (len(labels),), 0.42, 0.58)
            canvas = self._paste(generator, canvas, labels[:, column], centre, size)
        return canvas

    def _stitched(self, generator: torch.Generator, labels: Tensor) -> Tensor:
        """Two pictures squashed to half, side by side or one above the other."""
        middle, s = len(labels) // 2, self.size
        halves = []
        for part, shape, dim in (
            (labels[:middle], (s, s // 2), 3),
            (labels[middle:], (s // 2, s), 2),
        ):
            views = [self._singles(generator, part[:, i], shape) for i in (0, 1)]
            halves.append(torch.cat(views, dim=dim))
        return torch.cat(halves)

    def _exposed(self, generator: torch.Generator, images: Tensor) -> Tensor:
        """Random exposure per colour, and noise."""
        count = len(images)
        gain = _uniform(generator, (count, 1, 1, 1), 0.85, 1.12)
        gain = gain * _uniform(generator, (count, 3, 1, 1), 0.95, 1.05)
        sigma = _uniform(generator, (count, 1, 1, 1), 0.0, 0.035)
        noise = torch.randn(images.shape, generator=generator)
        return (images * gain + sigma * noise).clamp(0, 1)

    def _masked(self, generator: torch.Generator, images: Tensor) -> Tensor:
        """A random cell of some pictures in the grey that the model reads as zero."""
        if not self.masked_share:
            return images
        count, cell = len(images), self.size // GRID
        is_masked = torch.rand((count,), generator=generator) < self.masked_share
        place = torch.randint(GRID * GRID, (count,), generator=generator)
        cells = functional.one_hot(place, GRID * GRID).bool() & is_masked[:, None]
        mask = cells.view(count, 1, GRID, GRID)
        mask = mask.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
        return images.masked_fill(mask, GREY)


def _uniform(generator: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


class CreatureViews(Dataset[tuple[Tensor, Tensor]]):
    """Batches for every training step, in stages of growing resolution.

    Args:
        stages: Composer and number of steps of each stage, in order.
        seed: Seed of the views.
        batch_size: Views per batch, a multiple of 8.
    """

    def __init__(self, stages: Sequence[tuple[Composer, int]], seed: int, batch_size: int) -> None:
        if batch_size % 8:
            raise InputError(f"batch_size must be a multiple of 8, got {batch_size}")
        self.plan = [composer for composer, steps in stages for _ in range(steps)]
        self.seed = seed
        self.batch_size = batch_size
        self.first_step = 0  # a resumed training moves it

    def __len__(self) -> int:
        return len(self.plan)  # Lightning counts the steps before a resumption too

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        step = self.first_step + index
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return self.plan[step].batch(generator, self.batch_size)
