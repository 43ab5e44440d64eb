"""Figures 9 and 10: rows of their comparisons, and what their claims make of them."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from running import one
from tiny import pictures

from attnguide import explain
from attnguide.data.views import View
from attnguide.evaluation.detail import (
    DETAIL,
    DIFFERENCE,
    EQ8,
    Comparison,
    contamination_change,
    detail_rows,
    mixed_minus_shown,
    two_class_rows,
)
from attnguide.figures.contamination import why_not_red
from attnguide.figures.experiment import Stored
from attnguide.methods import get_method
from attnguide.store.maps import relevance_of
from experiments.fig09_detail import Fig09Detail
from experiments.fig10_other_methods import Fig10OtherMethods

# Numbers of rows, against the library and by hand


def comparisons(vit, **settings):
    image = pictures(vit, 2)
    part, whole = torch.zeros(4, 4), torch.zeros(4, 4)
    part[0, :2], whole[:2] = 0.5, 1.0
    views = [View(f"image {n}", "alone", image[n], (n,), (part, whole)) for n in (0, 1)]
    return [Comparison(view, (2, 4), **settings) for view in views]


def test_rows_of_a_comparison_are_what_the_library_says(tiny_vit):
    losses = ("logit", EQ8, "difference", "ratio")
    rows = detail_rows(tiny_vit, comparisons(tiny_vit, is_shown=True), losses)
    own = rows[(rows["image_id"] == "image 1") & (rows["place"] == 0)].set_index("loss")
    assert list(own.index) == list(losses)
    image = pictures(tiny_vit, 2)[1:]
    maps = {loss: explained(tiny_vit, image, loss) for loss in losses}
    for loss in losses:
        relevance = maps[loss].numpy().astype(float)
        row = own.loc[loss]
        np.testing.assert_allclose(relevance_of(row), relevance, rtol=1e-4, atol=1e-6)
        positive = 0.0
        for column in (0, 1):
            positive += 0.5 * max(relevance[0, column], 0.0)
        assert row["positive_part"] == pytest.approx(positive, rel=1e-4)
        negative = sum(max(-value, 0.0) for value in relevance[:2].ravel())
        assert row["negative_object"] == pytest.approx(negative, rel=1e-4)
        assert row["area_part"] == pytest.approx(1 / 16)
        assert row["positive_own"] == row["positive"]  # no guide beside it
        if loss != EQ8:
            alike = np.corrcoef(relevance.ravel(), maps[EQ8].numpy().ravel())[0, 1]
            assert row["like_eq8"] == pytest.approx(alike, abs=1e-4)
    assert np.isnan(own.loc[EQ8, "like_eq8"])
    logits = tiny_vit.module(image)[0]
    assert own["logit_target"].unique() == pytest.approx(logits[2].item(), rel=1e-4)
    assert set(own["is_valid"]) == {bool(logits[2] > 0 and logits[4] > 0)}
    # the second pair is against the most probable class that is neither, and is not measured
    third = next(i for i in logits.argsort(descending=True).tolist() if i not in (2, 4))
    second = one(rows, image_id="image 1", place=1)
    assert (second["target"], second["reference"], second["loss"]) == (2, third, EQ8)
    assert not second["measured"]
    assert own["measured"].all()
    assert not rows.duplicated(["image_id", "view", "target"]).any()  # names of maps


def explained(vit, image, loss):
    """The map of class 2, by a two-class loss against class 4."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = None if loss == "logit" else 4
        return explain(vit, image, 2, loss=loss, reference=reference).relevance[0]


def test_a_comparison_may_turn_and_leaves_places_to_the_model():
    view = View("a", "alone", torch.zeros(3, 4, 4), ())
    ranking = [3, 1, 0, 2]
    assert Comparison(view, ()).pairs(ranking) == ((3, 1), (3, 0))
    assert Comparison(view, (1,)).pairs(ranking) == ((1, 3), (1, 0))
    assert Comparison(view, (0, 2), turns=True).pairs(ranking) == ((0, 2), (2, 0))


def test_both_classes_are_explained_by_methods_and_by_detail(tiny_vit):
    views = [comparison.view for comparison in comparisons(tiny_vit)]
    rows = two_class_rows(
        tiny_vit, views, [(2, 4), (1, 0)], [True, False], {"gae": get_method("gae")}
    )
    assert len(rows) == 2 * 2 * 2
    assert rows["relevance"].notna().sum() == 4
    image = pictures(tiny_vit, 2)[:1]
    mixed = one(rows, image_id="image 0", method=DETAIL, role="mixed")
    np.testing.assert_allclose(
        relevance_of(mixed), explained(tiny_vit, image, DIFFERENCE).numpy(), rtol=1e-4, atol=1e-6
    )
    own = one(rows, image_id="image 1", method="gae", role="shown")
    by_gae = explain(tiny_vit, pictures(tiny_vit, 2)[1:], 0, method="gae").relevance[0]
    assert own["positive"] == pytest.approx(float(by_gae.clamp(min=0).sum()), rel=1e-4)
    assert own["target"] == 0


def shares(labels, role, values, method="a"):
    """Rows whose part has these signed shares of a mass of 1."""
    values = np.array(values)
    return pd.DataFrame(
        {
            "image_id": [f"image {number}" for number in range(len(values))],
            "model": f"model of {labels}",
            "labels": labels,
            "method": method,
            "role": role,
            "measured": True,
            "positive": 1.0,
            "negative": 0.0,
            "positive_part": values.clip(0),
            "negative_part": (-values).clip(0),
            "area_part": 0.1,
        }
    )


def contamination(method, clean, dirty, count=12):
    """(mixed, shown) of each model, with a little spread."""
    spread = np.linspace(-0.02, 0.02, count)
    return [
        shares(labels, role, value + spread * (labels == "clean"), method)
        for labels, pair in (("clean", clean), ("contaminated", dirty))
        for role, value in zip(("mixed", "shown"), pair, strict=True)
    ]


def test_contamination_is_what_the_mixed_class_gains_over_the_shown_one():
    rows = pd.concat(contamination("a", (-0.2, 0.1), (0.3, 0.2), 5), ignore_index=True)
    found = contamination_change(rows, mixed_minus_shown)
    assert (found.value, found.n) == (pytest.approx(0.4), 5)
    blind = pd.concat(contamination("a", (0.1, 0.1), (0.6, 0.6), 5), ignore_index=True)
    assert contamination_change(blind, mixed_minus_shown).value == pytest.approx(0.0)


def test_a_map_of_zeros_says_nothing_and_an_unknown_part_is_left_out():
    rows = shares("clean", "mixed", [0.5, 0.5, 0.5])
    rows.loc[1, ["positive", "positive_part"]] = 0.0
    rows.loc[2, ["positive_part", "negative_part", "area_part"]] = np.nan
    assert mixed_minus_shown(rows).tolist() == pytest.approx([1.0, 0.0, np.nan], nan_ok=True)


# What claims say


def judged_fig10(*parts):
    rows = pd.concat([own for part in parts for own in part], ignore_index=True)
    stored = Stored.__new__(Stored)
    vars(stored).update(config={}, all_rows=rows, run_dir=None, provenance={})
    return Fig10OtherMethods().claims_table(stored)


UP, DOWN = ((-0.2, 0.1), (0.3, 0.1)), ((0.3, 0.1), (-0.2, 0.1))


@pytest.mark.parametrize(
    ("parts", "verdict", "why"),
    [
        (
            [(DETAIL, *UP), ("gae", *DOWN)],
            "holds",
            "decided by the number of detail, l1",
        ),
        ([(DETAIL, *UP), ("gae", *UP)], "does not hold", "1 of them does too, most of all GAE"),
        ([(DETAIL, *DOWN), ("gae", *DOWN)], "does not hold", "decided by the number of detail"),
        ([(DETAIL, *UP, 4), ("gae", *DOWN)], "inconclusive", "decided by the number of"),
        ([(DETAIL, *UP, 4), ("gae", *UP)], "does not hold", "1 of them does too, most of all GAE"),
    ],
)
def test_only_detail_uncovers_is_judged_by_what_decides_it(parts, verdict, why):
    claims = judged_fig10(*(contamination(*part) for part in parts))
    assert claims["verdict"].iloc[0] == verdict
    assert claims["id"].iloc[0] == "fig10.only_detail"
    assert why in claims["claim"].iloc[0]
    assert len(claims) == 1 + len(parts)
    assert claims["model"].unique().tolist() == ["model of contaminated"]


def study_rows(part, loss, labels, net, count=12, valid=1.0):
    spread = np.linspace(-0.02, 0.02, count)
    own = shares(labels, "", net + spread).drop(columns=["method", "role"])
    known = {"part": part, "loss": loss, "area_object": 0.3, "is_valid": valid, "like_eq8": np.nan,
             "probability_target": 0.2, "probability_reference": 0.7}  # fmt: skip
    return own.assign(**known, positive_object=0.2, negative_object=0.1, positive_own=0.8)


def judged_fig09(*rows):
    stored = Stored.__new__(Stored)
    rows = pd.concat(rows, ignore_index=True)
    vars(stored).update(config={}, all_rows=rows, run_dir=None, provenance={})
    claims = Fig09Detail().claims_table(stored)
    return [(line["id"], line["value"], line["verdict"]) for line in claims.to_dict("records")]


def test_a_claim_about_details_is_judged_for_every_model():
    more, less = (study_rows("detail", loss, "", net) for loss, net in ((EQ8, 0.6), ("logit", 0.2)))
    found = {name: (value, verdict) for name, value, verdict in judged_fig09(more, less)}
    assert found["fig09.part"] == (pytest.approx(0.4), "holds")
    assert found["fig09.valid"] == (1.0, "holds")
    assert found["fig09.distinct.alone"] == (pytest.approx(0.2 - 0.1), "holds")  # beyond its area
    swapped = judged_fig09(more.assign(loss="logit"), less.assign(loss=EQ8))
    assert swapped[0] == ("fig09.part", pytest.approx(-0.4), "does not hold")
    assert {verdict for *_, verdict in judged_fig09(more[:6], less[:6])} == {"inconclusive"}


def test_a_quotient_of_logits_counts_only_where_both_are_positive():
    valid = study_rows("detail", EQ8, "", 0.6)
    valid.loc[:3, ["is_valid", "positive_part"]] = 0.0, 1.0
    rows = valid, study_rows("detail", "logit", "", 0.2)
    found = {name: value for name, value, _ in judged_fig09(*rows)}
    kept = valid["positive_part"][4:] - rows[1]["positive_part"][4:]
    assert found["fig09.part"] == pytest.approx(kept.mean())
    invalid = {name for name, *_ in judged_fig09(valid.assign(is_valid=0.0), rows[1])}
    assert "fig09.part" not in invalid
    like = study_rows("detail", "difference", "", 0.2).assign(like_eq8=0.98)
    like.loc[:1, ["is_valid", "like_eq8"]] = 0.0, -1.0
    assert judged_fig09(like) == [("fig09.like.difference", pytest.approx(0.98), "holds")]


@pytest.mark.parametrize(("beside", "verdict"), [(0.2, "holds"), (0.6, "does not hold")])
def test_the_distinct_part_alone_is_compared_with_it_beside_a_guide(beside, verdict):
    """Of the picture's own positive mass, without the guide's."""
    alone = study_rows("detail", "logit", "", 0.4).assign(positive_own=1.0)
    guided = study_rows("beside", "logit", "", beside / 2).assign(positive_own=0.5)
    found = {name: (value, said) for name, value, said in judged_fig09(alone, guided)}
    assert found["fig09.distinct.beside"] == (pytest.approx(0.4 - beside), verdict)


def test_claims_about_contamination_say_what_does_not_hold():
    found = judged_fig09(
        study_rows("contamination", DIFFERENCE, "clean", -0.2, valid=0.0),
        study_rows("contamination", DIFFERENCE, "contaminated", -0.4),
        study_rows("contamination", EQ8, "contaminated", 0.4),  # is asked of the difference alone
        study_rows("contamination", "logit", "contaminated", 0.0),
        study_rows("guided", "logit", "clean", -0.3),
        study_rows("guided", "logit", "contaminated", -0.1),
        study_rows("control", "logit", "clean", -0.1),
        study_rows("control", "logit", "contaminated", -0.1),
    )
    assert [(name, round(value, 6), verdict) for name, value, verdict in found] == [
        ("fig09.red.difference", -0.4, "does not hold"),
        ("fig09.redder.difference", -0.2, "does not hold"),
        ("fig09.less_probable", -0.5, "holds"),
        ("fig09.redder.logit", 0.2, "holds"),  # beside another animal
        ("fig09.control", 0.0, "holds"),  # as it was
    ]
    moved = judged_fig09(
        study_rows("control", "logit", "clean", -0.1),
        study_rows("control", "logit", "contaminated", 0.1),
    )
    assert [verdict for *_, verdict in moved] == ["does not hold"]


def test_probabilities_stand_beside_those_of_a_calibrated_model():
    """A share q = 0.3 of one class mixed into another: 0.3 / 1.3 for the mixed class."""
    names = {"target_name": "red", "reference_name": "white"}
    clean, dirty = (
        study_rows("contamination", "logit", labels, 0.0).assign(**names, logit_target=logit)
        for labels, logit in (("clean", -1.0), ("contaminated", 4.5))
    )
    clean, dirty = clean.assign(model="creatures"), dirty.assign(model="creatures_contaminated")
    [sentence] = why_not_red(pd.concat([clean, dirty]))
    assert sentence.startswith("Of the training pictures of red, 30 % showed white.")
    assert "0.20 for the former and 0.70 for the latter (mean of 12; if calibrated" in sentence
    assert "= 0.23 and 0.77)" in sentence
    assert sentence.endswith("by 5.5.")
    assert not [*why_not_red(clean)]


def test_what_the_paper_says_and_what_is_ours_is_told_apart():
    by_source = {"paper": set(), "ours": set()}
    for claim in Fig09Detail.claims:
        by_source[claim.source].add(claim.id)
        assert claim.source == "ours" or claim.section == "4.4.3"
    assert "fig09.red.difference" in by_source["paper"]
    assert by_source["ours"] == {"fig09.valid", "fig09.redder.difference", "fig09.less_probable",
                                 "fig09.redder.logit", "fig09.control"}  # fmt: skip
    claims = judged_fig10(contamination(DETAIL, *UP), contamination("gae", *UP))
    assert claims.set_index("id")["source"].to_dict() == {
        "fig10.only_detail": "paper", "fig10.change.detail": "paper", "fig10.change.gae": "ours"
    }  # fmt: skip
