"""Rows and maps on disk: nothing lost, nothing doubled; damage is named."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from running import load_maps

from attnguide.store.files import write_atomic
from attnguide.store.maps import (
    COLUMNS,
    as_columns,
    relevance_of,
    store_picture,
    write_maps,
)
from attnguide.store.table import Results, merge, read

KEY = ("image_id", "method", "fraction")


def rows(*ids, method="gae", value=0.5):
    return pd.DataFrame(
        {"image_id": i, "method": method, "fraction": f, "probability": value - f / 3}
        for i in ids
        for f in (0.0, 0.1)
    )


def test_nothing_is_written_through_a_link(tmp_path):
    elsewhere, run_dir = tmp_path / "elsewhere", tmp_path / "run"
    elsewhere.mkdir()
    run_dir.mkdir()
    (elsewhere / "precious").write_text("kept")
    (run_dir / "figure.png").symlink_to(elsewhere / "precious")
    write_atomic(run_dir / "figure.png", b"new")  # takes the place of the link
    for name in ("parts", "pictures"):
        (run_dir / name).symlink_to(elsewhere)
    with pytest.raises(ValueError, match="is a link, and a run writes only inside its own folder"):
        Results(run_dir, KEY).__enter__()
    with pytest.raises(ValueError, match="is a link"):
        store_picture(run_dir, "a", b"x")
    (run_dir / "parts").unlink()
    (run_dir / "parts").mkdir()
    (run_dir / "parts" / "0000.lock").symlink_to(elsewhere / "precious")
    with pytest.raises(OSError, match="cannot lock"):
        Results(run_dir, KEY).__enter__()
    assert (elsewhere / "precious").read_text() == "kept"
    assert os.listdir(elsewhere) == ["precious"]


def test_equal_rows_are_kept_once(tmp_path):
    for shard in (0, 1):
        with Results(tmp_path, KEY, shard=shard) as results:
            results.append(rows("a", value=0.5 + shard * 1e-9))
    assert merge(tmp_path)["probability"].tolist() == rows("a")["probability"].tolist()


def test_parts_and_shards_have_no_fixed_width(tmp_path):
    with Results(tmp_path, KEY, shard=12345) as results:
        results._next = 999_999
        for name in "abc":
            results.append(rows(name))
        assert results.done() == {("", name) for name in "abc"}
    with Results(tmp_path, KEY, shard=1234) as results:
        assert results.parts() == []
    with Results(tmp_path, KEY, shard=12345) as results:
        results.append(rows("d"))
    names = sorted(path.name.split("-")[2] for path in (tmp_path / "parts").glob("*.parquet"))
    assert names == [f"{n}.parquet" for n in ("1000000", "1000001", "1000002", "999999")]


def test_done_counts_each_model_for_itself(tmp_path):
    with Results(tmp_path, ("image_id", "model", "fraction")) as results:
        results.append(rows("a").assign(model="small"))
        results.append(rows("a", "b").assign(model="large"))
        assert results.done(model="small") == {("", "a")}
        assert results.done(model="large") == {("", "a"), ("", "b")}


def test_done_counts_each_part_of_a_study_for_itself(tmp_path):
    """A picture may be measured in the main study and again among its controls."""
    with Results(tmp_path, KEY) as results:
        results.append(rows("a").assign(part=""))
        assert results.done() == {("", "a")}
        results.append(rows("a", method="complete").assign(part="control"))
        assert results.done() == {("", "a"), ("control", "a")}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (rows("a").drop(columns="method"), "need the columns"),
        (rows("a").iloc[:0], "need the columns"),
        (rows("a", "a"), "same key"),
    ],
)
def test_bad_rows_are_refused(tmp_path, bad, message):
    with Results(tmp_path, KEY) as results, pytest.raises(ValueError, match=message):
        results.append(bad)


def test_reading_before_the_end_says_what_to_do(tmp_path):
    for reader in (read, merge):
        with pytest.raises(FileNotFoundError, match="stage=run"):
            reader(tmp_path)


def map_rows(*entries, **columns):
    """A row per (method, image, target, relevance)."""
    named = [
        {"method": m, "image_id": i, "target": t, "model": "tiny", **as_columns(r), **columns}
        for m, i, t, r in entries
    ]
    return pd.DataFrame(named)


def test_maps_come_back_exactly_from_rows(tmp_path):
    first, second = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    table = map_rows(
        ("gae", "dir/a.png", 3, first), ("complete", "dir/a.png", 3, second), ("gae", "b", 1, None)
    )
    with Results(tmp_path, ("image_id", "method")) as results:
        results.append(table)
    stored = merge(tmp_path)
    row = next(stored[stored["method"] == "gae"].dropna().itertuples())
    assert np.array_equal(relevance_of(row), first.numpy())
    write_maps(tmp_path, stored)
    maps = load_maps(tmp_path)
    assert list(maps) == ["complete|dir/a.png|3", "gae|dir/a.png|3"]
    assert np.array_equal(maps["gae|dir/a.png|3"], first.numpy())
    assert maps["complete|dir/a.png|3"].dtype == np.float32


def test_maps_are_named_by_all_that_tells_them_apart(tmp_path):
    own = torch.ones(2, 2)
    entry = ("gae", "a", 3, own)
    several = pd.concat(
        [
            map_rows(entry, view="alone"),
            map_rows(entry, view="right 0.5 squash"),
            map_rows(entry, view="alone").assign(model="other"),
        ]
    )
    write_maps(tmp_path, several)
    assert list(load_maps(tmp_path)) == [
        "gae|a@right 0.5 squash|3|tiny",
        "gae|a|3|other",
        "gae|a|3|tiny",
    ]
    with pytest.raises(RuntimeError, match="2 maps have only 1 names"):
        write_maps(tmp_path, map_rows(entry, entry))


def test_rows_without_maps_write_none(tmp_path):
    write_maps(tmp_path, rows("a"))
    write_maps(tmp_path, rows("a").assign(relevance=0.5))  # a number of that name is no map
    write_maps(tmp_path, map_rows(("gae", "a", 1, None)))
    assert not (tmp_path / "maps.npz").exists()
    assert set(COLUMNS) == set(as_columns(None))
