"""Photographs in folders: names, classes and files of every kind, chosen evenly and the same."""

import hashlib
import logging
import os
import tarfile
from collections import Counter

import numpy as np
import pytest
from picture_forms import chosen, labels, model_of, save
from tiny import tiny

from attnguide import wrap_model
from attnguide.data import Photographs, share
from attnguide.data.find import find_photographs
from attnguide.data.listing import picture_id
from attnguide.data.photographs import sample
from attnguide.data.pictures import guide_from_file
from attnguide.models.preprocess import Preprocess
from attnguide.models.reader import UnreadableImage


@pytest.fixture
def named(tmp_path):
    """Folders named by three classes of the tiny model, pictures and other files in them."""
    for index, count in ((0, 4), (2, 2), (4, 3)):
        for number in range(count):
            save(tmp_path / f"class_{index}" / f"{number}.png", 10 * number)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "class_0" / "._0.png").write_bytes(b"what some systems leave behind")
    return tmp_path


# Folders


def test_class_named_folders_are_labelled(named, caplog):
    caplog.set_level(logging.INFO)
    assert labels(chosen(named)) == {
        f"class_{index}/{number}.png": index
        for index, count in ((0, 4), (2, 2), (4, 3))
        for number in range(count)
    }
    assert "9 pictures in 3 class-named folders" in caplog.text
    picture = find_photographs("folder", named).photographs[4]
    assert picture == ("class_2/0.png", "class_2", str(named / "class_2" / "0.png"), None)


def test_classes_called_train_and_test_are_classes(tmp_path):
    vit = model_of("train", "test", "val set")
    for number, name in enumerate(("train", "test", "val_set")):
        save(tmp_path / name / f"{number}.png")
    assert labels(chosen(tmp_path, vit)) == {"test/1.png": 1, "train/0.png": 0, "val_set/2.png": 2}


def test_folders_of_two_depths_keep_their_classes(named):
    save(named / "stray.png")
    save(named / "class_2" / "old" / "deep" / "7.png")
    save(named / "class_2" / ".hidden" / "8.png")
    found = labels(chosen(named))
    assert len(found) == 11
    assert found["stray.png"] is None
    assert found["class_2/old/deep/7.png"] == found["class_2/1.png"] == 2
    (named / "class_1").symlink_to(named / "class_4")  # a folder by a link
    assert labels(chosen(named))["class_1/0.png"] == 1


@pytest.mark.parametrize("back", ["..", ".", "more", "../.far"])
def test_linked_folders_in_a_class_are_read_once_whatever_they_lead_to(back, named):
    save(named / ".far" / "deep" / "9.png")
    (named / "class_4" / "more").symlink_to(named / ".far")
    (named / ".far" / "back").symlink_to(named / "class_4" / back)
    found = labels(chosen(named))
    assert len(found) == 10
    assert found["class_4/more/deep/9.png"] == 4


def test_flat_folder_and_single_file_have_no_labels(tmp_path):
    save(tmp_path / "b.JPG")
    save(tmp_path / "a.png")
    assert labels(chosen(tmp_path)) == {"a.png": None, "b.JPG": None}
    pictures = Photographs("folder", str(tmp_path))
    for ask in (lambda: pictures.check(labels=True), lambda: pictures.singles(tiny())):
        with pytest.raises(ValueError, match="2 of 2 pictures have no label, such as a.png"):
            ask()
    pictures.check(labels=False)
    assert [*labels(chosen(tmp_path / "b.JPG"))] == ["b.JPG"]


def test_folders_the_model_does_not_know(named, caplog):
    save(named / "clas_3" / "x.png")
    with pytest.raises(
        ValueError, match=r"1 classes .* none of tiny class_token's: clas_3; .*class"
    ):
        chosen(named)
    other = model_of(*"abcde")
    assert {item.label for item in chosen(named, other)} == {None}
    assert "knows none of the classes" in caplog.text
    with pytest.raises(ValueError, match=r"4 classes .* are none of .*: clas_3, .*unknown"):
        Photographs("folder", str(named)).singles(other)


@pytest.mark.parametrize(("place", "message"), [("x", "does not exist"), ("", "no pictures in")])
def test_missing_and_empty_roots_are_refused(tmp_path, place, message):
    with pytest.raises(ValueError, match=message):
        Photographs("folder", str(tmp_path / place)).check(labels=False)


FORMS = {
    "saved/data-00000-of-00001.arrow": r"is of `datasets` \(save_to_disk\); write load_from",
    "saved/train/data-00000-of-00001.arrow": "save_to_disk",
    "x.zip": "x.zip is an archive; unpack it",
    "some/x.tar.gz": "x.tar.gz is an archive",
    "val.txt": "a list of pictures; pass data.root=FOLDER data.list=FILE",
    "deep/x.npy": "a file of arrays or records",
    "x.tfrecord": "a file of arrays or records",
    "160px/test-0.parquet": "pass the folder of its .parquet files, .*/160px; ",
    "x.json": "a list of pictures",
    "a/b/x.tar": "pass the folder of its .tar files, .*/a/b; ",
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_that_are_not_read_are_named_by_what_they_are(name, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    (tmp_path / "README.md").touch()
    deep = name.endswith((".parquet", "x.tar"))
    for root in (tmp_path, *[tmp_path / name] * (not deep)):
        with pytest.raises(ValueError, match=rf"no pictures in .*{FORMS[name]}"):
            find_photographs("folder", root)


COCO = '{"info": {"year": 2017}, "images": [{"file_name": "a.png"}], "annotations": []}'


@pytest.mark.parametrize("name", ["instances_val2017.json", "_annotations.coco.json"])
@pytest.mark.parametrize("place", ["", "annotations", "../annotations"])
@pytest.mark.parametrize("picture", ["a.png", "val2017/a.png"])
def test_annotations_of_coco_are_named(name, place, picture, tmp_path):
    root, file = tmp_path / "data", tmp_path / "data" / place / name
    root.mkdir()
    file.parent.mkdir(exist_ok=True)
    file.write_text(COCO)
    told = f"{name} is of COCO .annotations., which is not read; write a csv"
    for given in (root, file) if place != "../annotations" else (file,):
        with pytest.raises(ValueError, match=f"no pictures in .*: {told}"):
            find_photographs("folder", given)
    save(root / picture)
    with pytest.raises(ValueError, match=told):
        Photographs(root=str(root)).singles(tiny())


def test_a_folder_in_a_tar_file_is_no_class_and_the_log_says_what_to_do(named, caplog):
    with tarfile.open(named / "x.tar", "w") as tar:
        for folder in sorted(named.glob("class*")):
            tar.add(folder, folder.name)
    photographs = Photographs(root=str(named / "x.tar"))
    with pytest.raises(ValueError, match="no label.*folders count as classes once it is unpacked"):
        photographs.check(labels=True)


@pytest.mark.parametrize("folder", ["class 3", "class_3", "Class_3"])
def test_a_guide_in_a_class_folder_that_is_a_link_is_of_this_class(folder, tmp_path):
    save(tmp_path / "store" / folder / "a.png")
    (tmp_path / "mine").symlink_to(tmp_path / "store" / folder)
    (tmp_path / "b.png").symlink_to(tmp_path / "mine" / "a.png")
    for path in ("mine/a.png", "b.png"):
        assert guide_from_file(tiny(), str(tmp_path / path)).label == 3


def test_unreadable_root_is_refused(named, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(ValueError, match=r"cannot read data.root .*: Permission denied"):
        find_photographs("folder", named)


def test_root_comes_from_the_environment(named, monkeypatch):
    monkeypatch.setenv("IMAGENET_DIR", str(named))
    assert len(Photographs("imagenet_val").all(tiny()).items) == 9
    monkeypatch.delenv("IMAGENET_DIR")
    with pytest.raises(ValueError, match=r"'imagenet_val' needs pictures: .*data.root.*HF_TOKEN"):
        Photographs("imagenet_val").check(labels=False)


def test_a_class_that_is_called_by_a_number_wins_over_the_number(tmp_path):
    for name in ("1", "2", "10"):
        save(tmp_path / name / "a.png")
    vit = model_of("0", "1", "10", "2")
    assert labels(chosen(tmp_path, vit)) == {"1/a.png": 1, "2/a.png": 3, "10/a.png": 2}
    save(tmp_path / "3" / "a.png")  # would be class "2" if it were taken as a number
    with pytest.raises(ValueError, match=r"1 classes .* none of .*: 3; unknown class '3'"):
        chosen(tmp_path, vit)


def test_numbered_folders_are_the_models_numbers_and_the_log_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("0", "3", "004"):
        save(tmp_path / name / "a.png")
    vit = model_of(*"abcde")
    assert labels(chosen(tmp_path, vit)) == {"0/a.png": 0, "3/a.png": 3, "004/a.png": 4}
    assert "the label numbers are taken as the model's" in caplog.text
    save(tmp_path / "5" / "a.png")
    with pytest.raises(ValueError, match=r"none of .*: 5; class index must lie in \[0, 4\]"):
        chosen(tmp_path, vit)


def test_names_with_umlauts_brackets_and_of_other_encodings(tmp_path, monkeypatch):
    decomposed = "Ba\u0308r [braun]"  # as some systems write it
    save(tmp_path / "data [x]" / decomposed / "a[0]'b.png")
    vit = model_of("B\u00e4r [braun]", "other")
    assert labels(chosen(tmp_path / "data [x]", vit)) == {"B\u00e4r [braun]/a[0]'b.png": 0}
    save(tmp_path / "bytes" / "x.png")
    (tmp_path / "bytes" / "x.png").rename(
        os.fsdecode(os.fsencode(tmp_path) + b"/bytes/caf\xe9.png")
    )
    (item,) = chosen(tmp_path / "bytes", vit)
    assert item.id == r"caf\xe9.png"
    assert item.load().picture.size == (8, 6)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(chosen("~/data [x]", vit)) == 1


def test_a_root_by_a_relative_path_is_read_from_anywhere(named, monkeypatch):
    monkeypatch.chdir(named)
    items = chosen("class_0")
    monkeypatch.chdir(named.parent)
    assert items[0].load().id == "0.png"


def test_files_of_other_kinds_are_counted_and_named(named, caplog):
    caplog.set_level(logging.INFO)
    save(named / "class_0" / "x.jfif.png")
    for name in ("class_0/a.jp2", "class_0/b.JP2", "c.heic"):
        (named / name).write_bytes(b"")
    (named / "class_0" / "d.jfif").write_bytes((named / "class_0" / "0.png").read_bytes())
    assert len(chosen(named)) == 11
    assert "files of other kinds left out: 1 .heic, 2 .jp2" in caplog.text


def test_one_picture_in_two_classes_is_refused(tmp_path):
    for name in ("class_1", "class_2"):
        save(tmp_path / name / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match=r"^ILSVRC2012_val_00000001.JPEG appears twice in: 2 pict"):
        Photographs(root=str(tmp_path)).check(labels=False)


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
    whole = chosen(named, num_images=7)
    parts = [share(whole, shard, 3) for shard in range(3)]
    assert [item for part in parts for item in part] == list(whole)
    assert sorted(map(len, parts)) == [2, 2, 3]
    assert share(whole[:1], 0, 2) == ()  # an empty part is a part


def test_asking_for_more_than_there_is_takes_all_and_says_so(named, caplog):
    caplog.set_level(logging.INFO)
    assert len(chosen(named, num_images=50)) == 9
    assert "all 9 pictures are taken (data.num_images=50)" in caplog.text


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
    for item in chosen(spoiled):
        try:
            assert item.load().id == item.id
        except UnreadableImage as error:
            unread[item.id] = str(error)
    assert list(unread) == ["class_2/1.png"]
    assert unread["class_2/1.png"].startswith(
        "cannot read the picture class_2/1.png: not a picture"
    )


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
