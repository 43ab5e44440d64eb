"""Names of classes, folders and files: numbers, umlauts, brackets, other encodings and endings."""

import logging
import os

import numpy as np
import pytest
from PIL import Image
from tiny import tiny

from attnguide import wrap_model
from attnguide.data import Photographs
from attnguide.models.preprocess import Preprocess


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path)


@pytest.fixture
def named(tmp_path):
    """Folders named by two classes of the tiny model, pictures in them."""
    for index, count in ((0, 4), (2, 2)):
        for number in range(count):
            save(tmp_path / f"class_{index}" / f"{number}.png")
    return tmp_path


def found(root, vit=None, **settings):
    """All chosen items."""
    return Photographs("folder", str(root), **settings).all(vit or tiny()).items


def labels(items):
    return {item.id: item.label for item in items}


def model_of(*names):
    return wrap_model(tiny(num_classes=len(names)).module, Preprocess((16, 16)), list(names))


def test_a_class_that_is_called_by_a_number_wins_over_the_number(tmp_path):
    for name in ("1", "2", "10"):
        save(tmp_path / name / "a.png")
    vit = model_of("0", "1", "10", "2")
    assert labels(found(tmp_path, vit)) == {"1/a.png": 1, "2/a.png": 3, "10/a.png": 2}
    save(tmp_path / "3" / "a.png")  # would be class "2" if it were taken as a number
    with pytest.raises(ValueError, match=r"1 classes .* none of .*: 3; unknown class '3'"):
        found(tmp_path, vit)


def test_numbered_folders_are_the_models_numbers_and_the_log_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("0", "3", "004"):
        save(tmp_path / name / "a.png")
    vit = model_of("a", "b", "c", "d", "e")
    assert labels(found(tmp_path, vit)) == {"0/a.png": 0, "3/a.png": 3, "004/a.png": 4}
    assert "the label numbers are taken as the model's" in caplog.text
    save(tmp_path / "5" / "a.png")
    with pytest.raises(ValueError, match=r"none of .*: 5; class index must lie in \[0, 4\]"):
        found(tmp_path, vit)


def test_names_with_umlauts_brackets_and_of_other_encodings(tmp_path, monkeypatch):
    decomposed = "Ba\u0308r [braun]"  # as some systems write it
    save(tmp_path / "data [x]" / decomposed / "a[0]'b.png")
    vit = model_of("B\u00e4r [braun]", "other")
    assert labels(found(tmp_path / "data [x]", vit)) == {"B\u00e4r [braun]/a[0]'b.png": 0}
    save(tmp_path / "bytes" / "x.png")
    (tmp_path / "bytes" / "x.png").rename(
        os.fsdecode(os.fsencode(tmp_path) + b"/bytes/caf\xe9.png")
    )
    for count in (None, 1):
        (item,) = found(tmp_path / "bytes", vit, num_images=count)
        assert item.id == r"caf\xe9.png"
        assert item.load().picture.size == (8, 6)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(found("~/data [x]", vit)) == 1


def test_a_root_by_a_relative_path_is_read_from_anywhere(named, tmp_path, monkeypatch):
    monkeypatch.chdir(named)
    items = found("class_0")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert items[0].load().id == "0.png"


def test_files_of_other_kinds_are_counted_and_named(named, caplog):
    caplog.set_level(logging.INFO)
    save(named / "class_0" / "x.jfif.png")
    for name in ("class_0/a.jp2", "class_0/b.JP2", "c.heic"):
        (named / name).write_bytes(b"")
    (named / "class_0" / "d.jfif").write_bytes((named / "class_0" / "0.png").read_bytes())
    assert len(found(named)) == 8
    assert "files of other kinds left out: 1 .heic, 2 .jp2" in caplog.text


def test_one_picture_in_two_classes_is_refused(tmp_path):
    for name in ("class_1", "class_2"):
        save(tmp_path / name / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match=r"ILSVRC2012_val_00000001.JPEG appears twice in: 2 pict"):
        Photographs(root=str(tmp_path)).check(labels=False)
