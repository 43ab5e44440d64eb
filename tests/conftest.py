"""What tests share: real inputs where they are, one thread, a small random model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny

from attnguide import wrap_model
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.models.preprocess import Preprocess


def pytest_collection_modifyitems(items):
    """Tests that mostly wait come first, so that the others run meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_slurm.py")


@pytest.fixture(scope="session")
def shared():
    """Folder of real weights, pictures and reference arrays, beside the project."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "assets").is_dir():
        pytest.skip("no ../shared beside the project: real weights and reference arrays are there")
    return path


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def tiny_vit():
    """Two random layers, 4 x 4 patches, 5 classes; the same in every test."""
    return tiny()


@pytest.fixture
def small_models(monkeypatch):
    """Random models of the right classes in the places of the real ones."""

    def load(name, checkpoint=None, *, device="cpu"):
        if name.startswith("creatures"):
            vit = tiny(num_classes=16, img_size=96, patch_size=24)
            return replace(vit, class_names=CLASS_NAMES, name=name)
        vit = tiny(num_classes=1000, img_size=32, patch_size=8)
        return wrap_model(vit.module, Preprocess((32, 32)), name=name)

    monkeypatch.setattr("attnguide.runs.job.load_model", load)
    monkeypatch.setattr("attnguide.data.creatures.contaminated.load_model", load)
    monkeypatch.setattr("attnguide.runs.build.check_model", lambda *_: None)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, but not turned into pixels, which takes seconds."""
    empty = bytes(32)
    monkeypatch.setattr("attnguide.runs.lifecycle.render", lambda *_: empty)
    monkeypatch.setattr("attnguide.report.page.render", lambda *_: empty)


@pytest.fixture
def photographs(tmp_path):
    """Folders of a zebra, a snail, a tusker and a bald eagle, one noisy picture each."""
    rng = np.random.default_rng(0)
    for wnid in ("n02391049", "n01944390", "n01871265", "n01614925"):
        path = tmp_path / "photographs" / wnid / "a.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (30, 48, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photographs"
