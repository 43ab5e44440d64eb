"""Pictures in parquet and tar files: small items, and classes that are none refused by name."""

import io
import json
import logging
import os
import pickle
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Features, Image, Value
from picture_forms import (
    CLASSES,
    LABELS,
    NAMES,
    chosen,
    jpeg,
    labels,
    number_of,
    own_cache,  # noqa: F401
    parquet_as_the_hub_gives_it,
    parquet_of_bare_bytes_and_numbers,
    write_parquet,
)

from attnguide.data import Photographs
from attnguide.models.reader import UnreadableImage
from attnguide.store.files import checksum


def test_bare_numbers_are_taken_as_the_models_and_the_log_says_so(tmp_path, imagenet, caplog):
    caplog.set_level(logging.INFO)
    parquet_of_bare_bytes_and_numbers(tmp_path)
    items = chosen(tmp_path, imagenet)
    assert [item.label for item in items] == list(LABELS.values())
    assert [number_of(items[i]) for i in (11, 0, 6)] == [11, 0, 6]
    assert "label numbers are taken as the model's" in caplog.text


def test_equal_file_names_in_a_parquet_file_get_different_ids(tmp_path, imagenet):
    write_parquet(
        tmp_path / "x.parquet", NAMES[:2], ["1.png", "1.png"], wnid=(CLASSES[:2], Value("string"))
    )
    items = chosen(tmp_path / "x.parquet", imagenet)
    assert list(labels(items)) == ["x-0-0-1.png", "x-0-1-1.png"]


def test_parquet_without_the_bytes_is_unreadable_picture_by_picture(tmp_path, imagenet):
    images = pa.array([{"bytes": None, "path": "a.png"}, {"bytes": b"junk", "path": "b.png"}])
    pq.write_table(
        pa.table({"image": images.cast(pa.struct({"bytes": pa.binary(), "path": pa.string()}))}),
        tmp_path / "x.parquet",
    )
    items = chosen(tmp_path, imagenet)
    assert [item.label for item in items] == [None, None]
    with pytest.raises(UnreadableImage, match=r"a.png: .*its path but not its bytes"):
        items[0].load()
    with pytest.raises(UnreadableImage, match=r"b.png: not a picture"):
        items[1].load()


@pytest.mark.parametrize(
    ("label", "names", "message"),
    [
        (7, ["x"], r"label of a.png must be a class number from 0 to 0, got 7"),
        (-2, ["x", "y", "z"], r"label of a.png must be a class number from 0 to 2, got -2"),
        (-2, None, r"label of a.png must be a class number, got -2"),
        ([0], None, r"must be a class number, got \[0\]"),
        (0.5, None, r"must be a class number, got 0.5"),
    ],
)
def test_labels_that_are_no_class_are_refused_by_name(tmp_path, label, names, message):
    table = pa.table({"image": [{"bytes": jpeg(NAMES[0]), "path": "a.png"}], "label": [label]})
    if names:
        features = Features({"image": Image(), "label": ClassLabel(names=names)})
        stored = {"info": {"features": features.to_dict()}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(stored).encode()})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=message):
        Photographs(root=str(tmp_path)).check(labels=False)


def test_hidden_and_missing_parquet_labels_are_no_labels(tmp_path, imagenet):
    images = [{"bytes": jpeg(name), "path": f"{i}.png"} for i, name in enumerate(NAMES[:4])]
    table = pa.table({"image": images, "label": [-1.0, None, 340.0, float("nan")]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert [item.label for item in chosen(tmp_path, imagenet)] == [None, None, 340, None]


def test_paths_without_any_bytes_are_refused_before_weights(tmp_path):
    images = pa.array([{"bytes": None, "path": "a.png"}])
    pq.write_table(pa.table({"image": images}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="holds the paths of its pictures but not their bytes"):
        Photographs(root=str(tmp_path)).check(labels=False)


def test_another_column_of_text_holds_the_classes(tmp_path, imagenet):
    images = [{"bytes": jpeg(name), "path": None} for name in NAMES[:2]]
    table = pa.table({"picture": images, "category": ["zebra", " Tinca tinca"]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert labels(chosen(tmp_path, imagenet)) == {"x-0-0": 340, "x-0-1": 0}


COLUMNS = {
    "before image": ("conditioning_image", "image"),
    "before img": ("annotation", "img"),
    "in a webdataset": ("seg.png", "jpg"),
    "bytes before it": ("md5", "photo"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_the_column_that_is_called_as_pictures_are_is_taken(kind, tmp_path, imagenet):
    other, column = COLUMNS[kind]
    picture = {"bytes": jpeg(NAMES[7]), "path": None}
    first = b"0123456789abcdef" if other == "md5" else {"bytes": jpeg(NAMES[0]), "path": None}
    table = pa.table({other: [first], column: [picture], "label": [340]})
    pq.write_table(table, tmp_path / "x.parquet")
    (item,) = chosen(tmp_path, imagenet)
    assert number_of(item) == 7


def test_several_columns_of_pictures_without_such_a_name_are_refused(tmp_path, imagenet):
    picture = {"bytes": jpeg(NAMES[0]), "path": None}
    pq.write_table(pa.table({"left": [picture], "right": [picture]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"several columns of encoded pictures, but left, right"):
        chosen(tmp_path, imagenet)


def test_items_stay_small_and_are_read_anew_in_another_process(tmp_path, imagenet):
    parquet_as_the_hub_gives_it(tmp_path)
    items = chosen(tmp_path, imagenet)
    one, all_of_them = (len(pickle.dumps(part)) for part in (items[:1], items))
    assert all_of_them - one < 11 * 400  # no pictures, and the data set once
    assert number_of(pickle.loads(pickle.dumps(items[7]))) == 7


def test_files_that_were_replaced_are_not_read_from_the_cache(tmp_path, imagenet):
    file, text = tmp_path / "x.parquet", Value("string")
    for name in NAMES[3:5]:
        write_parquet(file, [name], ["a.png"], wnid=([CLASSES[0]], text))
        os.utime(file, (1, 1))
        (item,) = chosen(file, imagenet)
        assert NAMES[number_of(item)] == name
        assert item.sources[0].content() == checksum(jpeg(name))


def test_webdataset_files_are_read_like_folders(tmp_path, imagenet):
    parts = {"train": NAMES[:1], "validation-0": NAMES[:7], "validation-1": NAMES[7:]}
    for part, names in parts.items():
        with tarfile.open(tmp_path / f"{part}.tar", "w") as archive:
            for name in names:
                for member, data in (
                    (name, jpeg(name)), (name.replace("JPEG", "cls"), str(LABELS[name]).encode())
                ):  # fmt: skip
                    header = tarfile.TarInfo(f"val/{member}")
                    header.size = len(data)
                    archive.addfile(header, io.BytesIO(data))
    items = chosen(tmp_path, imagenet)
    assert labels(items) == LABELS
    assert [NAMES[number_of(item)] for item in items] == NAMES
    (tmp_path / "train.tar").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"cannot read the tar file .*train.tar"):
        chosen(tmp_path / "train.tar", imagenet)


def test_files_that_are_no_parquet_or_hold_no_pictures_are_refused(tmp_path, imagenet, capfd):
    (tmp_path / "x.parquet").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"cannot read the parquet file .*x.parquet"):
        chosen(tmp_path, imagenet)
    assert "Failed to read" not in capfd.readouterr().err  # told once
    pq.write_table(pa.table({"height": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"no column of encoded pictures, but height"):
        chosen(tmp_path, imagenet)
