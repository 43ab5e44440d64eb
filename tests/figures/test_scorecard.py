"""Ranks, their stability and the scorecard: known tables, and a small run on any pictures."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import paint
from running import provenance, start, table_of
from scipy.stats import rankdata
from tiny import pictures

from attnguide import explain, perturb
from attnguide.evaluation import scores
from attnguide.evaluation.scores import (
    agreement,
    mean_ranks,
    ranks,
    redrawn,
    stability,
    table_of_means,
    winner,
)
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


def test_mean_ranks_have_intervals_over_pictures():
    clear = rows_of({"x": [3.0] * 20, "y": [2.0] * 20, "z": [1.0] * 20})
    table = mean_ranks(clear, BETTER)
    assert table["method"].tolist() == ["x", "y", "z"]
    assert table["value"].tolist() == table["ci_low"].tolist() == [0, 0.5, 1]
    assert table["n"].tolist() == [20] * 3
    rng = np.random.default_rng(0)
    noise = rng.normal(size=20)
    close = rows_of({"x": noise + rng.normal(0, 0.5, 20), "y": noise})
    first, second = mean_ranks(close, BETTER).itertuples()
    assert (first.value, second.value) == (0, 1)
    assert (first.ci_low, first.ci_high, second.ci_low) == (0, 1, 0)  # they may change places


def test_pictures_are_drawn_again_for_all_methods_alike():
    """What all methods share of a picture's difficulty does not blur their order."""
    hard = np.random.default_rng(2).normal(0, 9, size=20)
    table = mean_ranks(rows_of({"x": hard + 0.1, "y": hard}), BETTER)
    assert table["ci_high"].tolist() == [0, 1]


def test_units_of_several_pictures_are_drawn_together():
    rows = rows_of({"x": [1.0, 0.0] * 10, "y": [0.5] * 20})
    apart = redrawn(rows)["a"]["x"]
    together = redrawn(rows.assign(unit=[str(n // 2) for n in range(20)] * 2))["a"]["x"]
    assert apart.std() > 0.05
    assert together.std() == 0  # each unit has one of both


def test_the_best_method_is_named_with_those_not_told_apart_from_it():
    rng = np.random.default_rng(3)
    base = rng.normal(size=30)
    near = base + rng.normal(0, 1, 30) - 0.05
    rows = rows_of({"best": base, "near": near, "far": base - 1, "few": [9.0]})
    assert winner(rows, "a", "more") == ("best", pytest.approx(base.mean()), ["near"])
    assert winner(rows, "a", "less")[0] == "far"
    assert winner(rows, "b", "more") is None


def test_four_pictures_tell_no_methods_apart():
    rows = rows_of({"x": [3.0] * 4, "y": [2.0] * 4})
    assert mean_ranks(rows, BETTER)[["ci_low", "ci_high"]].isna().all(axis=None)
    assert stability(rows, {"a": "more"})[["tau", "low", "high"]].isna().all(axis=None)
    assert winner(rows, "a", "more") == ("x", 3, ["y"])


def test_whom_to_trust_is_said_for_each_question():
    def of(measure, values):
        return rows_of(values).assign(measure=measure)

    rows = pd.concat([
        of(scores.BOTH, {"complete": [1.0] * 12, "gae": [0.0] * 12}),
        of(scores.SRG, {"complete": [-20.0] * 12, "gae": [-30.0] * 12}),
        of(scores.ON, {"complete": [0.4] * 12, "gae": [0.9] * 12}),
    ])  # fmt: skip
    assert scores.whom_to_trust("m", rows) == (
        "m: trust complete for sign (both signs right 1.00); none for ranking (the best is "
        "complete, SRG \N{MINUS SIGN}20); GAE for localisation (relevance mass on the target 0.90)."
    )
    grids = of(scores.POINTING, {"complete": [0.8] * 12, "gae": [0.3] * 12})
    assert "complete for localisation (grid pointing 0.80)" in scores.whom_to_trust(
        "m", pd.concat([rows, grids])
    )


def test_a_comparison_needs_holm_and_the_right_side():
    base = np.linspace(0, 1, 12)
    tremble = np.where(np.arange(12) % 2, 0.3, -0.1)
    rows = rows_of({"complete": base + 1, "gae": base, "lrp": base + 1 + tremble, "tam": base + 2})
    compared = MethodComparison("study.a", "complete", "a", "is better than")
    claims = judge([compared], [("m", Table(rows, {"a": lambda found: found["value"]}))])
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


def test_the_scorecard_measures_ranks_and_shows_grids(small_run):
    run_dir = small_run("scorecard").run_dir
    summary = table_of(run_dir)
    assert {"both signs right", "grid pointing", "SRG"} <= set(summary["measure"])
    means = table_of_means(summary)
    assert ranks(means, scores.BETTER)["mean rank"].between(0, 1).all()
    rows = read(run_dir)
    shown = rows[rows["relevance"].notna()]
    assert set(shown["measure"]) == {scores.ON}
    assert shown.groupby(["image_id", "method"])["target"].nunique().eq(4).all()
    page = (run_dir / "report.html").read_text()
    assert "How stable the rankings are" in page
    claims = table_of(run_dir, "claims")
    assert len(claims) <= 12
    assert set(claims["source"]) == {"ours"}
    found = json.loads((run_dir / "findings.json").read_text())["found"]
    assert found[0].startswith("creatures: trust ")
    assert "Ranks, creatures" in page


@pytest.mark.usefixtures("small_models", "undrawn")
def test_pictures_without_labels_are_explained_for_the_models_answer(tmp_path):
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    for number in range(4):
        paint(folder / f"{number}.png", rng)
    run_dir = start(
        tmp_path / "run", "experiment=scorecard", "scale=sample", "model.checkpoint=weights",
        f"data.root={folder}", "method=[complete,gae]", "runner.fractions=[0,0.5]", "device=cpu",
    )  # fmt: skip
    assert "explained for the model's answer" in " ".join(provenance(run_dir)["notes"].values())
    found = table_of(run_dir).set_index(["method", "measure"])["value"]
    assert found["complete", scores.LEAST] >= 50  # recognised as itself before it is masked


def test_ranks_of_ties_are_alike():
    tied = pd.DataFrame({"a": [1.0, 1.0, 0.0]}, index=list("xyz"))
    assert ranks(tied, BETTER)["a"].tolist() == rankdata([-1, -1, 0]).tolist()
