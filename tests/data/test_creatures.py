"""The world of the creatures: a pure function of seed and index, with exact masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from attnguide.data.creatures.scenes import (
    CLASS_NAMES,
    Pose,
    Scene,
    animal,
    guide,
    pair,
    sibling,
    single,
    species,
)

CLASSES = range(len(CLASS_NAMES))
# mean red, green and blue of three scenes, written down when the committed checkpoint was trained
WORLD = [[0.7193, 0.5513, 0.8859], [0.7845, 0.3891, 0.8597], [0.5810, 0.5220, 0.6614]]


def grown(mask: Tensor, by: int = 1) -> Tensor:
    """A mask with a rim of `by` pixels, for the antialiased edge."""
    return functional.max_pool2d(mask[None].float(), 2 * by + 1, stride=1, padding=by)[0] > 0


def shrunk(mask: Tensor) -> Tensor:
    return ~grown(~mask)


def changed(a: Scene, b: Scene) -> Tensor:
    return (a.image != b.image).any(0)


def same(a: Scene, b: Scene) -> bool:
    return (
        (a.id, a.labels) == (b.id, b.labels)
        and torch.equal(a.image, b.image)
        and all(map(torch.equal, a.animal_masks, b.animal_masks))
        and all(map(torch.equal, a.part_masks, b.part_masks))
    )


@pytest.mark.parametrize("kind", [single, pair])
def test_scene_depends_on_seed_and_index_alone(kind) -> None:
    forward = [kind(3, index) for index in range(4)]
    torch.rand(7)
    backward = [kind(3, index) for index in (3, 2, 1, 0)]
    assert all(same(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    others = [*forward[1:], kind(4, 0)]
    assert not any(torch.equal(forward[0].image, other.image) for other in others)


def test_world_is_the_one_the_checkpoint_was_trained_on() -> None:
    drawn = torch.stack([single(0, 0).image, pair(0, 0).image, guide(8).image]).mean((2, 3))
    torch.testing.assert_close(drawn, torch.tensor(WORLD), atol=2e-3, rtol=0)


def test_picture_survives_eight_bits() -> None:
    scene = single(0, 1)
    pixels = torch.tensor(list(scene.to_pil().tobytes())).reshape(96, 96, 3).permute(2, 0, 1)
    torch.testing.assert_close(pixels / 255, scene.image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("label", CLASSES)
def test_siblings_differ_in_the_part_alone(label: int) -> None:
    pose = Pose(0.5, 0.5, 0.8, angle=0.1, aspect=0.1, mirrored=label % 3 == 0)
    own, other = (
        animal(np.random.default_rng(label // 2), x, pose) for x in (label, sibling(label))
    )
    untouched = (own.part == 0) & (other.part == 0)
    assert np.array_equal(own.rgba[untouched], other.rgba[untouched])
    covered = (own.part == 1) & (own.rgba[..., 3] == 1)
    assert (own.rgba != other.rgba).any(-1)[covered].mean() > 0.9
    assert own.part.sum() > 0.05 * own.rgba[..., 3].sum()


def test_part_mask_is_where_siblings_differ_in_a_scene() -> None:
    for index in range(16):
        own, other = single(5, index, index), single(5, index, sibling(index))
        parts = own.part_masks[0] | other.part_masks[0]
        difference = changed(own, other)
        assert grown(parts)[difference].float().mean() > 0.98  # tips below half a pixel are in none
        assert difference[shrunk(parts)].float().mean() > 0.8


@pytest.mark.parametrize("label", CLASSES)
def test_animal_mask_is_exact(label: int) -> None:
    # another animal at the same place changes the animals' pixels and nothing else
    own, other = single(6, label, label), single(6, label, (label + 4) % len(CLASS_NAMES))
    both = own.animal_masks[0] | other.animal_masks[0]
    assert not (changed(own, other) & ~grown(both)).any()
    only_one = own.animal_masks[0] ^ other.animal_masks[0]
    assert changed(own, other)[only_one].float().mean() > 0.95


def test_pairs_have_disjoint_masks_and_two_species() -> None:
    for index in range(24):
        scene = pair(7, index)
        first, second = scene.animal_masks
        assert species(scene.labels[0]) != species(scene.labels[1])
        assert not (first & second).any()
        assert min(first.sum(), second.sum()) > 400
        for whole, part in zip(scene.animal_masks, scene.part_masks, strict=True):
            assert not (part & ~whole).any()
        columns = torch.arange(96.0)
        centres = [(mask.sum(0) * columns).sum() / mask.sum() for mask in scene.animal_masks]
        assert centres[0] + 20 < centres[1]  # the first label is the left animal


def test_visible_masks_leave_out_what_is_covered() -> None:
    # exchanging the hidden, left animal changes nothing inside the right one
    scenes = [pair(8, index, (a, 7)) for index in range(20) for a in (0, 2)]
    for own, other in zip(scenes[::2], scenes[1::2], strict=True):
        assert torch.equal(own.animal_masks[1], other.animal_masks[1])
        assert not changed(own, other)[shrunk(own.animal_masks[1])].any()


def test_asked_classes_are_drawn_and_all_classes_occur() -> None:
    assert pair(1, 2, (8, 9)).labels == (8, 9)
    assert guide(5).labels == (5,)
    assert {single(9, index).labels[0] for index in range(120)} == set(CLASSES)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: single(0, 0, 16), "label must lie in 0..15, got 16"),
        (lambda: guide(-1), "label must lie in 0..15, got -1"),
        (lambda: single(-1, 0), "must not be negative, got seed=-1"),
        (lambda: pair(0, 0, (3, 3)), "two different classes, got 3 twice"),
    ],
)
def test_bad_input_is_named(call, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        call()
