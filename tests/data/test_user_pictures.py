"""Pictures given by file: the user's, and two-class photographs with boxes beside the data."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny

from attnguide.data import Photographs
from attnguide.data.user_pictures import boxed_pictures, check_pictures, given_pictures, read_boxes
from attnguide.models.reader import UnreadableImage

BOXES = Path(__file__).resolve().parents[2] / "docs" / "boxes.json"
ZEBRA = "n02391049"


@pytest.fixture
def root(tmp_path):
    """A zebra, and a folder for pairs beside the data."""
    (tmp_path / "data" / ZEBRA).mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "data" / ZEBRA / "a.png")
    (tmp_path / "pairs").mkdir()
    return tmp_path / "data"


def test_boxes_beside_the_pictures_or_in_a_given_file(imagenet, root):
    pairs = root.parent / "pairs"
    Image.new("RGB", (100, 100)).save(pairs / "el2.png")
    given = Photographs(root=str(root), boxes=str(BOXES))
    assert Photographs(root=str(root)).boxed(imagenet).items == ()
    (pairs / "boxes.json").write_text(BOXES.read_text())
    for pictures in (given, Photographs(root=str(root))):
        (item,) = pictures.boxed(imagenet).items
        sample = item.load()
        assert (item.id, item.part, item.label) == ("el2.png", "boxed", None)
        assert (sample.targets, sample.regions) == ((386, 340), "boxes")
        assert sample.masks[1][42:90, 43:93].all()
        assert sample.masks[1].sum() == 48 * 50
        assert sample.masks[0].sum() == 36 * 65 + 14 * 39
    (shown,) = given.shown_pairs(imagenet, 3).items
    assert shown.id == "el2.png"


def test_without_a_folder_of_pairs_nothing_is_boxed(imagenet, root):
    (root.parent / "pairs").rmdir()
    assert Photographs(root=str(root), boxes=str(BOXES)).boxed(imagenet).items == ()
    with pytest.raises(ValueError, match=r"data.cut_outs cuts objects out of .* data.boxes=FILE"):
        Photographs(root=str(root), boxes=str(BOXES), cut_outs=3).check(labels=False)


def test_cut_outs_lie_on_other_photographs_with_a_mask_each(imagenet, root):
    box = [[0.0, 0.0, 0.5, 0.5]], [[0.5, 0.5, 1.0, 1.0]]
    boxes = {"a.png": {"classes": ["zebra", "African elephant"], "boxes": box}}
    (root.parent / "pairs" / "boxes.json").write_text(json.dumps(boxes))
    colours = np.zeros((80, 80, 3), np.uint8)
    colours[:40, :40], colours[40:, 40:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(colours).save(root.parent / "pairs" / "a.png")
    for number, wnid in enumerate(("n01440764", "n01443537", "n01484850")):
        (root / wnid).mkdir()
        Image.new("RGB", (90, 60), (0, 200 + number, 0)).save(root / wnid / f"{number}.png")
    pictures = Photographs(root=str(root), cut_outs=3)
    boxed, *made = (found := pictures.boxed(imagenet)).items
    assert (boxed.id, found.note) == ("a.png", "3 compositions are made of 2 objects.")
    for item in made:  # none on the zebra
        sample, again = item.load(), item.load()
        picture = np.asarray(sample.picture)
        assert sample.as_is
        assert picture.shape[:2] == imagenet.image_size
        assert (np.asarray(again.picture) == picture).all()
        for mask, name in zip(sample.masks, sample.names, strict=True):
            assert (picture[mask].mean(0).argmax() == 0) == (name == "zebra")
        assert picture[~(sample.masks[0] | sample.masks[1])].mean(0).argmax() == 1
        assert not (sample.masks[0] & sample.masks[1]).any()
    assert [item.id for item in pictures.boxed(imagenet).items] == [i.id for i in found.items]


@pytest.mark.parametrize("name", read_boxes(BOXES))
def test_the_documented_boxes_do_not_overlap(name, imagenet, tmp_path):
    Image.new("RGB", (100, 100)).save(tmp_path / name)
    first, second = boxed_pictures(imagenet, tmp_path, BOXES).items[0].load().masks
    assert not (first & second).any()
    assert min(first.mean(), second.mean()) > 0.05


def test_boxes_of_classes_that_the_model_does_not_know_are_counted(tmp_path):
    Image.new("RGB", (100, 100)).save(tmp_path / "el2.png")
    found = boxed_pictures(tiny(), tmp_path, BOXES)
    note = "Pictures with boxes of classes that tiny class_token does not know: 1."
    assert (found.items, found.note) == ((), note)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read the boxes in .*boxes.json"),
        ("[1]", "cannot read the boxes in"),
        ('{"a.png": {"classes": ["x", "y"]}}', "a.png needs two classes and their boxes"),
        (
            '{"a.png": {"classes": ["x", "y"], "boxes": [[[0, 0, 1, 1]]]}}',
            "the boxes of a.png must be a list for each of its 2 classes",
        ),
        (
            '{"a.png": {"classes": ["x", "y"], "boxes": [[[0, 0, 1, 1]], [[0, 0, 50, 90]]]}}',
            r"boxes of a.png .* as shares of the picture in \[0, 1\]",
        ),
        (
            '{"a.png": {"classes": ["x", "y"], "boxes": [[[0, 0, 1]], [[0, 0, 1, 1]]]}}',
            "boxes of a.png",
        ),
    ],
)
def test_boxes_that_are_none_are_refused_before_weights(text, message, root, tmp_path):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Photographs(root=str(root), boxes=str(tmp_path / "boxes.json")).check(labels=False)


def entry(file, *classes, **more):
    return {"file": str(file), "classes": list(classes), **more}


def test_the_users_pictures_are_refused_all_at_once(tmp_path):
    here = tmp_path / "here.png"
    Image.new("RGB", (9, 9)).save(here)
    with pytest.raises(FileNotFoundError, match=r"2 of 3 .*one\.png, .*two\.png; correct"):
        check_pictures([entry("one.png", "a"), entry(here, "a"), entry("two.png", "b")])
    with pytest.raises(ValueError, match="must differ, got zebra, zebra"):
        check_pictures([entry(here, "zebra", "Zebra")], 2)
    with pytest.raises(ValueError, match="needs 2 classes"):
        check_pictures([entry(here, "zebra")], 2)
    with pytest.raises(ValueError, match="file: PATH"):
        check_pictures([{"path": "x", "classes": ["zebra"]}])
    with pytest.raises(
        ValueError, match="the boxes of .*here.png must be a list for each of its 1"
    ):
        check_pictures([entry(here, "zebra", boxes=[[[0, 0, 5, 5]]])])
    check_pictures([entry(here, "zebra", boxes=[[[0, 0, 0.5, 1]]])])


def test_two_pictures_of_one_file_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / folder / "x.png")
    with pytest.raises(ValueError, match="runner.pictures names x.png twice"):
        check_pictures([entry(tmp_path / folder / "x.png", "zebra") for folder in ("a", "b")])


def test_one_class_by_two_names_is_refused(imagenet, tmp_path):
    with pytest.raises(ValueError, match=r"a\.png must differ"):
        given_pictures(imagenet, [entry(tmp_path / "a.png", "zebra", ZEBRA)])


def test_given_pictures_are_items(imagenet, tmp_path):
    Image.new("RGB", (10, 10), (9, 8, 7)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"junk")
    first, second = given_pictures(
        imagenet,
        [
            entry(tmp_path / "a.png", "zebra", boxes=[[[0.0, 0.0, 0.5, 1.0]]]),
            entry(tmp_path / "b.png", "zebra", "tusker"),
        ],
    ).items
    assert (first.id, first.label, second.label, second.number) == ("a.png", 340, None, 1)
    assert np.asarray(first.load().picture)[0, 0].tolist() == [9, 8, 7]
    assert first.load().masks[0].sum() == 50
    with pytest.raises(UnreadableImage, match=r"b\.png"):
        second.load()
    with pytest.raises(ValueError, match=r"'unicorn'.*'griffin'"):
        given_pictures(imagenet, [entry("a.png", "unicorn"), entry("b.png", "griffin")])


def test_the_real_pairs_have_boxes(imagenet, shared):
    data = Photographs(root=str(shared / "assets" / "imagenet_sample"), boxes=str(BOXES))
    items = data.boxed(imagenet).items
    assert [item.id for item in items] == list(json.loads(BOXES.read_text()))
