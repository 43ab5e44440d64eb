"""Which pictures are measured and shown, with their classes, masks and units."""

import logging
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attnguide.data import Creatures, Photographs, Pictures
from attnguide.data.photographs import pair_up
from attnguide.data.pictures import Item, Sample
from attnguide.data.views import to_view

WNIDS = {"zebra": "n02391049", "snail": "n01944390", "tusker": "n01871265"}


@pytest.fixture
def folder(tmp_path):
    """Two pictures of snails, one zebra, one tusker, each of one colour."""
    root = tmp_path / "data"
    for number, name in enumerate(("snail", "snail", "zebra", "tusker")):
        path = root / WNIDS[name] / f"{name}{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 40), (60 * number, 90, 10)).save(path)
    return Photographs(root=str(root))


def names(items):
    return [item.load().names for item in items]


# Both kinds


@pytest.mark.parametrize("kind", [Creatures, Photographs])
def test_impossible_settings_are_refused(kind):
    assert issubclass(kind, Pictures)
    with pytest.raises(ValueError, match=r"unknown data.on_error 'skipp'; did you mean skip"):
        kind(on_error="skipp")
    with pytest.raises(ValueError, match="data.num_images must be at least 1, got 0"):
        kind(num_images=0)
    with pytest.raises(ValueError, match="data.seed must not be negative, got -1"):
        kind(seed=-1)
    with pytest.raises(ValueError, match=r"data.framed takes two different classes, got \['a'\]"):
        kind(framed=["a"])
    with pytest.raises(ValueError, match=r"data.rewrites takes two different .*\['a', 'a'\]"):
        kind(rewrites=[["a", "b"], ["a", "a"]])


@pytest.mark.parametrize("drawn", [True, False])
def test_items_can_be_pickled_and_do_not_carry_the_model(drawn, creatures, imagenet, folder):
    pictures, vit = (Creatures(num_images=3), creatures) if drawn else (folder, imagenet)
    items = [*pictures.singles(vit).items, *pictures.pairs(vit).items, *pictures.all(vit).items]
    for item in items:
        stored = pickle.dumps(item)
        assert len(stored) < 4000
        again, sample = pickle.loads(stored).load(), item.load()
        assert again.targets == sample.targets
        assert np.array_equal(np.asarray(again.picture), np.asarray(sample.picture))
        assert sample.id == item.id


def test_equal_targets_are_refused():
    with pytest.raises(ValueError, match="target classes of a must differ, got x, y"):
        Sample("a", Image.new("RGB", (2, 2)), (1, 1), ("x", "y"))


def test_classes_are_left_out_and_counted(creatures):
    found = Creatures(num_images=32).singles(creatures, exclude=[6])
    assert len(found.items) == 30
    assert [item.number for item in found.items] == list(range(30))
    assert found.note == "Pictures of the guide's class that were left out: 2."
    assert 6 not in {item.label for item in found.items}


def test_photographs_without_boxes_are_stitched(imagenet, folder, caplog):
    with caplog.at_level(logging.WARNING):
        shown = folder.shown_pairs(imagenet, 2).items
    assert "stitching" in caplog.text
    assert [item.shown for item in shown] == [None, None]  # the figure shows them
    for item in shown:
        sample = item.load()
        left, right = sample.masks
        assert len(set(sample.targets)) == 2
        assert (left.sum(1) == 16).all()
        assert np.array_equal(left, ~right)
        colours = np.asarray(sample.picture)
        assert (
            len({tuple(c) for c in colours[left]}) == len({tuple(c) for c in colours[right]}) == 1
        )
    every = folder.pairs(imagenet).items
    assert len(every) == 4
    assert all(len(set(pair)) == 2 for pair in names(every))
    view = to_view(imagenet, shown[0].load())
    assert torch.equal(view.objects[0], torch.tensor([1.0, 1, 0, 0]).expand(4, 4))


def singles(*labels):
    return [Item(f"p{number}", None, label) for number, label in enumerate(labels)]


def pairing(vit, *labels):
    return [(item.id, item.unit) for item in pair_up(vit, singles(*labels)).items]


def test_mirrored_pairs_share_a_unit_and_the_last_of_an_odd_number_joins_the_first(imagenet):
    assert pairing(imagenet, 0, 1, 2, 3, 4) == [
        ("p0+p2", "p0+p2"),
        ("p1+p3", "p1+p3"),
        ("p2+p0", "p0+p2"),
        ("p3+p1", "p1+p3"),
        ("p4+p0", "p0+p2"),
    ]
    assert pairing(imagenet, 0, 0, 1) == [("p2+p0", "p0+p1")]


def test_no_picture_stands_in_two_units(imagenet):
    for count in range(2, 14):
        units = {}
        for name, unit in pairing(imagenet, *range(count)):
            for part in name.split("+"):
                assert units.setdefault(part, unit) == unit
        assert len(units) == count


def test_pairs_of_one_class_are_left_out_and_counted(imagenet):
    found = pair_up(imagenet, singles(0, 1, 0, 2))
    assert [item.id for item in found.items] == ["p1+p3", "p3+p1"]
    assert [item.number for item in found.items] == [0, 1]
    assert found.note == "Pairs of one class twice that were left out: 2."


def test_pictures_of_one_class_cannot_be_paired(imagenet, tmp_path):
    (tmp_path / WNIDS["snail"]).mkdir()
    for number in range(2):
        Image.new("RGB", (40, 40)).save(tmp_path / WNIDS["snail"] / f"{number}.png")
    with pytest.raises(ValueError, match="no two pictures of different classes"):
        Photographs(root=str(tmp_path)).pairs(imagenet)


def test_classes_that_the_data_lack_are_named(imagenet, folder, caplog):
    lacking = replace(folder, shown=["zebra", "bald eagle", "kite"])
    with caplog.at_level(logging.WARNING):
        shown = lacking.shown_singles(imagenet, 3)
    assert names(shown.items) == [("zebra",)]
    assert shown.note == "Not shown, since there is no picture: bald eagle, kite."
    assert "no picture of bald eagle, kite" in caplog.text
    others = replace(folder, shown=["bald eagle", "kite"]).shown_singles(imagenet, 2).items
    assert len({item.label for item in others}) == 2
    with pytest.raises(ValueError, match=r"'unicorn'.*'griffin'"):
        replace(folder, shown=["unicorn", "zebra", "griffin"]).shown_singles(imagenet, 3)


def test_shown_photographs_come_from_the_whole_data(imagenet, folder):
    few = replace(folder, num_images=1)
    assert len(few.singles(imagenet).items) == 1
    assert names(few.shown_singles(imagenet, 6).items) == [("tusker",), ("snail",), ("zebra",)]
    own = replace(few, shown=["zebra"]).shown_singles(imagenet, 2)
    assert names(own.items) == [("zebra",)]  # what is asked for, and no more
    assert few.of_class(imagenet, "snail").id == f"{WNIDS['snail']}/snail0.png"
    with pytest.raises(ValueError, match=r"no picture of 'kite' in 4 pictures.*; name a class"):
        few.of_class(imagenet, "kite")


def test_ones_own_classes_take_the_place_of_those_that_are_not_there(imagenet, tmp_path):
    """The default list is ImageNet's, of which a folder has perhaps one class."""
    for wnid in ("n02391049", "n02099601", "n02123045", "n01871265"):
        (tmp_path / wnid).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / wnid / "a.png")
    data = Photographs(root=str(tmp_path))
    shown = data.shown_singles(imagenet, 3)
    assert names(shown.items)[:2] == [("tusker",), ("golden retriever",)]
    assert len(shown.items) == 3
    assert not shown.note
    assert len(data.shown_singles(imagenet, 9).items) == 4


def test_photographs_have_no_siblings_and_no_impostors(imagenet, folder):
    sample = folder.singles(imagenet).items[0].load()
    assert folder.sibling(imagenet, sample) is None
    assert folder.compose(imagenet, sample, 3) is None
    assert folder.contaminated is None
    assert folder.impostors(imagenet, 3) == folder.beside_another(imagenet, 3, control=True) == []
    assert folder.pieces(sample) == ()
    with pytest.raises(ValueError, match="is no drawing, so part cannot be left out"):
        folder.without(sample, ["part"])
