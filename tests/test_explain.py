"""A folder of the user's own pictures becomes panels, raw maps and a table."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from attnguide import explain, load_model
from attnguide.config import Config, DataConfig, GuideConfig, check
from attnguide.data.creatures.scenes import CLASS_NAMES, pair
from attnguide.data.pictures import UnreadableImage
from attnguide.evaluation.explained import explanation_rows, picture_file, relevance_of
from attnguide.runs.lifecycle import run
from attnguide.store.table import load_maps, read
from attnguide.types import Explanation

FOX, EAGLE, FISH = 0, 8, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two class-named folders, pictures of a size that is not the model's, and a broken one."""
    root = tmp_path_factory.mktemp("pictures")
    for number, label in enumerate((FOX, FOX, EAGLE)):
        path = root / CLASS_NAMES[label] / f"own {number}.png"
        path.parent.mkdir(exist_ok=True)
        pair(3, number, (label, FISH)).to_pil().resize((150, 120)).save(path)
    (root / CLASS_NAMES[EAGLE] / "broken.jpg").write_bytes(b"\xff\xd8 not much of a picture")
    return root


def config(root=None, **changes):
    settings = {
        "experiment": "explain",
        "method": {"complete": {}, "gae": {}},
        "guide": GuideConfig(layout="none"),
        "data": DataConfig(root=str(root) if root else None),
        "device": "cpu",
        "batch_size": 2,
        "runner": {"overview": 1, "scenes": 1},
        "run_dir": "",
        **changes,
    }
    return check(Config(**settings))


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run(config(folder), run_dir)
    return run_dir


@pytest.fixture
def undrawn(monkeypatch):
    """Runs whose figure is not looked at; it takes seconds to draw."""
    monkeypatch.setattr("attnguide.runs.lifecycle.render", lambda *_: bytes(32))


def ids(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*.png"))


def test_raw_maps_are_those_of_the_library(finished, folder):
    vit = load_model("creatures")
    maps = load_maps(finished)
    assert len(maps) == 6
    for name in ids(folder):
        target = CLASS_NAMES.index(name.split("/")[0])
        images = vit.preprocess(Image.open(folder / name).convert("RGB"))
        for method in ("complete", "gae"):
            expected = explain(vit, images, target, method=method).relevance[0].numpy()
            np.testing.assert_allclose(
                maps[f"{method}|{name}|{target}"], expected, rtol=1e-4, atol=1e-7
            )


def test_summary_tells_target_prediction_and_probability(finished, folder):
    table = pd.read_csv(finished / "summary.csv")
    assert table["image_id"].tolist() == [name for name in ids(folder) for _ in range(2)]
    assert table["method"].tolist() == ["complete", "gae"] * 3
    assert table["label"].tolist() == table["target"].tolist()
    vit = load_model("creatures")
    for row in table.itertuples():
        images = vit.preprocess(Image.open(folder / row.image_id).convert("RGB"))
        logits = vit.module(images)[0].detach()
        assert row.probability == pytest.approx(float(logits.softmax(0)[row.target]), rel=1e-4)
        assert row.logit == pytest.approx(float(logits[row.target]), rel=1e-4)
        assert row.prediction == int(logits.argmax())
        assert row.prediction_name == CLASS_NAMES[row.prediction]
        assert row.target_name == CLASS_NAMES[row.target]
    assert (table.loc[table["method"] == "gae", "positive_share"] == 1).all()


def test_every_picture_has_a_panel_and_the_broken_one_is_named(finished, folder):
    panels = {picture_file(finished, "panels", name) for name in ids(folder)}
    assert set((finished / "panels").iterdir()) == panels
    sizes = []
    for panel in panels:
        with Image.open(panel) as picture:
            sizes.append(picture.size)
            colours = np.asarray(picture.convert("RGB")).astype(int)
        assert ((colours[..., 0] - colours[..., 2]) > 100).any()  # red of a map
    assert min(width for width, _ in sizes) > 800
    broken = f"{CLASS_NAMES[EAGLE]}/broken.jpg"
    assert json.loads((finished / "provenance.json").read_text())["skipped"] == [broken]
    assert f"Skipped, because unreadable (1): {broken}." in (finished / "report.html").read_text()
    for name in ("config.yaml", "results.parquet", "figure.png", "figure.pdf", "maps.npz"):
        assert (finished / name).is_file()


def test_redrawn_without_model_and_pictures(finished, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("drawing needs neither model nor data")

    monkeypatch.setattr("attnguide.runs.job.load_model", refuse)
    monkeypatch.setattr("attnguide.runs.job.open_source", refuse)
    before = {p.name: p.read_bytes() for p in finished.iterdir() if p.suffix in (".png", ".csv")}
    panel = next((finished / "panels").iterdir())
    expected = panel.read_bytes()
    for path in (panel, finished / "maps.npz", finished / "figure.png", finished / "summary.csv"):
        path.unlink()
    run(config(stage="draw"), finished)
    assert panel.read_bytes() == expected
    assert len(load_maps(finished)) == 6
    assert {name: (finished / name).read_bytes() for name in before} == before


@pytest.mark.usefixtures("undrawn")
def test_stopped_and_resumed_equals_uninterrupted(finished, folder, tmp_path, monkeypatch):
    import experiments.explain as module

    calls = []

    def stop_at_the_second_batch(*args, **kwargs):
        calls.append(kwargs)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    original = module.explain_many
    monkeypatch.setattr(module, "explain_many", stop_at_the_second_batch)
    with pytest.raises(SystemExit):
        run(config(folder), tmp_path / "run")
    run(config(folder), tmp_path / "run")
    assert len(calls) == 3
    pd.testing.assert_frame_equal(read(tmp_path / "run"), read(finished))
    for name in ids(folder):
        ours, theirs = (picture_file(run, "panels", name) for run in (tmp_path / "run", finished))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("target", ["star-marked fish", str(FISH)])
def test_target_by_name_or_index_needs_no_labels(folder, tmp_path, target):
    one = next((folder / CLASS_NAMES[FOX]).iterdir())
    run(config(one, target=target, method={"complete": {}}), tmp_path / "run")
    assert list(load_maps(tmp_path / "run")) == [f"complete|{one.name}|{FISH}"]
    assert read(tmp_path / "run")["label"].isna().all()


@pytest.mark.usefixtures("undrawn")
def test_without_a_folder_scenes_of_creatures_are_explained(tmp_path):
    run(config(target="predicted", method={"complete": {}}), tmp_path / "run")
    rows = read(tmp_path / "run")
    assert rows["image_id"].tolist() == ["creature_pairs-0-0"]
    assert rows["target"].tolist() == rows["prediction"].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guide": GuideConfig()}, "pass guide=none"),
        ({"runner": {"overview": 0}}, "at least 1"),
        ({"data": DataConfig(root="/nowhere/at/all")}, "does not exist"),
    ],
)
def test_what_cannot_work_is_refused_before_weights_are_loaded(
    tmp_path, monkeypatch, changes, message
):
    monkeypatch.setattr("attnguide.runs.job.load_model", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(ValueError, match=message):
        run(config(**changes), tmp_path / "run")


def test_labels_that_are_missing_are_asked_for_before_weights_are_loaded(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("attnguide.runs.job.load_model", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(ValueError, match=r"no label, such as own 0.png .*target=predicted"):
        run(config(folder / CLASS_NAMES[FOX]), tmp_path / "run")


def test_wrong_class_name_gets_the_closest_ones(folder, tmp_path):
    with pytest.raises(ValueError, match=r"unknown class 'star-marked fsh'; did you mean star-ma"):
        run(config(folder, target="star-marked fsh"), tmp_path / "run")


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_picture_is_refused_if_asked_for(folder, tmp_path, workers):
    data = DataConfig(root=str(folder), on_error="raise", workers=workers)
    with pytest.raises(UnreadableImage, match=r"eagle/broken.jpg: not a picture"):
        run(config(data=data), tmp_path / "run")


def test_nothing_readable_is_an_error(folder, tmp_path):
    broken = folder / CLASS_NAMES[EAGLE] / "broken.jpg"
    with pytest.raises(ValueError, match="none of the 1 pictures can be read"):
        run(config(broken, target="predicted"), tmp_path / "run")


def test_rows_hold_the_map_and_its_signed_share(tiny_vit):
    relevance = torch.tensor([[[3.0, -1.0], [0.0, 0.0]]])
    logits = torch.tensor([[0.0, 2.0, 1.0, 0.0, 0.0]])

    given = Explanation(relevance, torch.tensor([2]), logits, "complete")
    zero = Explanation(0 * relevance, torch.tensor([2]), logits, "gae")
    rows = explanation_rows(tiny_vit, {"complete": given, "gae": zero}, ["a"], [None])
    first, second = rows.itertuples()
    assert relevance_of(first).tolist() == [[3.0, -1.0], [0.0, 0.0]]
    assert (first.positive_share, first.largest) == (0.75, 3.0)
    assert np.isnan(second.positive_share)
    assert (first.target_name, first.prediction_name) == ("class 2", "class 1")
    assert first.probability == pytest.approx(np.exp(1) / (np.exp([0, 2, 1, 0, 0]).sum()))


def test_no_two_pictures_share_a_file(tmp_path):
    names = ["a/b.png", "a_b.png", "a b.png", "ä/b.png", "b.png", "a/b.png|1"]
    files = {picture_file(tmp_path, "panels", name) for name in names}
    assert len(files) == len(names)
    assert all(file.parent == tmp_path / "panels" for file in files)
    assert picture_file(tmp_path, "panels", "../../x").parent == tmp_path / "panels"
