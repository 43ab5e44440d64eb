"""Grids of four recognised pictures, and what the pointing game says of known maps."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny import tiny

from attnguide.data.grids import grids
from attnguide.data.pictures import Item, Sample
from attnguide.data.views import to_view
from attnguide.evaluation.localisation import (
    both_signs,
    grid_pointing,
    negative_share,
    positive_share,
    regions,
    relevance_by_region,
)
from attnguide.evaluation.metrics import cell_sums
from attnguide.models.reader import UnreadableImage

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (128, 128, 128)]


class ByColour(torch.nn.Module):
    """Knows four colours for certain, and nothing of any other."""

    def __init__(self):
        super().__init__()
        self.certainty = torch.nn.Parameter(torch.tensor(40.0))

    def forward(self, images):
        mean = images.mean((2, 3)) * 0.5 + 0.5
        known = torch.tensor(COLOURS[:4]) / 255
        return self.certainty * (0.5 - torch.cdist(mean, known)).clamp(min=0)


def picture(name, colour, target):
    names = ("",) if target is not None else ()
    targets = (target,) if target is not None else ()
    return Sample(name, Image.new("RGB", (16, 16), COLOURS[colour]), targets, names)


def item(name, colour, label):
    return Item(name, partial(picture, name, colour, label), label)


def broken():
    raise UnreadableImage("broken", "no picture")


@pytest.fixture
def by_colour(tiny_vit):
    return replace(tiny_vit, module=ByColour(), class_names=tuple("RGBY"))


def test_a_grid_has_four_classes_each_in_its_cell(by_colour):
    items = [item(f"{n}", n % 4, n % 4) for n in (0, 4, 1, 2, 3, 5, 6, 7)]
    found = grids(by_colour, items, 5)
    assert sorted("+".join(grid.id for grid in found.items).split("+")) == list("01234567")
    assert [grid.number for grid in found.items] == [0, 1]
    sample = found.items[0].load()
    assert sorted(sample.targets) == [0, 1, 2, 3]
    pixels = np.asarray(sample.picture)
    for place, corner in enumerate(((0, 0), (0, 15), (15, 0), (15, 15))):
        assert tuple(pixels[corner]) == COLOURS[sample.targets[place]]
        assert sample.masks[place][corner]
        assert sample.masks[place].sum() == 64
    assert [float(cover.sum()) for cover in to_view(by_colour, sample).objects] == [4.0] * 4


def test_what_is_not_recognised_is_left_out_and_counted(by_colour):
    items = [item("grey", 4, None), item("wrong", 0, 2), Item("broken", broken)]
    items += [item(f"{n}", n, None) for n in range(4)]
    found = grids(by_colour, items, 1)
    assert [sorted(grid.id.split("+")) for grid in found.items] == [list("0123")]
    assert "of 7 pictures, of which 3 were left out" in found.note


def test_pictures_of_one_class_make_no_grid(by_colour):
    assert not grids(by_colour, [item(f"{n}", 0, 0) for n in range(8)], 2).items


def test_patches_that_cannot_be_halved_make_no_grid():
    found = grids(tiny(img_size=(12, 16)), [item("0", 0, 0)], 1)
    assert found.items == ()
    assert "3 x 4 patches cannot be halved" in found.note


def rows_of(relevance, cell):
    """Measured as one target of a 4 x 4 grid of patches."""
    objects = []
    for number in range(4):
        part = torch.zeros(4, 4)
        part[2 * (number // 2) :, 2 * (number % 2) :][:2, :2] = 1
        objects.append(part)
    known = relevance_by_region(relevance, regions(objects, cell))
    return pd.DataFrame([{"image_id": "a", "regions": "cells", **known}])


def test_a_map_that_is_the_mask_scores_one_its_negation_zero_and_a_uniform_one_the_area():
    mask = torch.zeros(4, 4)
    mask[:2, :2] = 1
    right = rows_of(mask - (1 - mask), 0)
    assert float(positive_share("target")(right)[0]) == 1
    assert float(negative_share("other")(right)[0]) == 1
    assert float(both_signs(right)[0]) == 1
    wrong = rows_of((1 - mask) - mask, 0)
    assert float(positive_share("target")(wrong)[0]) == 0
    assert float(both_signs(wrong)[0]) == 0
    assert float(positive_share("target")(rows_of(torch.ones(4, 4), 0))[0]) == 0.25


def test_the_pointing_game_is_the_share_of_positive_relevance_per_cell():
    relevance = torch.tensor([[1.0, -2, 0, 1], [3, 1, -1, 0], [0, 2, 1, 1], [1, 0, -3, 2]])
    positive = relevance.clamp(min=0)
    expected = (cell_sums(positive, 2) / float(positive.sum())).ravel()
    found = [float(grid_pointing(rows_of(relevance, n))[0]) for n in range(4)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found, [5 / 13, 1 / 13, 3 / 13, 4 / 13], atol=1e-12)
    assert float(grid_pointing(rows_of(-positive, 0))[0]) == 0  # no positive mass at all
