"""Pictures of every kind and form, chosen evenly and always the same."""

import hashlib
import logging
import os
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny import tiny
from torch.utils.data import DataLoader

from attnguide import wrap_model
from attnguide.data import Photographs, share
from attnguide.data.choice import sample
from attnguide.data.dataset import picture_id
from attnguide.data.find import find_photographs
from attnguide.models.preprocess import Preprocess
from attnguide.models.reader import UnreadableImage

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(COLOURS).save(path)


@pytest.fixture
def named(tmp_path):
    """Folders named by three classes of the tiny model, pictures and other files in them."""
    for index, count in ((0, 4), (2, 2), (4, 3)):
        for number in range(count):
            save(tmp_path / f"class_{index}" / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "class_0" / "._0.png").write_bytes(b"what some systems leave behind")
    return tmp_path


def found(root, vit=None, **settings):
    """All chosen items."""
    return Photographs("folder", str(root), **settings).all(vit or tiny()).items


def labels(items):
    return {item.id: item.label for item in items}


# Folders


def test_class_named_folders_are_labelled(named, caplog):
    caplog.set_level(logging.INFO)
    items = found(named)
    assert labels(items) == {
        f"class_{index}/{number}.png": index
        for index, count in ((0, 4), (2, 2), (4, 3))
        for number in range(count)
    }
    assert "9 pictures in 3 class-named folders" in caplog.text
    np.testing.assert_array_equal(np.asarray(items[0].load().picture), COLOURS)


def test_flat_folder_and_single_file_have_no_labels(tmp_path):
    save(tmp_path / "b.JPG")
    save(tmp_path / "a.png")
    assert labels(found(tmp_path)) == {"a.png": None, "b.JPG": None}
    pictures = Photographs("folder", str(tmp_path))
    for ask in (lambda: pictures.check(labels=True), lambda: pictures.singles(tiny())):
        with pytest.raises(ValueError, match="2 of 2 pictures have no label, such as a.png"):
            ask()
    pictures.check(labels=False)
    assert list(labels(found(tmp_path / "b.JPG"))) == ["b.JPG"]


def test_pictures_beside_class_folders_are_kept_without_label(named):
    save(named / "stray.png")
    items = found(named)
    assert labels(items)["stray.png"] is None
    assert len(items) == 10


def test_folders_the_model_does_not_know(named, caplog):
    save(named / "clas_3" / "x.png")
    with pytest.raises(
        ValueError, match=r"1 classes .* none of tiny class_token's: clas_3; .*class"
    ):
        found(named)
    assert {item.label for item in found(named, other_model())} == {None}
    assert "knows none of the classes" in caplog.text
    with pytest.raises(ValueError, match=r"have no label.* other has no class clas_3: unknown"):
        Photographs("folder", str(named)).singles(other_model())


def other_model():
    return wrap_model(tiny().module, Preprocess((16, 16)), list("abcde"), name="other")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "nowhere", "does not exist"),
        (lambda path: path, "no pictures in"),
    ],
)
def test_missing_and_empty_roots_are_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        Photographs("folder", str(make(tmp_path))).check(labels=False)


def test_unreadable_root_is_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("attnguide.data.folders.os.scandir", refuse)
    with pytest.raises(ValueError, match=r"cannot read data.root .*: Permission denied"):
        find_photographs("folder", tmp_path)


def test_root_comes_from_the_environment(named, monkeypatch):
    monkeypatch.setenv("IMAGENET_DIR", str(named))
    assert len(Photographs("imagenet_val").all(tiny()).items) == 9
    monkeypatch.delenv("IMAGENET_DIR")
    with pytest.raises(ValueError, match=r"'imagenet_val' needs pictures: .*data.root.*HF_TOKEN"):
        Photographs("imagenet_val").check(labels=False)


def test_what_is_found_is_a_dataset_of_the_datasets_library(named):
    dataset = find_photographs("folder", named).dataset
    assert isinstance(dataset, Dataset)
    assert dataset[4] == {
        "id": "class_2/0.png",
        "key": "class_2",
        "file": os.fsencode(named / "class_2" / "0.png"),
        "group": None,
        "row": None,
    }


# Choosing


def test_sampling_takes_the_smallest_hashes_of_each_class():
    ids = [f"{label}/{number}.png" for label in range(7) for number in range(30)]
    labels = [label for label in range(7) for _ in range(30)]
    chosen = sample(ids, labels, 35, seed=3)
    expected = []
    for label in range(7):
        names = [i for i in range(len(ids)) if labels[i] == label]
        names.sort(key=lambda i: hashlib.sha256(f"3:{ids[i].split('/')[1]}".encode()).hexdigest())
        expected += names[:5]
    assert chosen == sorted(expected)


def test_sampling_does_not_depend_on_the_order_of_files():
    rng = np.random.default_rng(0)
    ids = [f"{label}/{label}-{number}.png" for label in range(5) for number in range(9)]
    labels = [label for label in range(5) for _ in range(9)]
    order = rng.permutation(len(ids))
    first = {ids[i] for i in sample(ids, labels, 17, seed=0)}
    shuffled = [ids[i] for i in order]
    again = {shuffled[i] for i in sample(shuffled, [labels[i] for i in order], 17, seed=0)}
    assert first == again
    assert Counter(name[0] for name in first).most_common()[-1][1] >= 3


def test_fewer_pictures_than_classes_are_of_different_classes_and_nested():
    ids = [f"{label}/{label}-{number}.png" for label in range(20) for number in range(3)]
    labels = [label for label in range(20) for _ in range(3)]
    some, more = (sample(ids, labels, count, seed=0) for count in (8, 13))
    assert len({labels[i] for i in some}) == 8
    assert set(some) < set(more)
    assert some != sample(ids, labels, 8, seed=1)


def test_exclusion_comes_after_the_choice_and_is_counted(named):
    kept = Photographs("folder", str(named), num_images=6).singles(tiny(), exclude=[2])
    assert Counter(item.label for item in kept.items) == {0: 2, 4: 2}
    assert [item.number for item in kept.items] == [0, 1, 2, 3]
    assert kept.note == "Pictures of the guide's class that were left out: 2."


def test_shards_are_a_partition(named):
    whole = found(named, num_images=7)
    parts = [share(whole, shard, 3) for shard in range(3)]
    assert [item for part in parts for item in part] == list(whole)
    assert sorted(map(len, parts)) == [2, 2, 3]
    assert share(whole[:1], 0, 2) == ()  # an empty part is a part
    with pytest.raises(ValueError, match=r"data.shard must lie in \[0, 2\].*got 3"):
        share(whole, 3, 3)


def test_asking_for_more_than_there_is_takes_all_and_says_so(named, caplog):
    assert len(found(named, num_images=50)) == 9
    assert "asked for 50 pictures, found 9" in caplog.text


def test_imagenet_names_are_one_in_every_form():
    canonical = "ILSVRC2012_val_00000293.JPEG"
    for path in (
        "n02391049/ILSVRC2012_val_00000293.JPEG",
        "ILSVRC2012_val_00000293.jpg",
        "ILSVRC2012_val_00000293_n02391049.JPEG",
    ):
        assert picture_id(path) == canonical
    assert picture_id("n02391049/my.png") == "n02391049/my.png"


# Loading


@pytest.fixture
def spoiled(named):
    (named / "class_2" / "1.png").write_bytes(b"broken")
    return named


def test_unreadable_pictures_are_named(spoiled):
    unread = {}
    for item in found(spoiled):
        try:
            assert item.load().id == item.id
        except UnreadableImage as error:
            unread[item.id] = str(error)
    assert list(unread) == ["class_2/1.png"]
    assert unread["class_2/1.png"].startswith(
        "cannot read the picture class_2/1.png: not a picture"
    )


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"unknown data.on_error 'skipp'; did you mean skip"):
        Photographs(on_error="skipp")
    with pytest.raises(ValueError, match="data.num_images must be at least 1, got 0"):
        Photographs(num_images=0)
    with pytest.raises(ValueError, match="data.seed must not be negative, got -1"):
        Photographs(seed=-1)
    with pytest.raises(ValueError, match=r"data.framed takes two different classes, got \['a'\]"):
        Photographs(framed=["a"])
    with pytest.raises(ValueError, match=r"data.rewrites takes two different .*\['a', 'a'\]"):
        Photographs(rewrites=[["a", "b"], ["a", "a"]])


@pytest.mark.parametrize("workers", [0, 2])
def test_items_load_in_workers(spoiled, workers):
    items = [found(spoiled)[number] for number in (8, 0)]
    loader = DataLoader(Pixels(items), batch_size=None, num_workers=workers)
    for pixels in loader:
        torch.testing.assert_close(pixels, tiny().preprocess([Image.fromarray(COLOURS)])[0])


class Pixels:
    """Items as a map-style data set."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return tiny().preprocess([self.items[number].load().picture])[0]


def test_the_600_pictures_have_the_labels_of_their_wnids(shared):
    from timm.data import ImageNetInfo

    vit = wrap_model(tiny(num_classes=1000).module, Preprocess((16, 16)))
    items = Photographs(root=str(shared / "assets" / "imagenet_sample")).singles(vit).items
    assert len(items) == len({item.label for item in items}) == 600
    names = ImageNetInfo().label_names()
    for item in items:
        assert names[item.label] == item.id.split("/")[0]
    assert labels(items)["n02391049/n02391049_zebra.JPEG"] == 340
    assert sum(item.load().targets == (item.label,) for item in items[::40]) == 15
