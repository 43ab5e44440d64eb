"""Runs in odd places, of odd sizes, beside odd things: right, or one line."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import small_model
from PIL import Image
from running import config, provenance, start

from attnguide.data.find import list_folder
from attnguide.errors import InputError
from attnguide.store.agreement import once
from attnguide.store.table import Results, merge, read

EXPLAIN = ["experiment=explain", "method=gae", "device=cpu", "batch_size=2"]


@pytest.fixture(autouse=True)
def small(monkeypatch, undrawn):
    """Small models, and figures that are not turned into pixels."""
    picture = sys.modules["attnguide.runs.write"].render(None, "png")

    def load(name, checkpoint=None, *, device="cpu", label=None, **_):
        return replace(small_model(name), name=label or name, weights_sha256=f"of {name}")

    for place in ("models.load", "models.sources"):
        monkeypatch.setattr(f"attnguide.{place}.load_model", load, raising=False)
        monkeypatch.setattr(f"attnguide.{place}.check_model", lambda *_: None, raising=False)
    monkeypatch.setattr("experiments.explain.render", lambda *_: picture)


@pytest.mark.parametrize(
    "name",
    ["[red]run[/red]", "[/]", "a\\[b]", "back\\slash", ":smile:", "a b=c", "ü-ß", "x" * 200],
)
def test_names_of_folders_are_data(tmp_path, name, capsys):
    start(tmp_path / name, *EXPLAIN, "data.num_images=2")
    start(tmp_path / name, *EXPLAIN, "data.num_images=2")
    said = capsys.readouterr().out
    assert f"{tmp_path / name / 'figure.png'}" in said
    assert f"{tmp_path / name} is finished already" in said.replace("\n", "")
    assert len(read(tmp_path / name)) == 2


def test_a_name_that_no_file_system_takes_is_an_error_of_the_disk(tmp_path):
    with pytest.raises(OSError, match="too long"):
        start(tmp_path / ("x" * 300), *EXPLAIN, "data.num_images=1")


def test_a_run_inside_the_pictures_is_left_out(photographs):
    before = list_folder(photographs).column("id")
    words = [*EXPLAIN, "scale=sample", f"data.root={photographs}", "data.num_images=3"]
    start(photographs / "run", *words)
    assert (photographs / "run" / "figure.png").is_file()
    assert list_folder(photographs).column("id") == before
    start(photographs / "run", *words, "stage=run")


def test_fewer_pictures_than_shards(tmp_path):
    words = [*EXPLAIN, "data.num_images=2", "data.num_shards=5"]
    for shard in range(5):
        start(tmp_path / "run", *words, f"data.shard={shard}")
    start(tmp_path / "run", "stage=merge")
    start(tmp_path / "whole", *EXPLAIN, "data.num_images=2")
    assert list(read(tmp_path / "run")["image_id"]) == list(read(tmp_path / "whole")["image_id"])
    assert provenance(tmp_path / "run")["shards"] == 5


def test_shards_of_other_batch_sizes_are_merged(tmp_path):
    words = [*EXPLAIN, "data.num_images=6", "data.num_shards=2"]
    start(tmp_path / "run", *words, "data.shard=0", "batch_size=1")
    start(tmp_path / "run", *words, "data.shard=1", "batch_size=3")
    start(tmp_path / "run", "stage=merge")
    assert len(read(tmp_path / "run")) == 6


def numbers(value, relevance):
    return pd.DataFrame(
        {
            "image_id": ["a"], "value": [value], "word": ["same"], "none": [None],
            "relevance": [np.array(relevance, "<f4").tobytes()],
        }
    )  # fmt: skip


def test_rows_of_one_key_may_differ_as_batches_round(tmp_path):
    with Results(tmp_path, ("image_id",)) as results:
        results.append(numbers(1.0, [1, 2]))
        results.append(numbers(1.0001, [1, 2.0001]))
    assert merge(tmp_path)["value"].tolist() in ([1.0], [1.0001])
    with Results(tmp_path, ("image_id",)) as results:
        results.append(numbers(1.1, [1, 2]))
    with pytest.raises(InputError, match="rows of .* share a key but disagree"):
        merge(tmp_path)


@pytest.mark.parametrize(
    ("other", "agrees"),
    [
        (numbers(1.001, [1, 2]), True),
        (numbers(1.01, [1, 2]), False),
        (numbers(1.0, [1, 2.1]), False),
        (numbers(1.0, [1, 2, 3]), False),
        (numbers(float("nan"), [1, 2]), False),
        (numbers(1.0, [1, 2]).assign(word="other"), False),
    ],
)
def test_the_tolerance_is_two_in_a_thousand(other, agrees):
    rows, clash = once(pd.concat([numbers(1.0, [1, 2]), other], ignore_index=True), ["image_id"])
    assert len(rows) == 1
    assert clash.empty is agrees


def test_one_of_several_tasks_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(InputError, match=r"this is task 1 of 2 .* srun -n 1"):
        start(tmp_path / "run", *EXPLAIN, "data.num_images=1")
    assert not (tmp_path / "run").exists()


def test_pictures_that_do_not_fit_into_memory_are_skipped(tmp_path, photographs, monkeypatch):
    huge = photographs / "n02391049" / "huge.png"
    Image.new("1", (20_000, 20_000)).save(huge)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000_000)
    words = [*EXPLAIN, "scale=sample", f"data.root={photographs}"]
    start(tmp_path / "run", *words)
    assert provenance(tmp_path / "run")["skipped"] == ["n02391049/huge.png"]
    assert len(read(tmp_path / "run")) == 8


def test_a_refused_command_leaves_nothing_even_when_a_model_had_to_say_it(tmp_path):
    with pytest.raises(InputError, match="zebraa"):
        start(tmp_path / "run", *EXPLAIN, "target=zebraa")
    assert not (tmp_path / "run").exists()
    assert config(*EXPLAIN)["target"] == "label"


def test_two_pictures_of_one_name_are_refused(tmp_path, photographs):
    entries = ",".join(
        f"{{file: {photographs / wnid / 'a.png'}, classes: [zebra]}}"
        for wnid in ("n02391049", "n01944390")
    )
    words = ["experiment=fig07_single_class", "device=cpu", "scale=sample"]
    with pytest.raises(InputError, match=r"names a\.png twice"):
        start(tmp_path / "run", *words, f"data.root={photographs}", f"runner.pictures=[{entries}]")
