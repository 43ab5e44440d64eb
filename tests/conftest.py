"""What tests share: real inputs where they are, one thread, a small random model."""

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import small_runs
import torch
from command_server import CommandServer
from PIL import Image
from tiny import tiny

from attnguide import wrap_model
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.grids import Recognised
from attnguide.evaluation import engines
from attnguide.models.preprocess import Preprocess

pytest_plugins = ["lanes", "commands"]


Image.new("RGB", (40, 30), "white").save(WHITE := io.BytesIO(), "PNG")
PNG = WHITE.getvalue()


@pytest.fixture(scope="session")
def shared():
    """Folder of real weights, pictures and reference arrays, beside the project."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "assets").is_dir():
        pytest.skip("no ../shared beside the project: real weights and reference arrays are there")
    return path


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """And torch alone: rows are the same wherever and whenever tests run."""
    torch.set_num_threads(1)
    engines.is_installed = lambda: False


@pytest.fixture
def openvino(monkeypatch):
    """A test of OpenVINO itself."""
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    monkeypatch.setattr(engines, "is_installed", lambda: True)


@pytest.fixture(scope="session")
def command():
    """`code, text = command(words)`: what `run.py` does, without the seconds of its imports."""
    server = CommandServer()
    yield server
    server.close()


@pytest.fixture(scope="session", autouse=True)
def forked_devices():
    """The processes of several devices know what a test has replaced."""
    from attnguide.runs import devices

    devices.START = "fork"


@pytest.fixture
def tiny_vit():
    """Two random layers, 4 x 4 patches, 5 classes; the same in every test."""
    return tiny()


def small_model(name, checkpoint=None, *, device="cpu", **_):
    """Random, of the right classes: 4 x 4 patches of pictures as small as its world allows."""
    if str(name).startswith("creatures"):
        vit = tiny(num_classes=16, img_size=96, patch_size=24)
        return replace(vit, class_names=CLASS_NAMES, name=name, weights_sha256=f"of {name}")
    vit = tiny(num_classes=1000, img_size=32, patch_size=8)
    return wrap_model(vit.module, Preprocess((32, 32)), name=name, weights_sha256=f"of {name}")


@pytest.fixture(scope="session")
def creatures():
    """Knows the creatures."""
    return small_model("creatures")


@pytest.fixture(scope="session")
def imagenet():
    """Knows ImageNet's classes."""
    return small_model("tiny imagenet")


def random_models(patch):
    """Random models of the right classes in the places of the real ones."""
    patch.setattr("attnguide.models.load.load_model", small_model)
    patch.setattr("attnguide.models.load.check_model", lambda *_: None)


def all_recognised(patch):
    """Random models recognise nothing, so that no grids could be made of what they recognise."""
    patch.setattr("attnguide.data.grids.recognise", lambda _, items: [
        Recognised(item, item.label) for item in items if item.label is not None])  # fmt: skip


def no_pixels(patch):
    """Figures are made, but not turned into pixels, which takes seconds."""
    for place in ("attnguide.runs.draw", "attnguide.runs.aggregate", "attnguide.report.page",
                  "experiments.explain"):  # fmt: skip
        patch.setattr(f"{place}.render", lambda *_: PNG)


@pytest.fixture
def small_models(monkeypatch):
    random_models(monkeypatch)


@pytest.fixture
def recognised(monkeypatch):
    all_recognised(monkeypatch)


@pytest.fixture
def undrawn(monkeypatch):
    no_pixels(monkeypatch)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """`small_run(name)`: an experiment of `small_runs.py` run once, undrawn; not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    photographs = add_boxed_pairs(make_photographs(folder / "photographs"))

    @cache
    def run(name, world="creatures"):
        words = small_runs.words_of(name, world, photographs)
        with pytest.MonkeyPatch.context() as patch:
            for prepare in (random_models, all_recognised, no_pixels):
                prepare(patch)
            return small_runs.run_watched(folder / f"{name} {world}", words)

    return run


@pytest.fixture
def study(monkeypatch):
    """`tests/fake_study.py` as the experiment `fake_study`."""
    import fake_study

    fake_study.install(monkeypatch.setitem, monkeypatch.setattr)
    monkeypatch.setattr(fake_study, "computed", [])
    monkeypatch.setattr(fake_study, "stop", {})
    return fake_study


@pytest.fixture
def no_models(monkeypatch):
    """Whoever loads weights fails the test."""

    def refuse(*_, **__):
        pytest.fail("a model was loaded")

    monkeypatch.setattr("attnguide.models.load.load_model", refuse)


WNIDS = {
    "zebra": "n02391049",
    "snail": "n01944390",
    "tusker": "n01871265",
    "bald eagle": "n01614925",
    "bull mastiff": "n02108422",
    "conch": "n01943899",
    "kite": "n01608432",
}


def paint(path, rng, size=(30, 48)):
    """Store a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def make_photographs(root):
    """Folders of seven classes, one noisy picture each, and a second one of a snail."""
    rng = np.random.default_rng(0)
    for wnid in WNIDS.values():
        paint(root / wnid / "a.png", rng)
    paint(root / WNIDS["snail"] / "b.png", rng)
    return root


def add_boxed_pairs(photographs):
    """Beside the photographs, three pictures of two classes with boxes."""
    rng = np.random.default_rng(1)
    halves = [[[0.0, 0.0, 0.5, 1.0]], [[0.5, 0.0, 1.0, 1.0]]]
    boxes = {}
    both = (["zebra", "tusker"], ["conch", "bull mastiff"], ["kite", "snail"])
    for number, classes in enumerate(both):
        name = f"two{number}.png"
        paint(photographs.parent / "pairs" / name, rng, (40, 40))
        boxes[name] = {"classes": classes, "boxes": halves}
    (photographs.parent / "pairs" / "boxes.json").write_text(json.dumps(boxes))
    return photographs


@pytest.fixture
def photographs(tmp_path):
    return make_photographs(tmp_path / "photographs")


@pytest.fixture
def boxed_photographs(photographs):
    return add_boxed_pairs(photographs)
