"""Creatures as a set of pictures: the scenes of the seed, with the model's numbers of classes."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import tiny

from attnguide.data import Creatures
from attnguide.data.creatures import scenes
from attnguide.data.creatures.scenes import CLASS_NAMES


def names(items):
    return [item.load().names for item in items]


def test_single_creatures_are_the_scenes_with_their_masks(creatures):
    found = Creatures(seed=5, num_images=20).singles(creatures).items
    assert [item.id for item in found] == [f"creatures-5-{number}" for number in range(20)]
    assert [item.label for item in found] == [number % 16 for number in range(20)]
    assert [item.number for item in found] == list(range(20))
    scene, sample = scenes.single(5, 17, 1), found[17].load()
    assert sample.names == ("thin-tailed fox",)
    assert sample.targets == (1,)
    assert np.array_equal(np.asarray(sample.picture), np.asarray(scene.to_pil()))
    assert np.array_equal(sample.masks[0], scene.animal_masks[0].numpy())
    assert np.array_equal(sample.parts[0], scene.part_masks[0].numpy())


def test_200_creatures_where_no_number_is_given(creatures):
    for chosen in (Creatures().singles(creatures), Creatures(num_images=None).singles(creatures)):
        assert len(chosen.items) == (216 if chosen.items[-1].id == "creatures-0-215" else 200)
    assert len(Creatures(num_images=None).pairs(creatures).items) == 200


def test_creatures_have_the_models_numbers(creatures):
    turned = replace(creatures, class_names=CLASS_NAMES[::-1])
    item = Creatures().singles(turned).items[2]
    assert (item.label, item.load().targets, item.load().names) == (13, (13,), ("long-eared hare",))
    assert Creatures().pairs(turned).items[0].load().targets == tuple(
        15 - label for label in scenes.pair(0, 0).labels
    )
    with pytest.raises(ValueError, match="unknown class 'bushy-tailed fox'"):
        Creatures().singles(tiny())


def test_pairs_of_creatures_are_scenes_of_two(creatures):
    items = Creatures(seed=2, num_images=4).pairs(creatures).items
    assert [item.id for item in items] == [f"pair-2-{number}" for number in range(4)]
    sample, scene = items[3].load(), scenes.pair(2, 3)
    assert sample.targets == scene.labels
    assert np.array_equal(sample.masks[1], scene.animal_masks[1].numpy())
    shown = Creatures(seed=2, num_images=1).shown_pairs(creatures, 3).items
    assert [item.id for item in shown] == [f"pair-2-{number}" for number in range(3)]
    assert Creatures().boxed(creatures).items == ()


def test_all_creatures_are_scenes_labelled_by_the_left_one(creatures):
    items = Creatures(seed=1, num_images=16).all(creatures).items
    assert sorted(item.label for item in items) == list(range(16))
    scene = scenes.pair(1, 9, (3, 9))
    sample = items[9].load()
    assert (items[9].id, sample.targets, sample.names) == (
        "creature_pairs-1-9",
        (3,),
        ("lop-eared hare",),
    )
    assert np.array_equal(np.asarray(sample.picture), np.asarray(scene.to_pil()))
    assert np.array_equal(sample.masks, [scene.animal_masks[0].numpy()])
    unknown = Creatures(num_images=1).all(tiny()).items[0]
    assert (unknown.label, unknown.load().targets, unknown.load().masks) == (None, (), None)


def test_shown_creatures_are_the_first_of_their_classes(creatures):
    shown = Creatures(seed=4).shown_singles(creatures, 2).items
    assert [item.id for item in shown] == ["creatures-4-4", "creatures-4-6"]
    assert names(shown) == [("trunk-nosed tapir",), ("spiral-shelled snail",)]
    assert len(Creatures().shown_singles(creatures, 99).items) == 6
    with pytest.raises(ValueError, match=r"unknown creature 'eagel'; known: bushy-tailed fox, "):
        Creatures(shown=["eagel"])


def test_the_contaminated_class_and_its_controls(creatures):
    world = Creatures(seed=3)
    impostors = world.impostors(creatures, 3)
    assert [item.id for item in impostors] == [f"impostor-3-{number}" for number in range(3)]
    assert names(impostors) == [("white-headed eagle",)] * 3
    expected = scenes.single(3, 1, 8).to_pil()
    assert np.array_equal(np.asarray(impostors[1].load().picture), np.asarray(expected))
    guided = [item.load() for item in world.beside_another(creatures, 16)]
    assert {sample.names[0] for sample in guided} == {"white-headed eagle"}
    assert not any("eagle" in sample.names[1] for sample in guided)
    assert len({sample.names[1] for sample in guided}) == 14
    controls = world.beside_another(creatures, 14, control=True)
    assert {sample.names[0] for sample in (item.load() for item in controls)} == {
        name for name in CLASS_NAMES if "eagle" not in name
    }
    assert [item.part for item in (impostors[0], controls[0])] == ["contamination", "control"]
    sibling = world.sibling(creatures, guided[0])
    assert creatures.class_names[sibling] == "red-necked eagle"
    assert world.contaminated == ("creatures", "creatures_contaminated")


def test_a_composed_scene_has_the_sample_and_the_other_class(creatures):
    world = Creatures(num_images=3)
    sample = world.singles(creatures).items[2].load()
    composed = world.compose(creatures, sample, 9)
    assert composed.id == f"{sample.id}@composed"
    assert composed.targets == sample.targets
    assert composed.names == (CLASS_NAMES[2], CLASS_NAMES[9])
    assert len(composed.masks) == 2
    with pytest.raises(ValueError, match="two different classes"):
        world.compose(creatures, sample, 2)
