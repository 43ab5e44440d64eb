"""Pairs of photographs, set side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image

from attnguide.data.pictures import Item, Sample, Selection, numbered
from attnguide.types import ViT


def pair_up(vit: ViT, singles: Sequence[Item]) -> Selection:
    """Every picture beside another, squashed to the halves of the model's input.

    Picture i of the first half and picture i of the second make two pairs, either way round,
    which share a unit. The last picture of an odd number is paired with the first and joins its
    unit, so that units are small: pictures that stand in several pairs are not independent.

    Args:
        vit: Whose input is divided, at a patch border.
        singles: The complete choice, all labelled.

    Returns:
        Pairs of different classes; the others are counted in `note`.
    """
    half = len(singles) // 2
    both = [(i, i + half) for i in range(half)] + [(i + half, i) for i in range(half)]
    if len(singles) % 2 and half:
        both.append((len(singles) - 1, 0))
    edge = round(vit.grid[1] / 2) * vit.patch_size[1]
    items = []
    for i, j in both:
        left, right, first = singles[i], singles[j], min(i, j)
        if left.label != right.label:
            load = partial(_side_by_side, left, right, vit.image_size, edge)
            unit = "+".join(sorted((singles[first].id, singles[first + half].id)))
            sources, facts = left.sources + right.sources, f"classes {left.label}, {right.label}"
            items.append(
                Item(f"{left.id}+{right.id}", load, unit=unit, sources=sources, facts=facts)
            )
    same = len(both) - len(items)
    note = f"Pairs of one class twice that were left out: {same}." if same else ""
    return Selection(numbered(items), note)


def _side_by_side(first: Item, second: Item, size: tuple[int, int], edge: int) -> Sample:
    """Two pictures squashed to the halves of a canvas, each half a region.

    Args:
        first, second: Left and right.
        size: (height, width) of the canvas in pixels.
        edge: Column where the right one begins.
    """
    left, right = first.load(), second.load()
    height, width = size
    canvas = Image.new("RGB", (width, height))
    for sample, start, stop in ((left, 0, edge), (right, edge, width)):
        part = sample.picture.resize((stop - start, height), Image.Resampling.BICUBIC)
        canvas.paste(part, (start, 0))
    own = np.zeros((height, width), dtype=bool)
    own[:, :edge] = True
    return Sample(
        f"{left.id}+{right.id}",
        canvas,
        (left.targets[0], right.targets[0]),
        (left.names[0], right.names[0]),
        (own, ~own),
        regions="halves",
        as_is=True,
    )
