"""Areas, intervals and paired differences of tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from attnguide.evaluation.statistics import (
    areas,
    auc_table,
    bootstrap_mean,
    curves,
    paired_differences,
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


def test_interval_covers_the_known_spread():
    """The standard error of a mean of n draws is sigma / sqrt(n)."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    interval = bootstrap_mean(values)
    assert interval.mean == pytest.approx(values.mean())
    width = 2 * 1.96 * values.std() / 20
    assert interval.high - interval.low == pytest.approx(width, rel=0.1)
    again = bootstrap_mean(values)
    assert (again.low, again.high) == (interval.low, interval.high)


def test_interval_of_equal_values_is_a_point():
    interval = bootstrap_mean(np.full((7, 3), 2.0))
    assert interval.low.tolist() == interval.high.tolist() == [2, 2, 2]


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
    assert summary["quantity"].tolist() == ["accuracy", "probability"]
