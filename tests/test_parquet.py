"""Pictures in parquet files: read where they are, of classes that are none refused by name."""

import json
import logging
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Value
from test_imagenet import (
    CLASSES,
    LABELS,
    NAMES,
    chosen,
    jpeg,
    labels,
    number_of,
    parquet_of_bare_bytes_and_numbers,
    write_parquet,
)
from tiny import tiny

from attnguide import wrap_model
from attnguide.data import Photographs
from attnguide.models.preprocess import Preprocess
from attnguide.models.reader import UnreadableImage


@pytest.fixture(scope="module")
def vit():
    """A tiny network with ImageNet's classes."""
    return wrap_model(tiny(num_classes=1000).module, Preprocess((16, 16)), name="tiny imagenet")


def test_bare_numbers_are_taken_as_the_models_and_the_log_says_so(tmp_path, vit, caplog):
    caplog.set_level(logging.INFO)
    parquet_of_bare_bytes_and_numbers(tmp_path)
    items = chosen(vit, tmp_path)
    assert [item.label for item in items] == list(LABELS.values())
    assert [number_of(items[i]) for i in (11, 0, 6)] == [11, 0, 6]
    assert "label numbers are taken as the model's" in caplog.text


def test_equal_file_names_in_a_parquet_file_get_different_ids(tmp_path, vit):
    write_parquet(
        tmp_path / "x.parquet", NAMES[:2], ["1.png", "1.png"], wnid=(CLASSES[:2], Value("string"))
    )
    items = chosen(vit, tmp_path / "x.parquet")
    assert list(labels(items)) == ["x-0-0-1.png", "x-0-1-1.png"]


def test_parquet_without_the_bytes_is_unreadable_picture_by_picture(tmp_path, vit):
    images = pa.array([{"bytes": None, "path": "a.png"}, {"bytes": b"junk", "path": "b.png"}])
    pq.write_table(
        pa.table({"image": images.cast(pa.struct({"bytes": pa.binary(), "path": pa.string()}))}),
        tmp_path / "x.parquet",
    )
    items = chosen(vit, tmp_path)
    assert [item.label for item in items] == [None, None]
    with pytest.raises(UnreadableImage, match=r"a.png: .*its path but not its bytes"):
        items[0].load()
    with pytest.raises(UnreadableImage, match=r"b.png: not a picture"):
        items[1].load()


@pytest.mark.parametrize(
    ("label", "names", "message"),
    [
        (7, ["x"], r"label of a.png must be a class number from 0 to 0, got 7"),
        (-2, ["x", "y", "z"], r"must be a class number from 0 to 2, got -2"),
        (-2, None, r"label of a.png must be a class number, got -2"),
        ([0], ["x"], r"must be a class number, got \[0\]"),
        (0.5, None, r"must be a class number, got 0.5"),
    ],
)
def test_parquet_labels_that_are_no_class_are_refused_by_name(tmp_path, label, names, message):
    table = pa.table({"image": [{"bytes": jpeg(NAMES[0]), "path": "a.png"}], "label": [label]})
    feature = [{"names": names}] if isinstance(label, list) else {"names": names}
    stored = json.dumps({"info": {"features": {"label": feature}}}).encode()
    pq.write_table(table.replace_schema_metadata({b"huggingface": stored}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=message):
        Photographs(root=str(tmp_path)).check(labels=False)


def test_hidden_and_missing_parquet_labels_are_no_labels(tmp_path, vit):
    images = [{"bytes": jpeg(name), "path": f"{i}.png"} for i, name in enumerate(NAMES[:4])]
    table = pa.table({"image": images, "label": [-1.0, None, 340.0, float("nan")]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert [item.label for item in chosen(vit, tmp_path)] == [None, None, 340, None]


def test_parquet_without_any_bytes_is_refused_before_weights(shared):
    file = shared / "cases" / "inputs" / "pq_nobytes.parquet"
    with pytest.raises(ValueError, match="holds the paths of its pictures but not their bytes"):
        Photographs(root=str(file)).check(labels=False)


def test_a_parquet_column_of_another_name_holds_the_classes(shared, vit):
    (item,) = chosen(vit, shared / "cases" / "inputs" / "pq_labels.parquet")[:1]
    assert item.label is not None
    assert item.load().names == (vit.class_names[item.label],)


def test_parquet_pictures_are_read_where_they_are_and_items_stay_small(tmp_path, vit):
    parquet_of_bare_bytes_and_numbers(tmp_path)
    items = chosen(vit, tmp_path)
    assert len(pickle.dumps(items[0])) < 2000  # neither the picture nor the data set
    again = pickle.loads(pickle.dumps(items[7]))
    assert number_of(again) == 7


def test_files_that_are_no_parquet_or_hold_no_pictures_are_refused(tmp_path, vit):
    (tmp_path / "x.parquet").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"cannot read the parquet file .*x.parquet"):
        chosen(vit, tmp_path)
    pq.write_table(pa.table({"height": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"no column of encoded pictures, but height"):
        chosen(vit, tmp_path)
