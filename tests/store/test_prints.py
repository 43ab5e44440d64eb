"""What a run notes of its inputs: how wide numbers are, what a stamp holds."""

import os

import pandas as pd

from attnguide.store.sources import stamp
from attnguide.store.table import Results


def test_parts_and_shards_have_no_fixed_width(tmp_path):
    rows = pd.DataFrame({"image_id": ["a"], "value": [1.0]})
    with Results(tmp_path, ("image_id",), shard=12345) as results:
        results._next = 999_999
        for name in "abc":
            results.append(rows.assign(image_id=name))
        assert len(results.own_parts()) == 3
        assert results.done() == {("", name) for name in "abc"}
    with Results(tmp_path, ("image_id",), shard=1234) as results:
        assert results.own_parts() == []
    with Results(tmp_path, ("image_id",), shard=12345) as results:
        results.append(rows.assign(image_id="d"))
    names = sorted(path.name.split("-")[1] for path in (tmp_path / "parts").glob("*.parquet"))
    assert names == ["1000000", "1000001", "1000002", "999999"]


def test_a_stamp_is_of_size_and_times(tmp_path):
    path = tmp_path / "a"
    assert stamp(path) == "absent"
    path.write_bytes(b"12")
    first = stamp(path)
    assert first.split()[0] == "2"
    os.utime(path, (5, 5))
    assert stamp(path) != first
