"""Cells filled, creatures drawn again without a piece: known networks and maps get known scores."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_model
from running import table_of
from tiny import pictures, tiny

from attnguide.data.creatures import scenes
from attnguide.data.creatures.species import BODIES, draw
from attnguide.data.creatures.world import MAX_BODY, Creatures
from attnguide.data.pictures import Sample
from attnguide.evaluation.deletions import (
    cell_drops,
    deletion_correlation,
    distraction,
    drops,
    find_pieces,
    important,
    kept_and_lost,
    share_on_part,
)
from attnguide.evaluation.metrics import single_deletion


@pytest.fixture
def world():
    return Creatures(num_images=32)


@pytest.fixture
def vit():
    return small_model("creatures")


def sample_of(world, vit, number):
    return world.singles(vit).items[number].load()


@pytest.mark.parametrize("label", range(scenes.NUM_CLASSES))
def test_only_the_part_changes_when_the_part_is_left_out(label):
    whole, without = (scenes.single(3, 5, label, without=names) for names in ((), (0,)))
    changed = (whole.image != without.image).any(0)
    assert changed.any()
    assert changed[whole.part_masks[0]].float().mean() > 0.97  # but where colours are alike
    part = whole.part_masks[0].float()[None, None]
    around = torch.nn.functional.max_pool2d(part, 5, 1, 2)[0, 0] > 0  # antialiased edges
    animal = whole.animal_masks[0].float()[None, None]
    edge = torch.nn.functional.max_pool2d(animal, 5, 1, 2)[0, 0] > 0
    assert not (changed & ~edge).any()
    assert (changed & ~around).sum() < 0.15 * changed.sum()


def test_no_animal_has_more_pieces_than_are_named():
    for species in range(len(BODIES)):
        for variant in (0, 1):
            sway = np.zeros(6)
            assert len(draw(species, variant, sway, {0})) <= MAX_BODY
            assert draw(species, variant, sway, range(MAX_BODY + 1)) == []


def test_an_animal_without_all_its_pieces_is_its_background(world, vit):
    sample = sample_of(world, vit, 0)
    animal = [name for name in world.pieces(sample) if "clutter" not in name]
    empty = np.asarray(world.without(sample, animal).picture)
    whole = np.asarray(sample.picture)
    assert (empty != whole).any(-1)[sample.masks[0]].mean() > 0.97
    again = np.asarray(world.without(sample, ()).picture)
    assert (again == whole).all()


def test_pieces_of_pairs_and_unknown_ones_are_refused(world, vit):
    pair = world.pairs(vit).items[0].load()
    assert world.pieces(pair) == ()
    with pytest.raises(ValueError, match="piece of pair-0-0"):
        world.without(pair, ("part",))
    with pytest.raises(ValueError, match="clutter 9"):
        world.without(sample_of(world, vit, 0), ("clutter 9",))


class BluePart(torch.nn.Module):
    """Class 0 is as sure as the picture's lower half is bright; nothing else counts."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(16))

    def forward(self, images):
        bright = images[:, :, 48:].mean((1, 2, 3))
        return bright[:, None] * self.weight


def redraw(sample, names):
    """Two squares on black, above and below; a dot of clutter at the side."""
    pixels = np.zeros((96, 96, 3), dtype=np.uint8)
    places = {"part": (0, 0), "body 1": (48, 0), "body 2": (72, 48), "clutter 1": (24, 72)}
    for name, (row, column) in places.items():
        if name not in names:
            pixels[row : row + 24, column : column + 24] = 100 if name == "body 2" else 200
    return replace(sample, picture=scenes.Image.fromarray(pixels))


@pytest.fixture
def pieces(vit):
    sample = Sample("drawn", scenes.Image.new("RGB", (96, 96)), (0,), ("x",), as_is=True)
    names = ("part", "body 1", "body 2", "body 3", "clutter 1")
    return find_pieces(vit, redraw(sample, ()), names, redraw)


def test_pieces_are_the_pixels_that_change_and_invisible_ones_are_dropped(pieces):
    assert pieces.names == ("part", "body 1", "body 2", "clutter 1")
    assert pieces.cover[0, 0, 0] == 1
    assert pieces.cover.sum((1, 2)).tolist() == [1, 1, 1, 1]  # patches of 24 pixels


def test_a_model_that_ignores_a_part_loses_nothing_without_it(vit, pieces):
    blind = replace(vit, module=BluePart())
    (fall,), clean = drops(blind, [pieces])
    assert fall[0] == 0
    assert fall[3] == 0
    assert fall[1] == pytest.approx(2 * fall[2], rel=1e-4)
    assert fall[1] == pytest.approx(2 * 200 / 255 / 8, rel=1e-3)  # an eighth of half, mean 0.5
    assert clean.shape == (1, 16)


def test_the_true_order_of_pieces_scores_one_and_its_reverse_minus_one(pieces):
    fall = np.array([0.0, 2.0, 1.0, 0.0])
    truth = np.tensordot(fall, pieces.cover, 1)
    assert deletion_correlation(truth, pieces, fall) == pytest.approx(1)
    assert deletion_correlation(-truth, pieces, fall) == pytest.approx(-1)
    assert np.isnan(deletion_correlation(np.ones((4, 4)), pieces, fall))  # no order


def test_important_pieces_hold_more_than_their_area(pieces):
    relevance = pieces.cover[1] + 0.5 * pieces.cover[2] - pieces.cover[0]
    assert important(relevance, pieces) == ("body 1",)
    assert important(-np.ones((4, 4)), pieces) == ()


def test_shares_on_part_and_clutter_of_known_maps(pieces):
    assert share_on_part(pieces.cover[0], pieces) == 1
    assert share_on_part(np.ones((4, 4)), pieces) == 1 / 16
    assert share_on_part(pieces.cover[1] - pieces.cover[0], pieces) == 0
    fall = np.array([1.0, 1.0, 1.0, 0.0])
    assert distraction(np.ones((4, 4)), pieces, fall, 10.0) == pytest.approx(0)
    assert distraction(pieces.cover[3], pieces, fall, 10.0) == pytest.approx(15 / 16)
    assert distraction(pieces.cover[0], pieces, fall, 10.0) == pytest.approx(-1 / 16)
    busy = np.array([1.0, 1.0, 1.0, 5.0])
    assert np.isnan(distraction(pieces.cover[0], pieces, busy, 10.0))  # the clutter matters


class Bright(torch.nn.Module):
    """Class 0 where the first patch is bright, else class 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(16)[:2])

    def forward(self, images):
        bright = images[:, 0, :24, :24].mean((1, 2)) > 0
        return torch.stack([bright, ~bright], 1).float() @ self.weight


def test_important_pieces_are_enough_and_needed_if_they_decide(vit, pieces):
    decided = replace(vit, module=Bright())
    maps = {"right": [pieces.cover[0]], "wrong": [pieces.cover[1]]}
    found = kept_and_lost(decided, [pieces], maps)
    assert found["right", 0] == (True, True)
    assert found["wrong", 0] == (False, False)


class Corner(torch.nn.Module):
    """Class 0 is the sum over the upper left cell, class 1 twice that of the lower right."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, images):
        corners = [images[:, :, :4, :4].sum((1, 2, 3)), images[:, :, 12:, 12:].sum((1, 2, 3))]
        return torch.stack(corners, 1) * self.weight


def test_a_cell_that_the_class_does_not_use_has_no_fall():
    vit = replace(tiny(num_classes=2), module=Corner())
    images = pictures(vit, 2)
    falls = cell_drops(vit, images, torch.tensor([0, 1]))
    expected = torch.zeros(2, 4, 4, dtype=torch.float64)
    expected[0, 0, 0] = images[0, :, :4, :4].sum()
    expected[1, 3, 3] = 2 * images[1, :, 12:, 12:].sum()
    np.testing.assert_allclose(falls, expected, atol=1e-5)
    assert single_deletion(expected[1], falls[1]) == pytest.approx(1)


def test_both_models_are_measured_and_their_rankings_compared(small_run):
    run_dir = small_run("in_domain_deletion").run_dir
    summary = table_of(run_dir)
    assert set(summary["model"]) == {"creatures", "creatures_masked"}
    assert set(summary["measure"]) == {"rank correlation of cells", "SRG"}
    assert "Do rankings agree" in (run_dir / "report.html").read_text()
