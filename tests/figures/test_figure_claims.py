"""Claims about rows whose numbers are known: they hold, do not, or are inconclusive."""

from dataclasses import replace
from itertools import product

import pandas as pd
import pytest

from attnguide.evaluation.localisation import (
    all_net_positive,
    both_signs,
    column,
    grid_pointing,
    net_negative,
    net_positive,
    own_net_positive,
    positive_share,
    positive_within,
)
from attnguide.figures.claims import MethodComparison, Only, Table, judge, mean


def signs(right, n=12):
    """Pictures per method, of which so many have the answer 1; n of all, or by method."""
    counts = n if isinstance(n, dict) else dict.fromkeys(right, n)
    return Table(
        pd.DataFrame(
            {"image_id": str(number), "method": method, "answer": float(number < count)}
            for method, count in right.items()
            for number in range(counts[method])
        ),
        {"right": column("answer", "answers"), "answer": column("answer")},
    )


def each(*methods):
    """The first is right in most pictures, the others in few: as the paper says it."""
    bounds = ({"above": 0.5} if name == methods[0] else {"below": 0.5} for name in methods)
    return [mean(name, "right", name, family="right", **bound)
            for name, bound in zip(methods, bounds, strict=True)]  # fmt: skip


def judged(claims, table):
    return judge(claims, [("m", table)]).set_index("id")


@pytest.mark.parametrize(
    ("right", "n", "verdict", "side", "words"),
    [
        ((12, 0, 1), 12, "holds", ">", "2 others (decided by the number of complete)"),
        ((12, 12, 1), 12, "does not hold", "<", "2 others (1 of them does too, most of all GAE)"),
        ((12, 6, 1), 12, "inconclusive", "<", "2 others (1 of them may do too, most of all GAE)"),
        ((0, 0, 1), 12, "does not hold", ">", "2 others (decided by the number of complete)"),
        ((6, 0, 1), 12, "inconclusive", ">", "2 others (decided by the number of complete)"),
        ((6, 12, 1), 12, "does not hold", "<", "2 others (1 of them does too, most of all GAE)"),
        ((12, 9, 1), {"complete": 12, "gae": 9, "lrp": 12}, "holds", ">", "1 others"),
    ],
)
def test_only_one_holds_and_every_other_with_enough_pictures_is_judged(
    right, n, verdict, side, words
):
    """Whichever way the others' claims are put."""
    names = ("complete", "gae", "lrp")
    table = signs(dict(zip(names, right, strict=True)), n)
    turned = [replace(c, above=0.5, below=None) for c in each(*names)]
    for own in (each(*names), turned):
        line = judged([Only("study.only", "only complete", own), *own], table).loc["study.only"]
        assert (line["verdict"], line["side"]) == (verdict, side)
        assert line["claim"].startswith(f"only complete, against {words}")


@pytest.mark.parametrize("right", [{"complete": 12}, {"gae": 12, "lrp": 0}])
def test_without_complete_or_without_others_there_is_no_only(right):
    own = each("complete", "gae", "lrp")
    found = judged([Only("study.only", "only complete", own), *own], signs(right))
    assert list(found.index) == [f"right.{name}" for name in right]


def test_an_id_names_measure_and_method_and_ends_in_the_group():
    table = signs({"complete": 12})
    [own] = each("complete")
    [line] = replace(own, section="4.2").lines("m", replace(table, suffix="Boxes"))
    assert line["id"] == "right.complete.boxes"
    assert line["claim"] == "complete (Boxes)"
    assert (line["source"], line["section"], line["side"]) == ("paper", "4.2", ">")
    assert own.where("image_id", "0").lines("m", table)[0]["n"] == 1


def test_a_share_that_is_one_everywhere_is_no_yes_or_no():
    table = signs({"complete": 12})
    assert table.at("complete", "right").low < table.at("complete", "answer").low == 1


def test_claims_of_one_question_are_corrected_together():
    """Ten of twelve right has p = 0.024; beside two such, 0.073; what has few does not count."""
    right = {"complete": 10, "gae": 10, "lrp": 10, "cdam": 10, "tam": 9}
    table = signs(right, dict.fromkeys(right, 12) | {"tam": 9})
    own = [mean(name, "right", name, above=0.5, family=family)
           for name, family in zip(right, ("", *"qqqq"), strict=True)]  # fmt: skip
    found = judged(own, table)
    p = found.loc["right.complete", "p"]
    assert 0.05 / 3 < p < 0.05
    assert found["p"].tolist()[:4] == [p] * 4
    assert found["p_holm"].tolist()[:4] == pytest.approx([p, 3 * p, 3 * p, 3 * p])
    assert found["p_holm"].isna().tolist() == [False] * 4 + [True]
    assert found["verdict"].tolist() == ["holds"] + ["inconclusive"] * 4


def test_two_methods_are_compared_once():
    table = signs({"complete": 12, "gae": 2, "lrp": 0})
    compared = [MethodComparison("a", name, "right", "more than") for name in ("complete", "gae")]
    found = judged(compared, table)
    assert list(found.index) == [
        "a.complete_minus_gae", "a.complete_minus_lrp", "a.gae_minus_lrp"
    ]  # fmt: skip
    assert set(found["source"]) == {"ours"}
    one, other, alone = found["p"]
    assert found["p_holm"].tolist() == pytest.approx([2 * one, max(2 * one, other), alone])


def test_a_map_of_nan_is_missing_and_not_wrong():
    columns = product(("positive", "negative"), ("", "_target", "_other", "_own"))
    rows = pd.DataFrame({sign + where: [1.0, float("nan")] for sign, where in columns})
    rows = rows.assign(area_target=0.5, area_other=0.5, area_own=0.5, view="alone", regions="cells")
    for measure in (
        net_positive("target"), net_negative("other"), both_signs, all_net_positive,
        own_net_positive, grid_pointing, positive_share("target"), positive_within("target"),
    ):  # fmt: skip
        assert measure(rows).isna().tolist() == [False, True]
    nowhere = rows.assign(area_target=0.0)
    assert positive_share("target")(nowhere).isna().all()
