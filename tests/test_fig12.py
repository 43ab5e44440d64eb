"""Figure 12 from one command: its rows, its table, its words, resumed and redrawn."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from attnguide import explain, load_model, perturb, stitch
from attnguide.config import Config, DataConfig, GuideConfig, ModelConfig, check
from attnguide.data.creatures.scenes import guide, single
from attnguide.runs.lifecycle import run

ROOT = Path(__file__).resolve().parents[1]
KEY = ["image_id", "model", "guide", "method", "order", "fraction"]
COLUMNS = ["method", "order", "quantity", "auc", "ci_low", "ci_high", "n"]


def config(**changes):
    settings = {
        "experiment": "fig12_perturbation",
        "method": {"complete": {}, "gae": {}},
        "data": DataConfig(num_images=9),
        "device": "cpu",
        "batch_size": 4,
        "runner": {"fractions": [0.0, 0.3, 0.9], "unguided_every": 3},
        "run_dir": "",
        **changes,
    }
    return check(Config(**settings))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("fig12") / "run"
    run(config(), run_dir)
    return run_dir


def test_rows_are_what_the_library_says(finished):
    rows = pd.read_parquet(finished / "results.parquet")
    guided = rows[rows["guide"] == "right"]
    # nine creatures, classes 0 to 8; the guide is the spiral-shelled snail, class 6
    assert sorted(guided["label"].unique()) == [0, 1, 2, 3, 4, 5, 7, 8]
    assert len(guided) == 8 * 3 * 2 * 3
    assert rows[rows["guide"] == "none"]["image_id"].nunique() == 3
    vit = load_model("creatures")
    pictures = [single(0, 4, 4).to_pil(), guide(6).to_pil()]
    own, beside = (vit.preprocess.normalize(picture) for picture in pictures)
    images, _ = stitch(own.unsqueeze(0), beside, patch_size=8)
    relevance = explain(vit, images, 4).relevance
    curve = perturb(vit, images, relevance, 4, order="negative", fractions=[0, 0.3, 0.9])
    part = guided[
        (guided["label"] == 4) & (guided["method"] == "complete") & (guided["order"] == "negative")
    ].sort_values("fraction")
    assert part["probability"].tolist() == pytest.approx(curve.probability[0].tolist(), abs=1e-4)
    assert part["correct"].tolist() == curve.correct[0].tolist()


def test_table_figure_and_report_are_written(finished):
    summary = pd.read_csv(finished / "summary.csv")
    assert list(summary.columns[:7]) == COLUMNS
    assert set(summary["method"]) == {"complete", "gae", "random"}
    assert (summary["n"] == 8).all()
    assert summary[["auc", "ci_low", "ci_high"]].to_numpy().min() >= 0
    with Image.open(finished / "figure.png") as figure:
        assert figure.size[0] > 800
    report = (finished / "report.html").read_text()
    assert "complete minus GAE" in report
    assert "Without a guide" in report


def test_interrupted_by_sigterm_and_resumed_equals_uninterrupted(finished, tmp_path):
    """As a scheduler does it: a signal at some moment, then the same command again."""
    words = [
        "experiment=fig12_perturbation",
        "data.num_images=9",
        "batch_size=4",
        "device=cpu",
        "runner.fractions=[0.0,0.3,0.9]",
        f"run_dir={tmp_path / 'run'}",
    ]
    command = [sys.executable, "run.py", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    parts = tmp_path / "run" / "parts"
    for _ in range(1200):
        if any(parts.glob("*.parquet")) or first.poll() is not None:
            break
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=120)
    assert first.returncode == 130
    assert not (tmp_path / "run" / "results.parquet").exists()
    again = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "4 of 8 images are stored already" in again.stdout
    rows, whole = (
        pd.read_parquet(folder / "results.parquet") for folder in (tmp_path / "run", finished)
    )
    pd.testing.assert_frame_equal(rows, whole)


def test_any_timm_vit_on_any_wnid_folder(tmp_path):
    """scale=sample in small: random weights of 1,000 classes, four pictures, a zebra as guide."""
    module = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2)
    torch.manual_seed(0)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    for number, wnid in enumerate(["n01440764", "n01443537", "n02391049", "n02129165"]):
        folder = tmp_path / "pictures" / wnid
        folder.mkdir(parents=True)
        Image.effect_noise((60, 40), 40 + number).convert("RGB").save(folder / f"{wnid}_1.JPEG")
    weights = str(tmp_path / "weights.safetensors")
    settings = config(
        model=ModelConfig(name="vit_tiny_patch16_224", checkpoint=weights),
        data=DataConfig(name="folder", root=str(tmp_path / "pictures")),
    )
    with pytest.raises(ValueError, match="do not fit vit_tiny_patch16_224"):
        run(settings, tmp_path / "run")
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), weights)
    run(settings, tmp_path / "run")
    rows = pd.read_parquet(tmp_path / "run" / "results.parquet")
    assert sorted(rows["label"].unique()) == [0, 1, 291]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runner": {"fill": "white"}}, "unknown fill"),
        ({"runner": {"unguided_every": -1}}, "unguided_every"),
        ({"guide": GuideConfig(fraction=1.5)}, "fraction"),
        ({"guide": GuideConfig(image="zebbra")}, "neither|no picture file"),
        ({"data": DataConfig(name="folder", root="nowhere")}, "does not exist"),
    ],
)
def test_bad_input(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(config(**changes), tmp_path / "run")


def test_a_guide_that_cuts_a_patch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nearest valid fraction"):
        run(config(guide=GuideConfig(fraction=0.3)), tmp_path / "run")
