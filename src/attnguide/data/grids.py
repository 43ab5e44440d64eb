"""Grids of 2 x 2 pictures of different classes, each of them recognised alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageOps

from attnguide.data.pictures import Item, Sample, Selection, numbered
from attnguide.data.views import to_view
from attnguide.models.preprocess import steps_of
from attnguide.models.reader import UnreadableImage
from attnguide.types import ViT

SIDE = 2  # pictures along each side: 3 divide no usual grid of patches
CONFIDENCE = 0.5  # probability above which a picture counts as recognised
CHUNK = 16  # pictures recognised at a time, the same in every process


@dataclass(frozen=True)
class Recognised:
    """A picture that the model recognises, and as what."""

    item: Item
    target: int


def grids(vit: ViT, items: Sequence[Item], count: int, seed: int = 0) -> Selection:
    """Up to `count` grids of four classes each; every picture stands in one grid at most.

    Pictures are drawn at random until the grids are full. One without a label counts as what the
    model says it is. Those that the model does not recognise with a probability above
    `CONFIDENCE` are left out and counted in the note.

    Args:
        vit: Recognises the pictures, and gives the size of the grid.
        items: The complete choice.
        count: Of grids.
        seed: Of the order in which pictures are drawn.

    Returns:
        Items of the part "grids", with four targets and the cells as their masks; none where the
        model's patches cannot be divided.
    """
    if any(patches % SIDE for patches in vit.grid):
        rows, cols = vit.grid
        return Selection((), f"No grids: {rows} x {cols} patches cannot be halved.")
    steps_of(vit)  # grids are no pictures for a function: before any is recognised
    drawn = [items[place] for place in np.random.default_rng(seed).permutation(len(items))]
    open_grids: list[list[Recognised]] = []
    seen = known = 0
    for chunk in (drawn[start : start + CHUNK] for start in range(0, len(drawn), CHUNK)):
        if sum(len(grid) == SIDE * SIDE for grid in open_grids) >= count:
            break
        seen += len(chunk)
        for found in recognise(vit, chunk):
            known += 1
            _place(open_grids, found)
    full = [grid for grid in open_grids if len(grid) == SIDE * SIDE][:count]
    note = (
        f"Grids of {SIDE} x {SIDE}: {len(full)}, of {seen} pictures, of which {seen - known} were "
        f"left out, not recognised with a probability above {CONFIDENCE:g}."
    )
    return Selection(numbered(_item(vit, grid) for grid in full), note)


def recognise(vit: ViT, items: Sequence[Item]) -> Iterator[Recognised]:
    """Those pictures that the model recognises with confidence, in order."""
    for item, target, confidence in _seen(vit, items):
        if confidence > CONFIDENCE and item.label in (None, target):
            yield Recognised(item, target)


def answers(vit: ViT, items: Sequence[Item]) -> Iterator[tuple[Item, int]]:
    """The most probable class of every picture that can be read, in order."""
    for start in range(0, len(items), CHUNK):
        for item, target, _ in _seen(vit, items[start : start + CHUNK]):
            yield item, target


def _seen(vit: ViT, items: Sequence[Item]) -> Iterator[tuple[Item, int, float]]:
    """Readable pictures with the most probable class and its probability."""
    loaded = []
    for item in items:
        try:
            loaded.append((item, to_view(vit, item.load()).image))
        except UnreadableImage:
            continue
    if not loaded:
        return
    images = torch.stack([image for _, image in loaded]).to(vit.device, vit.dtype)
    with torch.no_grad():
        confidence, predicted = vit.probabilities(vit.logits(images).double()).max(-1)
    known = zip(loaded, predicted.tolist(), confidence.tolist(), strict=True)
    yield from ((item, target, share) for (item, _), target, share in known)


def cells(size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of pixels of each cell, in reading order."""
    height, width = (length // SIDE for length in size)
    for row in range(SIDE):
        for column in range(SIDE):
            rows = slice(row * height, (row + 1) * height)
            yield rows, slice(column * width, (column + 1) * width)


def _place(open_grids: list[list[Recognised]], found: Recognised) -> None:
    """Into the first grid with room and without this class; else into a new one."""
    for grid in open_grids:
        if len(grid) < SIDE * SIDE and found.target not in {other.target for other in grid}:
            grid.append(found)
            return
    open_grids.append([found])


def _item(vit: ViT, grid: Sequence[Recognised]) -> Item:
    name = "+".join(found.item.id for found in grid)
    names = tuple(vit.class_names[found.target] for found in grid)
    load = partial(_load, name, tuple(grid), names, vit.image_size)
    return Item(name, load, part="grids")


def _load(
    name: str, grid: tuple[Recognised, ...], names: tuple[str, ...], size: tuple[int, int]
) -> Sample:
    """The pictures, cropped to the cell's shape and made smaller."""
    canvas, masks = Image.new("RGB", size[::-1]), []
    for found, (rows, columns) in zip(grid, cells(size), strict=True):
        shape = (columns.stop - columns.start, rows.stop - rows.start)
        picture = ImageOps.fit(found.item.load().picture, shape, Image.Resampling.BICUBIC)
        canvas.paste(picture, (columns.start, rows.start))
        mask = np.zeros(size, dtype=bool)
        mask[rows, columns] = True
        masks.append(mask)
    targets = tuple(found.target for found in grid)
    return Sample(name, canvas, targets, names, tuple(masks), regions="cells", as_is=True)
