"""Ranks, their stability and the scorecard: known tables, and a small run on any pictures."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from running import provenance, start, table_of
from scipy.stats import rankdata
from tiny import pictures

from attnguide import explain, perturb
from attnguide.evaluation import scores
from attnguide.evaluation.ranking import agreement, ranks, stability, table_of_means
from attnguide.figures.claims import MethodComparison, Table, counted, judge
from attnguide.methods import get_method
from attnguide.store.table import read

BETTER = {"a": "more", "b": "less", "c": "near zero"}


@pytest.fixture
def means():
    table = {"a": [3.0, 2, 1, np.nan], "b": [1.0, 2, 3, 4], "c": [-0.1, 0.5, -0.9, 0.2]}
    return pd.DataFrame(table, index=["w", "x", "y", "z"])


def test_ranks_follow_what_is_better_and_gaps_cost_nothing(means):
    found = ranks(means, BETTER)
    assert found["a"].tolist()[:3] == [1, 2, 3]
    assert found["b"].tolist() == [1, 2, 3, 4]
    assert found["c"].tolist() == [1, 3, 4, 2]
    expected = [0, (1 / 2 + 1 / 3 + 2 / 3) / 3, 1 * (1 + 2 / 3 + 1) / 3, (1 + 1 / 3) / 2]
    np.testing.assert_allclose(found["mean rank"], expected)


def test_agreement_is_one_with_itself_and_minus_one_with_the_reverse(means):
    alike = agreement(means.assign(d=-means["a"]), BETTER | {"d": "more"})
    assert alike.loc["a", "a"] == 1
    assert alike.loc["a", "b"] == pytest.approx(1)  # "less" turns it
    assert alike.loc["a", "d"] == pytest.approx(-1)
    assert alike.loc["b", "c"] == pytest.approx((4 - 2) / 6)  # two of six pairs are turned


def rows_of(values):
    return pd.DataFrame(
        [
            {"method": method, "measure": "a", "image_id": str(n), "value": value, "model": "m",
             "part": "", "measured": True, "unit": str(n)}
            for method, own in values.items()
            for n, value in enumerate(own)
        ]
    )  # fmt: skip


def test_a_ranking_without_noise_is_stable_and_one_of_noise_is_not():
    clear = rows_of({"x": [3.0] * 20, "y": [2.0] * 20, "z": [1.0] * 20})
    (line,) = stability(clear, {"a": "more"}).to_dict("records")
    assert line == {"measure": "a", "tau": 1, "low": 1, "high": 1, "methods": 3, "pictures": 20}
    rng = np.random.default_rng(0)
    noise = rows_of({name: rng.normal(size=20) for name in "uvwxyz"})
    assert stability(noise, {"a": "more"})["tau"][0] < 0.8


def scores_of(name):
    return lambda rows: rows["value"].where(rows["measure"] == name)


def test_a_comparison_needs_holm_and_the_right_side():
    base = np.linspace(0, 1, 12)
    tremble = np.where(np.arange(12) % 2, 0.3, -0.1)
    rows = rows_of({"complete": base + 1, "gae": base, "lrp": base + 1 + tremble, "tam": base + 2})
    compared = MethodComparison("study.a", "complete", "a", "is better than")
    claims = judge([compared], [("m", Table(rows, {"a": scores_of("a")}))])
    verdicts = claims.set_index("id")["verdict"].to_dict()
    assert verdicts == {
        "study.a.complete_minus_gae": "holds",
        "study.a.complete_minus_lrp": "inconclusive",
        "study.a.complete_minus_tam": "does not hold",
    }
    assert (claims["p_holm"] >= claims["p"]).all()
    assert claims["claim"].iloc[0] == "is better than GAE"
    (sentence,) = counted(claims, [compared])
    assert "another method is above 0 for 1 of 3, below for 1, inconclusive for 1." in sentence


def test_perturbation_scores_are_those_of_the_perturbation_study(tiny_vit):
    images, target = pictures(tiny_vit), torch.tensor([0, 1, 2])
    fractions = (0.0, 0.25, 0.5)
    table = scores.faithfulness_scores(
        tiny_vit, images, ["a", "b", "c"], target, {"complete": get_method("complete")},
        fractions=fractions,
    )  # fmt: skip
    relevance = explain(tiny_vit, images, target, method="complete").relevance
    areas = {}
    for order in ("positive", "negative"):
        hits = perturb(
            tiny_vit, images, relevance, target, order=order, fractions=fractions
        ).correct.double()
        areas[order] = 100 * ((hits[:, 0] + hits[:, 1]) / 2 + (hits[:, 1] + hits[:, 2]) / 2) / 2
    found = table.pivot(index="image_id", columns="measure", values="value")
    np.testing.assert_allclose(found[scores.LEAST], areas["negative"])
    np.testing.assert_allclose(found[scores.MOST], areas["positive"])
    np.testing.assert_allclose(found[scores.SRG], areas["negative"] - areas["positive"])
    assert set(found) == {scores.LEAST, scores.MOST, scores.SRG, scores.HEAD, scores.ALL,
                          scores.NOISE}  # fmt: skip


@pytest.mark.usefixtures("small_models", "undrawn")
def test_the_scorecard_measures_ranks_and_shows_grids(tmp_path, monkeypatch):
    monkeypatch.setattr("attnguide.data.grids.CONFIDENCE", 0.0)
    monkeypatch.setattr("attnguide.data.grids.recognise", as_labelled)
    words = ["experiment=scorecard", "data.num_images=8", "device=cpu", "batch_size=4"]
    few = ["method=[complete,gae,rollout]", "runner.fractions=[0,0.5]", "++runner.limits={gae: 3}"]
    run_dir = start(tmp_path / "run", *words, *few)
    summary = table_of(run_dir)
    assert {"both signs right", "grid pointing", "SRG"} <= set(summary["measure"])
    counts = summary.groupby("method")["n"].max()
    assert counts["complete"] == 8
    assert counts["gae"] == 3
    means = table_of_means(summary)
    assert ranks(means, scores.BETTER)["mean rank"].between(0, 1).all()
    rows = read(run_dir)
    shown = rows[rows["relevance"].notna()]
    assert set(shown["measure"]) == {"on the target"}
    assert shown.groupby(["image_id", "method"])["target"].nunique().eq(4).all()
    page = (run_dir / "report.html").read_text()
    assert "How stable the rankings are" in page
    assert "Ranks, creatures" in page


def as_labelled(vit, items):
    from attnguide.data.grids import Recognised

    yield from (Recognised(item, item.label) for item in items)


@pytest.mark.usefixtures("small_models", "undrawn")
def test_pictures_without_labels_are_explained_for_the_models_answer(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    run_dir = start(
        tmp_path / "run", "experiment=scorecard", "scale=sample", "model.checkpoint=weights",
        f"data.root={folder}", "method=[complete,gae]", "runner.fractions=[0,0.5]", "device=cpu",
    )  # fmt: skip
    assert "explained for the model's answer" in " ".join(provenance(run_dir)["notes"].values())
    found = table_of(run_dir).set_index(["method", "measure"])["value"]
    assert found["complete", "AUC least first"] >= 50  # recognised as itself before it is masked


def test_ranks_of_ties_are_alike():
    tied = pd.DataFrame({"a": [1.0, 1.0, 0.0]}, index=list("xyz"))
    assert ranks(tied, BETTER)["a"].tolist() == rankdata([-1, -1, 0]).tolist()
