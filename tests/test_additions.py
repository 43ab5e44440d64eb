"""README's section about additions, followed to the letter in a copy of the project, and run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("Rule", "Method", "Figure", "Data set", "Model")
APPENDED = "src/attnguide/rules.py"
NAMES = ("tusker", "zebra", "bald_eagle", "kite")


def section():
    """Text of README under its heading."""
    found = re.search(
        r"^## Add a rule.*?\n(.*?)(?=^## )", (ROOT / "README.md").read_text(), re.M | re.S
    )
    return found[1]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", section(), re.M | re.S)


def files():
    """Path and content of every block of Python and yaml."""
    for text in [*blocks("python"), *blocks("yaml")]:
        named = re.search(r"^# (\S+\.(?:py|yaml))\n", text, re.M)
        yield named[1], text


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with the additions, four pictures and random weights."""
    folder = tmp_path_factory.mktemp("additions") / "project"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "conf", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "run.py", folder)
    for name, text in files():
        path = folder / name
        assert path.parent.is_dir(), name
        assert path.exists() == (name == APPENDED), name
        path.write_text(path.read_text() + "\n\n" + text if path.exists() else text)
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{name}_{number}.png")
    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch16_224")
    save_file(network.state_dict(), folder / "weights.safetensors")
    return folder


def test_each_kind_of_addition_is_there_once_with_its_files():
    headings = re.findall(r"^\*\*([\w ]+)\*\*:", section(), re.M)
    assert tuple(headings) == KINDS
    names = [name for name, _ in files()]
    assert len(names) == len(set(names)) == 9
    assert {Path(name).parts[1] for name in names if name.startswith("conf")} == {
        "rule", "method", "experiment", "data", "model"
    }  # fmt: skip


def command(project, words):
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    program, script, *rest = words
    assert (program, script) == ("python", "run.py")
    done = subprocess.run(
        [sys.executable, script, *rest],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_additions_run_as_written(project):
    [text] = blocks("bash")
    lines = text.replace("\\\n", " ").strip().splitlines()
    first, second = (shlex.split(line) for line in lines)

    command(project, [*first, "device=cpu", "run_dir=first"])
    summary = pd.read_csv(project / "first" / "summary.csv")
    assert summary["method"].tolist() == ["complete", "one_layer"]
    assert set(summary["model"]) == {"vit_small_patch16_224"}
    assert set(summary["n"]) == {len(NAMES)}
    claims = pd.read_csv(project / "first" / "claims.csv")
    assert claims["verdict"].tolist() == ["inconclusive"]  # of four pictures
    rows = pd.read_parquet(project / "first" / "results.parquet")
    labels = {name.split(",")[0] for name in rows["target_name"]}
    assert labels == {"tusker", "zebra", "bald eagle", "kite"}
    stored = yaml.safe_load((project / "first" / "config.yaml").read_text())
    assert stored["method"]["one_layer"]["layer"] == -1
    assert stored["data"]["name"] == "named"
    assert (project / "first" / "report.html").is_file()
    shown = np.load(project / "first" / "maps.npz")
    assert {key.split("|")[0] for key in shown} == {"complete", "one_layer"}

    command(project, [*second, "device=cpu", "data.num_images=2", "run_dir=second"])
    rows = pd.read_parquet(project / "second" / "results.parquet")
    assert set(rows["method"]) == {"squared"}
    assert (rows["negative"] == 0).all()  # squares have one sign
    assert (rows["positive"] > 0).all()


def test_the_new_figure_is_listed(project):
    assert "fig14_sign" in command(project, ["python", "run.py"])
