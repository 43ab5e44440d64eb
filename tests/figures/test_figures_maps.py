"""Figures 3, 4, 5, 7, 8 and 13: their tables, and what they say about known rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_model
from running import start as run_command
from running import table_of
from tiny import tiny

from attnguide import explain, load_model
from attnguide.data import Creatures
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.views import COMPANY, View, to_view
from attnguide.evaluation.localisation import regions, relevance_by_region
from attnguide.evaluation.localisation_rows import localisation_rows
from attnguide.findings import CLAIM_COLUMNS
from attnguide.methods import get_method
from attnguide.store.maps import load_maps
from attnguide.store.table import read

FIGURES = (
    "fig03_gradient_corrections",
    "fig04_encoder_mechanism",
    "fig05_multi_class",
    "fig07_single_class",
    "fig08_guided",
    "fig13_method_comparison",
)
PAIRED = ("fig05_multi_class", "fig13_method_comparison")

pytestmark = pytest.mark.usefixtures("small_models", "undrawn")


def start(run_dir, figure, *words):
    methods = ["method=[complete,gae]"] if figure == "fig13_method_comparison" else []
    small = ["data.num_images=5", "batch_size=3", "device=cpu"]
    run_command(run_dir, f"experiment={figure}", *small, *methods, *words)
    return table_of(run_dir)


@pytest.mark.parametrize("figure", FIGURES)
def test_tables_are_complete_and_drawn_again_without_a_model(figure, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    summary = start(run_dir, figure)
    assert {"model", "method", "measure", "value", "ci_low", "ci_high", "n"} <= set(summary)
    assert (summary["ci_low"] <= summary["value"] + 1e-9).all()
    assert (summary["value"] <= summary["ci_high"] + 1e-9).all()
    claims = table_of(run_dir, "claims")
    assert list(claims) == ["experiment", *CLAIM_COLUMNS]
    assert set(claims["experiment"]) == {figure}
    assert claims["id"].is_unique
    assert claims["id"].str.startswith(f"{figure[:5]}.").all()
    assert set(claims["verdict"]) == {"inconclusive"}  # of five pictures
    rows, maps = read(run_dir), load_maps(run_dir)
    assert {key.split("|")[0] for key in maps} == set(rows["method"])
    assert len(maps) == rows["shown"].notna().sum()
    assert rows["relevance"].notna().equals(rows["shown"].notna())
    assert all(relevance.shape == (4, 4) for relevance in maps.values())
    check_redrawing(run_dir, monkeypatch)


def check_redrawing(run_dir, monkeypatch):
    """Drawn again without a model, the tables are the same."""
    monkeypatch.setattr("attnguide.models.load.load_model", lambda *_: pytest.fail("a model"))
    before = {name: (run_dir / name).read_bytes() for name in ("summary.csv", "claims.csv")}
    run_command(run_dir, "stage=draw")
    assert {name: (run_dir / name).read_bytes() for name in before} == before


def test_a_stored_map_is_the_map_and_says_whose(tmp_path):
    start(tmp_path / "run", "fig05_multi_class", "runner.shown=1")
    maps, rows = load_maps(tmp_path / "run"), read(tmp_path / "run")
    vit = small_model("creatures")
    [item] = Creatures().shown_pairs(vit, 1).items
    view = to_view(vit, item.load())
    assert set(maps) == {
        f"{method}|pair-0-0|{target}" for method in ("complete", "gae") for target in view.targets
    }
    for place, target in enumerate(view.targets):
        own = rows[
            (rows["image_id"] == "pair-0-0")
            & (rows["method"] == "complete")
            & (rows["target"] == target)
        ].iloc[0]
        relevance = maps[f"complete|pair-0-0|{target}"]
        expected = explain(vit, view.image[None], target).relevance[0].numpy()
        np.testing.assert_allclose(relevance, expected, rtol=1e-3, atol=1e-6)
        found = relevance_by_region(relevance, regions(view.objects, place))
        for name in ("positive_target", "negative_other", "positive_background"):
            assert own[name] == pytest.approx(found[name], rel=1e-3)


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

    views = [toy_view("a"), toy_view("bb")]
    rows = localisation_rows(tiny(), views, [True, False], {"knows": knows})
    assert rows["relevance"].notna().tolist() == [True, True, False, False]
    assert list(rows["target"]) == [1, 3, 1, 3]
    assert list(rows["image_id"]) == ["a", "a", "bb", "bb"]
    assert set(rows["positive_target"]) == {4.0}
    assert set(rows["negative_other"]) == {2.0}
    assert set(rows["positive_other"]) == set(rows["negative_target"]) == {0.0}
    second = rows[rows["target"] == 3]["correlation"]
    left = np.array([1, 0, 0, -0.5])
    assert second.tolist() == pytest.approx([np.corrcoef(left, left[::-1])[0, 1]] * 2)
    assert rows[rows["target"] == 1]["correlation"].isna().all()


def test_competitors_are_the_runner_up_and_a_class_of_neither():
    vit = tiny()
    views = [
        replace(toy_view("a"), targets=(2,), objects=()),
        replace(toy_view("bb"), targets=(0,)),
    ]
    gae = {"gae": get_method("gae")}
    rows = localisation_rows(vit, views, [False] * 2, gae, competitors=2)
    logits = vit.module(torch.stack([view.image for view in views])).detach()
    for number, view in enumerate(views):
        own = rows[rows["image_id"] == view.id].set_index("role")
        assert list(own.index) == ["target", "runner-up", "absent"]
        others = logits[number].clone()
        others[view.targets[0]] = -torch.inf
        assert own.loc["runner-up", "target"] == int(others.argmax())
        assert own["target"].nunique() == 3
        assert own.loc["runner-up", "logit"] == pytest.approx(float(others.max()), rel=1e-5)
    again = localisation_rows(vit, views[:1], [False], gae, competitors=2)
    assert list(again["target"]) == list(rows["target"][:3])


@pytest.mark.parametrize("figure", FIGURES)
def test_a_reference_reaches_the_loss(figure, tmp_path):
    """A two-class loss has other maps than the logit, and needs its second class."""
    words = ["runner.shown=1", "data.num_images=3"]
    with pytest.raises(ValueError, match="pass reference="):
        start(tmp_path / "none", figure, *words, "loss=difference")
    start(tmp_path / "logit", figure, *words)
    start(tmp_path / "pair", figure, *words, "loss=difference", "reference=runner-up")
    logit, pair = (read(tmp_path / name) for name in ("logit", "pair"))
    key = ["image_id", "view", "method", "target"]
    both = logit[[*key, "positive"]].merge(pair[[*key, "positive"]], on=key)
    own = both[both["method"].isin(["complete", "gae"])]
    assert len(own)
    assert (own["positive_x"] != own["positive_y"]).all()
    vit = small_model("creatures")
    item = next(i for i in Creatures(num_images=3).singles(vit).items)
    if figure not in PAIRED and figure != "fig08_guided" and "complete" in set(pair["method"]):
        image = to_view(vit, item.load()).image[None]
        logits = vit.module(image)[0].clone()
        logits[item.label] = -torch.inf
        expected = explain(
            vit, image, item.label, loss="difference", reference=int(logits.argmax())
        ).relevance
        row = pair[(pair["image_id"] == item.id) & (pair["method"] == "complete")
                   & (pair["target"] == item.label)].iloc[0]  # fmt: skip
        positive = float(expected.clamp(min=0).sum())
        assert row["positive"] == pytest.approx(positive, rel=1e-3)


def test_figure_8_leaves_the_guides_class_out_and_compares_the_same_pictures(tmp_path):
    words = ["data.num_images=17", "runner.sweep_images=2", "runner.fractions=[0.3]"]
    summary = start(tmp_path / "run", "fig08_guided", *words)
    rows = read(tmp_path / "run")
    assert CLASS_NAMES.index("spiral-shelled snail") not in set(rows["target"])
    assert "class that were left out: 1." in (tmp_path / "run" / "report.html").read_text()
    counts = summary.groupby("view")["n"].max().to_dict()
    assert {counts.pop(name) for name in ("alone", "right 0.5 squash", *COMPANY)} == {16}
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
    summary = start(tmp_path / "run", "fig13_method_comparison", "runner.limits={gae: 2}")
    assert summary.groupby("method")["n"].max().to_dict() == {"complete": 5, "gae": 2}


@pytest.mark.slow
def test_the_embedded_model_tells_the_two_creatures_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("attnguide.models.load.load_model", load_model)
    summary = start(tmp_path / "run", "fig05_multi_class", "data.num_images=24")
    told = summary.set_index(["method", "measure"])["value"]
    assert told["complete", "both signs right"] > 0.9
    assert told["gae", "both signs right"] < 0.1
