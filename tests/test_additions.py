"""docs/adding.md, followed to the letter in an empty folder, and run."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import paint

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("Rule", "Method", "Figure", "Data set", "Model")
NAMES = ("tusker", "zebra", "bald_eagle", "kite")


def section():
    """Text of the page."""
    return (ROOT / "docs" / "adding.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", section(), re.M | re.S)


def files():
    """Path and content of every block of Python and yaml."""
    for text in [*blocks("python"), *blocks("yaml")]:
        yield re.search(r"^# (\S+\.(?:py|yaml))\n", text, re.M)[1], text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The additions, and two pictures of each of four classes."""
    folder = tmp_path_factory.mktemp("additions")
    for name, text in files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    for name in NAMES:
        for time in ("day", "night"):
            paint(folder / "pictures" / name / f"{name}_{time}.png", rng)
    return folder


def test_each_kind_of_addition_is_there_once_with_its_files():
    headings = re.findall(r"^\*\*([\w ]+)\*\*:", section(), re.M)
    assert tuple(headings) == KINDS
    names = [name for name, _ in files()]
    assert len(names) == len(set(names)) == 10
    assert {Path(name).parts[2] for name in names if "/conf/" in name} == {
        "rule", "method", "experiment", "data", "model"
    }  # fmt: skip


def test_the_additions_run_as_written(command, folder):
    [text] = blocks("bash")
    lines = [shlex.split(line) for line in text.replace("\\\n", " ").strip().splitlines()]
    (program, *first), (again, *second) = lines
    assert program == again == "attnguide"

    def run(*words):
        code, told = command(words, cwd=folder)
        assert code == 0, told

    run(*first, "device=cpu", "run_dir=first")
    summary = pd.read_csv(folder / "first" / "summary.csv")
    assert summary["method"].tolist() == ["complete", "one_layer"]
    assert set(summary["n"]) == {len(NAMES)}
    claims = pd.read_csv(folder / "first" / "claims.csv")
    assert set(claims["verdict"]) == {"inconclusive"}  # of four pictures
    rows = pd.read_parquet(folder / "first" / "results.parquet")
    labels = {name.split(",")[0] for name in rows["target_name"]}
    assert labels == {"tusker", "zebra", "bald eagle", "kite"}
    stored = yaml.safe_load((folder / "first" / "config.yaml").read_text())
    assert stored["method"]["one_layer"]["layer"] == -1
    assert stored["data"]["word"] == "day"
    shown = np.load(folder / "first" / "maps.npz")
    assert {key.split("|")[0] for key in shown} == {"complete", "one_layer"}
    run(first[0], "stage=draw", "run_dir=first")

    run(*second, "device=cpu", "data.num_images=2", "run_dir=second")
    rows = pd.read_parquet(folder / "second" / "results.parquet")
    assert set(rows["method"]) == {"squared"}
    assert (rows["negative"] == 0).all()  # squares have one sign
    assert (rows["positive"] > 0).all()


def test_method_all_has_the_added_one(command, folder):
    words = ("--config-dir=mine/conf", "experiment=fig14_sign", "method=all", "--cfg", "job")
    methods = yaml.safe_load(command(words, cwd=folder)[1])["method"]
    assert {"one_layer", "complete", "tis"} <= set(methods)
