"""Pictures of every kind and form, chosen evenly and always the same."""

import hashlib
import logging
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny
from torch.utils.data import DataLoader

from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.find import find_pictures
from attnguide.data.folders import picture_id
from attnguide.data.pictures import UnreadableImage
from attnguide.data.source import IndexedImages, open_source, sample
from attnguide.models.preprocess import Preprocess

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


# Folders


def test_class_named_folders_are_labelled(named, caplog):
    caplog.set_level(logging.INFO)
    source = open_source(tiny(), name="folder", root=named)
    assert dict(zip(source.ids, source.labels, strict=True)) == {
        f"class_{index}/{number}.png": index
        for index, count in ((0, 4), (2, 2), (4, 3))
        for number in range(count)
    }
    assert "9 pictures in 3 class-named folders" in caplog.text
    np.testing.assert_array_equal(np.asarray(source.load(0)), COLOURS)


def test_flat_folder_and_single_file_have_no_labels(tmp_path):
    save(tmp_path / "b.JPG")
    save(tmp_path / "a.png")
    source = open_source(tiny(), name="folder", root=tmp_path)
    assert source.ids == ("a.png", "b.JPG")
    assert source.labels == (None, None)
    with pytest.raises(ValueError, match="2 of 2 pictures have no label, such as a.png"):
        source.require_labels()
    assert open_source(tiny(), name="folder", root=tmp_path / "b.JPG").ids == ("b.JPG",)


def test_pictures_beside_class_folders_are_kept_without_label(named):
    save(named / "stray.png")
    source = open_source(tiny(), name="folder", root=named)
    assert dict(zip(source.ids, source.labels, strict=True))["stray.png"] is None
    assert len(source) == 10


def test_folders_the_model_does_not_know(named, caplog):
    save(named / "clas_3" / "x.png")
    with pytest.raises(
        ValueError, match=r"1 classes .* none of tiny class_token's: clas_3; .*class"
    ):
        open_source(tiny(), name="folder", root=named)
    source = open_source(other_model(), name="folder", root=named)
    assert set(source.labels) == {None}
    assert "knows none of the classes" in caplog.text


def other_model():
    from attnguide import wrap_model

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
        open_source(tiny(), name="folder", root=make(tmp_path))


def test_unreadable_root_is_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("attnguide.data.folders.os.scandir", refuse)
    with pytest.raises(ValueError, match=r"cannot read data.root .*: Permission denied"):
        find_pictures("folder", tmp_path)


def test_root_comes_from_the_environment(named, monkeypatch):
    monkeypatch.setenv("IMAGENET_DIR", str(named))
    assert len(open_source(tiny(), name="imagenet_val")) == 9
    monkeypatch.delenv("IMAGENET_DIR")
    with pytest.raises(ValueError, match=r"'imagenet_val' needs pictures: .*data.root.*HF_TOKEN"):
        open_source(tiny(), name="imagenet_val")


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
    source = open_source(tiny(), name="folder", root=named, num_images=6, exclude=[2])
    assert Counter(source.labels) == {0: 2, 4: 2}
    assert source.excluded == 2


def test_shards_are_a_partition(named):
    whole = open_source(tiny(), name="folder", root=named, num_images=7)
    parts = [
        open_source(tiny(), name="folder", root=named, num_images=7, shard=i, num_shards=3)
        for i in range(3)
    ]
    assert [name for part in parts for name in part.ids] == list(whole.ids)
    assert sorted(map(len, parts)) == [2, 2, 3]


def test_asking_for_more_than_there_is_takes_all_and_says_so(named, caplog):
    assert len(open_source(tiny(), name="folder", root=named, num_images=50)) == 9
    assert "asked for 50 pictures, found 9" in caplog.text


def test_digest_names_the_choice_and_not_its_order(named):
    source = open_source(tiny(), name="folder", root=named)
    turned = source.select(range(len(source))[::-1])
    assert turned.ids == source.ids[::-1]
    assert turned.digest == source.digest != source.select([0, 1]).digest


def test_imagenet_names_are_one_in_every_form():
    canonical = "ILSVRC2012_val_00000293.JPEG"
    for path in (
        "n02391049/ILSVRC2012_val_00000293.JPEG",
        "ILSVRC2012_val_00000293.jpg",
        "ILSVRC2012_val_00000293_n02391049.JPEG",
    ):
        assert picture_id(path) == canonical
    assert picture_id("n02391049/my.png") == "n02391049/my.png"


# Creatures


def test_creatures_are_even_over_classes_and_reproducible():
    from attnguide import load_model

    vit = load_model("creatures")
    source = open_source(vit, num_images=32, seed=5)
    assert source.labels == tuple(range(16)) * 2
    again = open_source(vit, num_images=20, seed=5)
    np.testing.assert_array_equal(np.asarray(source.load(19)), np.asarray(again.load(19)))
    other = open_source(vit, num_images=20, seed=6)
    assert (np.asarray(source.load(19)) != np.asarray(other.load(19))).any()
    scenes = open_source(vit, name="creature_pairs", num_images=16)
    assert sorted(scenes.labels) == list(range(16))
    assert vit.class_names == CLASS_NAMES


# Loading


@pytest.fixture
def spoiled(named):
    (named / "class_2" / "1.png").write_bytes(b"broken")
    return named


def test_unreadable_pictures_are_skipped_and_named_or_refused(spoiled, caplog):
    source = open_source(tiny(), name="folder", root=spoiled)
    read = dict(source.pictures())
    assert len(read) == 8
    assert source.ids.index("class_2/1.png") not in read
    assert "skipped: cannot read the picture class_2/1.png: not a picture" in caplog.text
    with pytest.raises(UnreadableImage, match="class_2/1.png"):
        list(open_source(tiny(), name="folder", root=spoiled, on_error="raise").pictures())


@pytest.mark.parametrize("workers", [0, 2])
def test_indexed_images_load_in_workers_and_leave_out_the_unreadable(spoiled, workers):
    vit = tiny()
    source = open_source(vit, name="folder", root=spoiled)
    images = IndexedImages(source, PreprocessOne(vit.preprocess), [8, 5, 0])
    assert images.ids == (source.ids[8], "class_2/1.png", source.ids[0])
    first, bad, last = list(DataLoader(images, batch_size=None, num_workers=workers))
    assert bad is None
    assert (first[0], last[0]) == (8, 0)
    expected = vit.preprocess([Image.fromarray(COLOURS)])[0]
    torch.testing.assert_close(last[1], expected)


class PreprocessOne:
    def __init__(self, preprocess):
        self.preprocess = preprocess

    def __call__(self, picture):
        return self.preprocess([picture])[0]


def test_the_600_pictures_have_the_labels_of_their_wnids(shared):
    from timm.data import ImageNetInfo

    from attnguide import wrap_model

    vit = wrap_model(tiny(num_classes=1000).module, Preprocess((16, 16)))
    source = open_source(vit, name="sample", root=shared / "assets" / "imagenet_sample")
    assert len(source) == len(set(source.labels)) == 600
    names = ImageNetInfo().label_names()
    for name, label in zip(source.ids, source.require_labels(), strict=True):
        assert names[label] == name.split("/")[0]
    assert source.labels[source.ids.index("n02391049/n02391049_zebra.JPEG")] == 340
    assert sum(1 for _ in source.select(range(0, 600, 40)).pictures()) == 15
