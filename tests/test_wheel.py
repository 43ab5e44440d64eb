"""Installed by pip, the command does from any folder what the checkout does."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from shutil import copytree, ignore_patterns

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_COPIED = ignore_patterns(".*", "build", "docs", "outputs", "tests", "*.egg-info", "__pycache__")


@pytest.mark.slow
def test_the_wheel_runs_figure_12_from_another_folder(tmp_path):
    copytree(ROOT, tmp_path / "source", ignore=NOT_COPIED)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "-q"]
    build = [*pip, "wheel", *options, "-w", tmp_path, tmp_path / "source"]
    subprocess.run(build, check=True)
    [wheel] = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    for folder, kind in (("conf", "*.yaml"), ("experiments", "*.py")):
        named = [str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob(kind)]
        assert {f"attnguide/home/{name}" for name in named} <= set(inside)

    assert "attnguide/assets/example_pair.png" in inside  # what README's first example opens

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    [site] = (tmp_path / "env" / "lib").glob("*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    pip = [*pip, "--python", python, "install", *options, wheel]
    subprocess.run(pip, check=True, env=environment)

    (there := tmp_path / "elsewhere").mkdir()
    start = tmp_path / "env" / "bin" / "attnguide"
    place = {"cwd": there, "env": environment, "check": True}
    told = subprocess.run([start], capture_output=True, text=True, **place).stdout
    assert "for attnguide experiment=NAME" in told
    assert "fig12_perturbation" in told
    words = ["experiment=fig12_perturbation", "data.num_images=16", "device=cpu"]
    subprocess.run([start, *words], **place)
    [summary] = there.glob("outputs/fig12_perturbation/*/summary.csv")
    assert {"complete", "gae"} <= set(pd.read_csv(summary)["method"])
