"""A run goes on if its inputs are the same; what changes outside a config is refused by name."""

import csv
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import conftest
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from running import start
from tiny import tiny

import run as program
from attnguide import wrap_model
from attnguide.errors import InputError
from attnguide.models.preprocess import Preprocess
from attnguide.runs.main import as_stored, as_values
from attnguide.runs.predict import TableWriter
from attnguide.runs.run import run
from attnguide.store import provenance
from attnguide.store.folder import RunFolder
from attnguide.store.table import read

WNIDS = ("n02391049", "n01944390", "n01871265", "n01614925")
WORDS = (
    *("experiment=fig12_perturbation", "scale=sample", "model.checkpoint=weights.bin"),
    *("runner.fractions=[0,0.5]", "batch_size=1", "device=cpu", "method=gae"),
)


def paint(path, seed):
    conftest.paint(path, np.random.default_rng(seed))


@pytest.fixture
def world(tmp_path, monkeypatch, undrawn):
    """A folder with weights, a guide and four pictures; models are what the weights' bytes say."""

    def load(name, checkpoint=None, *, device="cpu", label=None, **_):
        content = Path(checkpoint).read_bytes()
        vit = tiny(num_classes=1000, img_size=32, patch_size=8)
        with_weights = wrap_model(vit.module, Preprocess((32, 32)), name=label or name)
        return replace(with_weights.to(device), weights_sha256=content.hex())

    monkeypatch.setattr("attnguide.models.load.load_model", load)
    monkeypatch.setattr("attnguide.models.load.check_model", lambda *_: None)
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "weights.bin").write_bytes(b"first")
    for number, wnid in enumerate(WNIDS):
        paint(home / "data" / wnid / f"{number}.png", number)
    paint(home / "guide" / "n02391049" / "zebra.png", 9)
    monkeypatch.chdir(home)
    return home


def go(run_dir, *more):
    words = (*WORDS, "data.root=data", "guide.image=guide/n02391049/zebra.png", *more)
    return start(run_dir, *words)


def half(run_dir, monkeypatch, *more):
    """A life that ends by force when two pictures are stored."""
    write, left = TableWriter.write_on_batch_end, [2]

    def write_and_die(*args):
        write(*args)
        left[0] -= 1
        if not left[0]:
            raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(TableWriter, "write_on_batch_end", write_and_die)
        with pytest.raises(MemoryError, match="killed"):
            go(run_dir, *more)
    assert len(list((run_dir / "parts").glob("*.parquet"))) == 2


def swap(first, second):
    rest = first.with_suffix(".rest")
    first.rename(rest)
    second.rename(first)
    rest.rename(second)


def move_the_data(world):
    shutil.move(world / "data", world / "elsewhere")
    for number, wnid in enumerate(WNIDS):
        paint(world / "data" / wnid / f"{number}.png", 50 + number)


FIRST = "data/n01614925/3.png"  # folders are read in order: this one is stored first
SECOND = "data/n01871265/2.png"
CHANGES = {
    "weights": (lambda w: (w / "weights.bin").write_bytes(b"other"), "the weights .model vit_tiny"),
    "picture": (lambda w: paint(w / FIRST, 77), r"the pictures n01614925/3\.png"),
    "guide": (lambda w: paint(w / "guide/n02391049/zebra.png", 77), "the guide .model"),
    "exchanged": (lambda w: swap(w / FIRST, w / SECOND), "the pictures .*3.png, .*2.png"),
    "more": (lambda w: paint(w / "data/n01614925/4.png", 4), "the list of pictures .1 more"),
    "fewer": (lambda w: (w / FIRST).unlink(), "the list of pictures .0 more, 1 fewer"),
    "another folder": (move_the_data, "the pictures"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_other_inputs_are_refused_by_name(world, what, monkeypatch):
    change, message = CHANGES[what]
    half(world / "run", monkeypatch)
    paths = [p for p in (world / "run").rglob("*.*") if p.suffix != ".lock"]
    before = {path: path.read_bytes() for path in paths}
    change(world)
    with pytest.raises(InputError, match=message) as refused:
        go(world / "run")
    assert "pass another run_dir, or delete this folder to start anew" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in before} == before


def test_copies_of_the_same_pictures_are_the_same_world(world, monkeypatch):
    half(world / "run", monkeypatch)
    shutil.copytree(world / "data", world / "copy")
    shutil.rmtree(world / "data")
    (world / "copy").rename(world / "data")
    os.utime(world / "weights.bin", (1, 1))
    go(world / "run")
    assert read(world / "run")["image_id"].nunique() == 3


def test_a_variable_of_the_environment_counts_by_its_value(world, monkeypatch):
    words = [*WORDS, "data=imagenet_val", "data.num_images=null", "guide=none"]

    def look_in(folder):
        monkeypatch.setenv("IMAGENET_DIR", str(world / folder))
        with initialize_config_dir(str(program.CONF), version_base="1.3"):
            cfg = compose("config", words)
        cfg.experiment, cfg.run_dir = "fig12_perturbation", str(world / "run")
        run(as_values(cfg), [], world / "run", stored=as_stored(cfg))

    look_in("data")
    assert RunFolder(world / "run").load_config()["data"]["root"] == "${oc.env:IMAGENET_DIR,null}"
    shutil.copytree(world / "data", world / "copy")
    with pytest.raises(InputError, match="different settings: data.root"):
        look_in("copy")
    look_in("data")


def write_labels(world, swapped=False):
    (world / "flat").mkdir(exist_ok=True)
    for number in range(3):
        if not (world / "flat" / f"{number}.png").is_file():
            paint(world / "flat" / f"{number}.png", number)
    wnids = [WNIDS[1], WNIDS[2], WNIDS[3]]
    if swapped:
        wnids[:2] = wnids[1::-1]
    with (world / "flat" / "labels.csv").open("w", newline="") as file:
        rows = [["filename", "label"], *([f"{n}.png", w] for n, w in enumerate(wnids))]
        csv.writer(file).writerows(rows)


def test_other_labels_are_refused(world, monkeypatch):
    write_labels(world)
    half(world / "run", monkeypatch, "data.root=flat")
    write_labels(world, swapped=True)
    with pytest.raises(InputError, match=r"the labels, places or boxes of 0\.png, 1\.png"):
        go(world / "run", "data.root=flat")


@pytest.mark.parametrize("when", ["resume", "merge"])
def test_parts_of_another_run_are_seen(world, monkeypatch, when):
    half(world / "run", monkeypatch)
    go(world / "foreign", "seed=5")
    if when != "resume":
        go(world / "run")
    for path in (world / "foreign" / "parts").glob("*.parquet"):
        shutil.copy(path, world / "run" / "parts" / f"0000-1-{path.name[7:]}")
    shutil.copytree(world / "foreign/pictures", world / "run/pictures", dirs_exist_ok=True)
    with pytest.raises(InputError, match="computed from other inputs"):
        if when == "resume":
            go(world / "run")
        else:
            start(world / "run", f"stage={when}")


def test_inputs_that_change_between_two_shards_are_refused(world):
    go(world / "run", "data.num_shards=2", "data.shard=0")
    shutil.copytree(world, world.parent / "before")
    move_the_data(world)
    second = ("data.num_shards=2", "data.shard=1")
    with pytest.raises(InputError, match="the pictures n01614925/3.png"):
        go(world / "run", *second)
    shutil.copytree(world.parent / "before", world, dirs_exist_ok=True)
    (world / "weights.bin").write_bytes(b"other")
    with pytest.raises(InputError, match="the weights"):
        go(world / "run", *second)
    (world / "run" / "inputs.json").unlink()
    with pytest.raises(InputError, match="1 parts were computed from other inputs"):
        go(world / "run", *second)


def test_another_version_of_the_program_is_told_and_recorded(world, monkeypatch, capsys):
    half(world / "run", monkeypatch)
    old = provenance.code_version()
    monkeypatch.setattr("attnguide.runs.resume.code_version", lambda: {**old, "torch": "9.9"})
    go(world / "run")
    told = capsys.readouterr().out
    assert re.search(r"warning: rows of this run were computed with .*torch (?!9\.9)", told)
    codes = json.loads((world / "run" / "inputs.json").read_text())["code"]
    assert [code["torch"] for code in codes] == [old["torch"], "9.9"]


def test_damaged_inputs_are_written_again_and_compared_with_the_parts(world, monkeypatch):
    half(world / "run", monkeypatch)
    before = json.loads((world / "run" / "inputs.json").read_text())
    (world / "run" / "inputs.json").write_text("{")
    go(world / "run")
    assert json.loads((world / "run" / "inputs.json").read_text()) == before
    half(world / "two", monkeypatch)
    (world / "two" / "inputs.json").unlink()
    (world / "weights.bin").write_bytes(b"other")
    with pytest.raises(InputError, match="2 parts were computed from other inputs"):
        go(world / "two")


def test_pictures_that_could_not_be_read_are_tried_again(world, capsys):
    whole = (world / FIRST).read_bytes()
    (world / FIRST).write_bytes(b"")
    go(world / "run")
    assert read(world / "run")["image_id"].nunique() == 2
    (world / FIRST).write_bytes(whole)
    go(world / "run")
    assert "n01614925/3.png" in capsys.readouterr().out
    assert read(world / "run")["image_id"].nunique() == 3
    go(world / "whole")
    assert read(world / "run").equals(read(world / "whole"))
