"""Areas, intervals and paired differences of tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from attnguide.evaluation.perturbation_tables import (
    areas,
    auc_table,
    curves,
    paired_differences,
    scores,
)


def table(values, method="complete", order="negative"):
    """Rows of one model; `values` is images x fractions, used as probability and as correct."""
    return pd.DataFrame(
        {
            "image_id": f"image {image}",
            "model": "m",
            "method": method,
            "order": order,
            "fraction": step / 2,
            "probability": value,
            "correct": value > 0.5,
        }
        for image, row in enumerate(values)
        for step, value in enumerate(row)
    )


def test_area_is_the_trapezoid_in_percent():
    rows = table([[1, 0.5, 0], [0.2, 0.2, 0.2]])
    assert areas(rows, "probability").tolist() == pytest.approx([50, 20])
    assert areas(rows, "accuracy").tolist() == pytest.approx([25, 0])


def test_an_incomplete_image_is_refused():
    with pytest.raises(ValueError, match="'image 1' lacks fractions"):
        curves(table([[1, 1], [1, 1]]).iloc[:-1], "probability")


def test_paired_difference_sees_what_the_spread_hides():
    """Both methods vary wildly between images, one is always 10 points better."""
    levels = np.linspace(0, 0.8, 40)
    rows = pd.concat(
        [
            table([[v + 0.1, v + 0.1] for v in levels]),
            table([[v, v] for v in levels], method="gae"),
        ]
    )
    summary = auc_table(rows, ["complete", "gae"]).set_index(["method", "quantity"])
    own, rival = summary.loc[("complete", "probability")], summary.loc[("gae", "probability")]
    assert own["ci_low"] < rival["ci_high"]
    gap = paired_differences(rows, "complete", ["gae"]).set_index("quantity").loc["probability"]
    assert gap[["auc", "ci_low", "ci_high"]].tolist() == pytest.approx([10, 10, 10])
    assert gap["n"] == 40


def test_summary_has_the_columns_that_others_read():
    summary = auc_table(table([[1, 1], [0, 0]]), ["complete"])
    names = ["method", "order", "quantity", "auc", "ci_low", "ci_high", "n"]
    assert list(summary.columns[:7]) == names
    assert summary["quantity"].tolist() == ["accuracy", "probability", "auc_chefer"]


LEAST = [1, 1, 1, 1, 1, 1, 1, 0.6, 0.6, 0]
MOST = [1, 0.6, 0.6, 0, 0, 0, 0, 0, 0, 0]


def both_orders(least, most, method="complete", **more):
    """Rows over 0 to 0.9; an answer is right above one half."""
    rows = pd.concat([table(least, method), table(most, method, order="positive")])
    return rows.assign(fraction=rows["fraction"] / 5, **more)


def test_published_quantities_are_lines_of_the_same_table():
    """Worked by hand: hits 1 to 0.8 and 1 to 0.2; probabilities as they stand."""
    summary = auc_table(both_orders([LEAST, LEAST], [MOST, MOST]), ["complete"])
    lines = summary.set_index(["quantity", "order"])["auc"]
    assert lines["auc_chefer", "negative"] == pytest.approx(85)
    assert lines["auc_chefer", "positive"] == pytest.approx(25)
    assert lines["accuracy", "negative"] == pytest.approx(85 / 0.9)
    assert lines["srg", ""] == pytest.approx(60 / 0.9)
    assert lines["abpc", ""] == pytest.approx(100 * (8.2 - 2.2) / 11)
    assert len(summary) == 8
    assert list(summary["n"]) == [2] * 8


def test_a_gain_needs_both_orders_at_the_same_fractions():
    rows = both_orders([LEAST], [MOST])
    shorter = rows[(rows["order"] == "negative") | (rows["fraction"] < 0.85)]
    with pytest.raises(ValueError, match="srg needs the same fractions in both orders"):
        scores(shorter, "srg")


def test_gain_of_a_random_order_is_zero_within_its_interval():
    rng = np.random.default_rng(0)
    rows = both_orders(rng.random((60, 10)), rng.random((60, 10)), method="random")
    line = auc_table(rows, ["random"]).set_index("quantity").loc["srg"]
    assert line["ci_low"] < 0 < line["ci_high"]


def test_images_of_one_picture_are_one_unit_and_shown_ones_do_not_count():
    values = np.linspace(0.1, 0.9, 24)[:, None] * np.ones(10)
    rows = both_orders(values, values / 2)
    number = rows["image_id"].str.removeprefix("image ").astype(int)
    mirrored = rows.assign(unit=(number // 2).astype(str), measured=number < 20)
    alone, together = (
        auc_table(each, ["complete"]).set_index(["quantity", "order"])
        for each in (rows[number < 20], mirrored)
    )
    assert (alone["n"] == 20).all()
    assert (together["n"] == 10).all()
    assert together["auc"].tolist() == pytest.approx(alone["auc"].tolist())
    gap = paired_differences(
        pd.concat([mirrored, mirrored.assign(method="gae")]), "complete", ["gae"]
    )
    assert (gap["n"] == 10).all()
