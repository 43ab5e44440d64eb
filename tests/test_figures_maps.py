"""Figures 3, 4, 5, 7, 8 and 13: what they say about known rows, and runs at every scale."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_config import config
from tiny import tiny

from attnguide import load_model
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.views import View
from attnguide.evaluation.localisation import masses, regions
from attnguide.evaluation.map_study import map_rows
from attnguide.runs.lifecycle import run
from attnguide.store.table import load_maps, read

FIGURES = (
    "fig03_gradient_corrections",
    "fig04_encoder_mechanism",
    "fig05_multi_class",
    "fig07_single_class",
    "fig08_guided",
    "fig13_method_comparison",
)
PAIRED = ("fig05_multi_class", "fig13_method_comparison")
ZEBRA = "n02391049"
SCALES = {
    "embedded": [],
    "sample": ["scale=sample", "model.checkpoint=weights"],
    "paper": ["scale=paper", "logger=files"],
}


pytestmark = pytest.mark.usefixtures("small_models", "undrawn")


def start(run_dir, figure, *words, **settings):
    methods = ["method=[complete,gae]"] if figure == "fig13_method_comparison" else []
    small = ["data.num_images=4", "batch_size=3", "device=cpu"]
    made = config(f"experiment={figure}", *small, *methods, *words)
    made.runner |= settings
    run(made, run_dir)
    return pd.read_csv(run_dir / "summary.csv")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_runs_at_every_scale(figure, scale, tmp_path, photographs, monkeypatch):
    words = SCALES[scale]
    if scale != "embedded":
        words = [*words, f"data.root={photographs}"]
    if scale == "paper" and figure in PAIRED:
        own = photographs / ZEBRA / "a.png"
        words.append(f"runner.pictures=[{{file: {own}, classes: [zebra, African elephant]}}]")
    run_dir = tmp_path / "run"
    summary = start(run_dir, figure, *words)
    assert {"model", "method", "measure", "value", "ci_low", "ci_high", "n"} <= set(summary)
    assert (summary["ci_low"] <= summary["value"] + 1e-9).all()
    assert (summary["value"] <= summary["ci_high"] + 1e-9).all()
    assert len(set(summary["model"])) == (2 if scale == "paper" else 1)
    rows, maps = read(run_dir), load_maps(run_dir)
    assert {key.split("|")[0] for key in maps} == set(rows["method"])
    assert all(relevance.shape == (4, 4) for relevance in maps.values())
    if scale == "embedded":
        check_redrawing(figure, run_dir, monkeypatch)


def check_redrawing(figure, run_dir, monkeypatch):
    """Drawn again without a model, the tables are the same."""
    monkeypatch.setattr("attnguide.runs.job.load_model", lambda *_: pytest.fail("a model"))
    before = (run_dir / "summary.csv").read_bytes()
    run(config(f"experiment={figure}", "stage=draw"), run_dir)
    assert (run_dir / "summary.csv").read_bytes() == before


def test_a_stored_map_is_the_map_and_says_whose(tmp_path):
    start(tmp_path / "run", "fig05_multi_class", "runner.shown=1")
    maps = load_maps(tmp_path / "run")
    index = json.loads((tmp_path / "run" / "pictures" / "index.json").read_text())
    (view,) = index["views"]
    first, second = view["targets"]
    assert set(maps) == {
        f"{method}|pair-0-0|{target}"
        for method in ("complete", "gae")
        for target in (first, second)
    }
    rows = read(tmp_path / "run")
    line = rows[
        (rows["image_id"] == "pair-0-0")
        & (rows["method"] == "complete")
        & (rows["target"] == second)
    ].iloc[0]
    own = [np.array(o) for o in view["objects"]]
    found = masses(maps[f"complete|pair-0-0|{second}"], regions(own, 1))
    assert line["positive_target"] == pytest.approx(found["positive_target"], rel=1e-3)
    assert line["negative_other"] == pytest.approx(found["negative_other"], rel=1e-3)


def toy_view(name, kind="alone", own=None):
    """Left column the first object, right column the second."""
    left = torch.tensor([[1.0, 0, 0, 0]] * 4)
    image = torch.full((3, 16, 16), float(len(name)))
    return View(name, kind, image, (1, 3), (left, left.flip(1)), own, "masks")


def test_rows_of_a_method_that_knows_the_objects():
    """A toy method: red on the target's column, half as much blue on the other's."""

    def knows(trace):
        left = torch.tensor([[1.0, 0, 0, 0]] * 4)
        sign = torch.where(trace.target == 1, 1.0, -1.0).view(-1, 1, 1)
        share = torch.where(sign > 0, left - 0.5 * left.flip(1), left.flip(1) - 0.5 * left)
        return share

    rows = map_rows(tiny(), [toy_view("a"), toy_view("bb")], {knows: {}})
    assert list(rows["target"]) == [1, 3, 1, 3]
    assert list(rows["image_id"]) == ["a", "a", "bb", "bb"]
    assert set(rows["positive_target"]) == {4.0}
    assert set(rows["negative_other"]) == {2.0}
    assert set(rows["positive_other"]) == set(rows["negative_target"]) == {0.0}
    second = rows[rows["target"] == 3]["correlation"]
    left = np.array([1, 0, 0, -0.5])
    assert second.tolist() == pytest.approx([np.corrcoef(left, left[::-1])[0, 1]] * 2)
    assert rows[rows["target"] == 1]["correlation"].isna().all()


def test_rivals_are_the_runner_up_and_a_class_of_neither():
    vit = tiny()
    views = [
        replace(toy_view("a"), targets=(2,), objects=()),
        replace(toy_view("bb"), targets=(0,)),
    ]
    rows = map_rows(vit, views, {"gae": {}}, rivals=2)
    logits = vit.module(torch.stack([view.image for view in views])).detach()
    for number, view in enumerate(views):
        own = rows[rows["image_id"] == view.id].set_index("role")
        assert list(own.index) == ["target", "runner-up", "absent"]
        others = logits[number].clone()
        others[view.targets[0]] = -torch.inf
        assert own.loc["runner-up", "target"] == int(others.argmax())
        assert own["target"].nunique() == 3
        assert own.loc["runner-up", "logit"] == pytest.approx(float(others.max()), rel=1e-5)
    again = map_rows(vit, views[:1], {"gae": {}}, rivals=2)
    assert list(again["target"]) == list(rows["target"][:3])


def rewrite(run_dir, change):
    """The stored table with other numbers in it, drawn again: (summary, sentences)."""
    rows = read(run_dir)
    change(rows)
    rows.to_parquet(run_dir / "results.parquet")
    run(config("experiment=fig05_multi_class", "stage=draw"), run_dir)
    return pd.read_csv(run_dir / "summary.csv"), (run_dir / "report.html").read_text()


def toy_masses(rows, who, target, other, background):
    """Signed mass of each region, by who."""
    parts = {"target": target, "other": other, "background": background}
    for region, value in parts.items():
        rows.loc[who, f"positive_{region}"] = max(value, 0.0)
        rows.loc[who, f"negative_{region}"] = max(-value, 0.0)
        rows.loc[who, f"area_{region}"] = 1 / 3
    for sign in ("positive", "negative"):
        rows.loc[who, sign] = sum(rows[f"{sign}_{region}"] for region in parts)[who]


def test_figure_5_says_that_the_claim_holds_where_it_does(tmp_path, capsys):
    start(tmp_path / "run", "fig05_multi_class")

    def holds(rows):
        complete = rows["method"] == "complete"
        toy_masses(rows, complete, 8.0, -6.0, 2.0)
        toy_masses(rows, ~complete, 5.0, 3.0, 2.0)

    capsys.readouterr()
    summary, page = rewrite(tmp_path / "run", holds)
    told = summary.set_index(["method", "measure"])
    assert told.loc[("complete", "both signs right"), "value"] == 1
    assert told.loc[("gae", "both signs right"), "value"] == 0
    assert told.loc[("complete", "positive mass on the target"), "value"] == pytest.approx(0.8)
    assert told.loc[("complete", "all mass on the background"), "value"] == pytest.approx(2 / 16)
    assert told.loc[("gae", "positive mass on the other"), "value"] == pytest.approx(0.3)
    assert set(summary["n"]) == {4}
    assert "complete minus GAE: -0.30 [-0.30, -0.30], n = 4: less, as claimed" in page
    assert "GAE, negative on" not in page


def test_figure_5_says_that_the_claim_fails_where_it_does(tmp_path):
    start(tmp_path / "run", "fig05_multi_class")

    def fails(rows):
        toy_masses(rows, rows["method"] == "complete", 2.0, 4.0, 4.0)
        toy_masses(rows, rows["method"] == "gae", 8.0, 1.0, 1.0)

    _, page = rewrite(tmp_path / "run", fails)
    assert "not both better than chance" in page
    assert "complete minus GAE: 0.30 [0.30, 0.30], n = 4: NOT less" in page


def test_figure_8_leaves_the_guides_class_out_and_compares_the_same_pictures(tmp_path):
    words = ["data.num_images=16", "runner.sweep_images=2", "runner.fractions=[0.3]"]
    summary = start(tmp_path / "run", "fig08_guided", *words)
    rows = read(tmp_path / "run")
    assert CLASS_NAMES.index("spiral-shelled snail") not in set(rows["target"])
    assert "class that were left out: 1." in (tmp_path / "run" / "report.html").read_text()
    counts = summary.groupby("view")["n"].max().to_dict()
    assert counts.pop("alone") == counts.pop("right 0.5 squash") == 15
    assert set(counts) == {
        "left 0.5 squash",
        "top 0.5 squash",
        "bottom 0.5 squash",
        "right 0.25 squash",
        "right 0.5 crop",
        "right 0.5 pad",
        "composed",
    }
    assert set(counts.values()) == {2}
    assert rows.loc[rows["view"] == "right 0.25 squash", "area_guide"].unique() == [0.25]


def test_a_slow_method_is_measured_on_the_first_pictures_only(tmp_path):
    summary = start(tmp_path / "run", "fig13_method_comparison", limits={"gae": 2})
    assert summary.groupby("method")["n"].max().to_dict() == {"complete": 4, "gae": 2}


def stopped(run_dir, figure, *words, **settings):
    with pytest.raises((ValueError, OSError)) as caught:
        start(run_dir, figure, *words, **settings)
    assert not run_dir.exists()
    return str(caught.value)


def test_what_cannot_work_is_refused_before_any_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("attnguide.runs.job.load_model", lambda *_, **__: pytest.fail("a model"))
    run_dir = tmp_path / "run"
    missing = "runner.pictures=[{file: a.png, classes: [x, y]}, {file: b.png, classes: [x, z]}]"
    for figure in PAIRED:
        assert "2 of 2 pictures of runner.pictures are missing: a.png, b.png" in stopped(
            run_dir, figure, missing
        )
    same = "runner.pictures=[{file: a.png, classes: [zebra, Zebra]}]"
    assert "must differ" in stopped(run_dir, "fig05_multi_class", same)
    one = "runner.pictures=[{file: a.png, classes: [x, y]}]"
    assert "needs 1 class" in stopped(run_dir, "fig03_gradient_corrections", one)
    assert "needs a guide" in stopped(run_dir, "fig08_guided", "guide=none")
    assert "must lie in [0, 1)" in stopped(run_dir, "fig08_guided", "runner.fractions=[1.5]")
    blind = "method=[complete,rollout,absolute]"
    assert "leave out rollout, absolute" in stopped(run_dir, "fig13_method_comparison", blind)
    assert "gaee" in stopped(run_dir, "fig13_method_comparison", limits={"gaee": 3})
    assert "does not exist" in stopped(
        run_dir, "fig07_single_class", "scale=sample", "model.checkpoint=w", "data.root=nowhere"
    )


@pytest.mark.slow
def test_the_embedded_model_tells_the_two_creatures_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("attnguide.runs.job.load_model", load_model)
    summary = start(tmp_path / "run", "fig05_multi_class", "data.num_images=24")
    told = summary.set_index(["method", "measure"])["value"]
    assert told["complete", "both signs right"] > 0.9
    assert told["gae", "both signs right"] < 0.1
