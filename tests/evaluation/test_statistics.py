"""Intervals that cover, verdicts that can be withheld, corrections worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest
from scipy.stats import bootstrap as scipy_bootstrap

from attnguide.evaluation.statistics import (
    DOES_NOT_HOLD,
    HOLDS,
    INCONCLUSIVE,
    NOT_KNOWN,
    Estimate,
    estimate,
    estimate_curve,
    holm,
    measured_rows,
    paired_difference,
    read_estimate,
    signed_rank,
    summarise,
)

VALUE = {"v": lambda rows: rows["v"]}


def answers(right, n):
    return pd.Series([1.0] * right + [0.0] * (n - right))


def wilson(k, n):
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return interval.low, interval.high


def test_text_of_an_estimate():
    known = Estimate(0.924, 0.88, 0.951, 100)
    assert str(known) == f"{known}" == "0.92 [0.88, 0.95], n = 100"
    assert known.signed == "+0.92 [+0.88, +0.95], n = 100"
    assert f"{known:.1f}" == "0.9 [0.9, 1.0], n = 100"
    assert Estimate(-0.5, -1, 0.25, 3).signed == "-0.50 [-1.00, +0.25], n = 3"
    assert str(NOT_KNOWN) == NOT_KNOWN.signed == "not known"


@pytest.mark.parametrize(
    ("low", "high", "n", "above", "below"),
    [
        (0.6, 0.9, 10, HOLDS, DOES_NOT_HOLD),
        (0.1, 0.4, 10, DOES_NOT_HOLD, HOLDS),
        (0.4, 0.6, 100, INCONCLUSIVE, INCONCLUSIVE),
        (0.5, 0.9, 100, INCONCLUSIVE, INCONCLUSIVE),
        (0.1, 0.5, 100, INCONCLUSIVE, INCONCLUSIVE),
        (0.6, 0.9, 9, INCONCLUSIVE, INCONCLUSIVE),
        (0.6, 0.9, 4, INCONCLUSIVE, INCONCLUSIVE),
        (np.nan, np.nan, 0, INCONCLUSIVE, INCONCLUSIVE),
    ],
)
def test_verdicts(low, high, n, above, below):
    known = Estimate((low + high) / 2, low, high, n)
    assert known.verdict(above=0.5) == above
    assert known.verdict(below=0.5) == below


@pytest.mark.parametrize("bounds", [{}, {"above": 0.5, "below": 0.5}])
def test_a_verdict_takes_one_bound(bounds):
    with pytest.raises(TypeError, match="either above or below"):
        NOT_KNOWN.verdict(**bounds)


@pytest.mark.parametrize("n", [1, 4, 120])
def test_all_right_is_never_certain(n):
    found = estimate(answers(n, n))
    assert (found.value, found.high, found.n) == (1, 1, n)
    assert found.low == pytest.approx(n / (n + 1.959964**2), rel=1e-6)
    none = estimate(answers(0, n))
    assert (none.low, none.high) == pytest.approx((0, 1 - found.low))


@pytest.mark.parametrize(("n", "p"), [(4, 0.9), (10, 0.5), (10, 0.95), (60, 0.97)])
def test_wilson_covers_what_it_says(n, p):
    """Exactly: the chance of the answers whose interval contains p."""
    found = [estimate(answers(k, n)) for k in range(n + 1)]
    covered = [k for k, each in enumerate(found) if each.low <= p <= each.high]
    assert binom.pmf(covered, n, p).sum() >= 0.9


def test_broken_numbers_of_successes_take_both_neighbours():
    """Two answers of one image may disagree: 3.5 of 5 is between 3 and 4."""
    found = estimate(pd.Series([1, 1, 1, 0.5, 0]), kind="answers")
    assert (found.low, found.high) == (wilson(3, 5)[0], wilson(4, 5)[1])
    assert found.value == pytest.approx(0.7)


def test_percent_is_the_same_interval():
    share, percent = estimate(answers(7, 9)), estimate(100 * answers(7, 9), yes=100)
    expected = [100 * v for v in (share.value, share.low, share.high)]
    assert [percent.value, percent.low, percent.high] == pytest.approx(expected)


def test_differences_of_answers_by_hand():
    """5 gain, 1 loses, 6 stay: two shares that exclude each other, added in squares."""
    found = estimate(pd.Series([1.0] * 5 + [-1.0] + [0.0] * 6))
    up, down, n = 5 / 12, 1 / 12, 12
    (a, b), (c, d) = wilson(5, n), wilson(1, n)
    r = -np.sqrt(up * down / ((1 - up) * (1 - down)))
    low = np.sqrt((up - a) ** 2 + (d - down) ** 2 - 2 * r * (up - a) * (d - down))
    high = np.sqrt((b - up) ** 2 + (down - c) ** 2 - 2 * r * (b - up) * (down - c))
    assert found.value == pytest.approx(1 / 3)
    assert (found.low, found.high) == pytest.approx((1 / 3 - low, 1 / 3 + high))


@pytest.mark.parametrize(("n", "up", "down"), [(10, 0.1, 0.3), (30, 0.3, 0.0), (40, 0.5, 0.5)])
def test_intervals_of_differences_cover(n, up, down):
    draws = np.random.default_rng(0).multinomial(n, [up, down, 1 - up - down], 400)
    kinds, times = np.unique(draws, axis=0, return_counts=True)
    covered = 0
    for (gain, loss, same), often in zip(kinds, times, strict=True):
        found = estimate(pd.Series([1.0] * gain + [-1.0] * loss + [0.0] * same), kind="differences")
        assert -1 <= found.low <= found.value <= found.high <= 1
        covered += often * (found.low <= up - down <= found.high)
    assert covered / 400 >= 0.92


def test_all_gain_is_the_share_that_all_gain():
    """With nothing lost, no difference is certain either."""
    found = estimate(pd.Series([1.0] * 12), kind="differences")
    low, _ = wilson(12, 12)
    assert (found.value, found.low, found.high) == pytest.approx((1, 2 * low - 1, 1))
    same = estimate(pd.Series([0.0] * 12), kind="differences")
    assert (same.low, same.high) == pytest.approx((low - 1, 1 - low))


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(1).gamma(2, size=80)
    found = estimate(pd.Series(values))
    other = scipy_bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    spread = values.std() / np.sqrt(80)
    assert found.value == values.mean()
    assert found.low == pytest.approx(other.low, abs=0.12 * spread)
    assert found.high == pytest.approx(other.high, abs=0.12 * spread)
    assert estimate(pd.Series(values)) == found
    assert estimate(pd.Series(values), seed=1) != found


def test_mirrored_pairs_are_no_new_evidence():
    """The same picture twice: as wide as once, sqrt(2) wider than as if independent."""
    values = np.random.default_rng(3).normal(0.5, 0.1, 100)
    twice = pd.Series(np.tile(values, 2), [f"{side}{i}" for side in "ab" for i in range(100)])
    units = pd.Series([f"picture {i}" for i in range(100)] * 2, twice.index)
    wrong, right, once = estimate(twice), estimate(twice, units), estimate(pd.Series(values))
    assert (wrong.n, right.n) == (200, 100)
    assert (right.low, right.high) == pytest.approx((once.low, once.high))
    ratio = (right.high - right.low) / (wrong.high - wrong.low)
    assert ratio == pytest.approx(np.sqrt(2), rel=0.06)


def test_units_of_several_sizes_are_weighted_by_their_images():
    """Unit a has three images, b one: the mean is over images, resamples are ratios of sums."""
    values = pd.Series([1.0, 2.0, 3.0, 8.0], ["a1", "a2", "a3", "b"])
    units = pd.Series(["a", "a", "a", ""], values.index)
    found = estimate(values, units)
    assert (found.value, found.n) == (3.5, 2)
    assert (found.low, found.high) == (2, 8)  # a twice: 12 / 6; b twice: 16 / 2


def test_answers_of_one_unit_count_once():
    twice = pd.Series([1.0] * 8, list("abcdefgh"))
    units = pd.Series(list("wwxxyyzz"), twice.index)
    assert (estimate(twice, units).low, estimate(twice, units).n) == (wilson(4, 4)[0], 4)


def test_images_without_a_value_are_left_out():
    values = pd.Series([1.5, np.nan, 2.5], list("abc"))
    units = pd.Series(list("xyz"), list("abc"))
    assert estimate(values, units) == estimate(values.dropna())
    assert estimate(values.where(values > 9)) == NOT_KNOWN


def test_curves_are_judged_step_by_step():
    rng = np.random.default_rng(0)
    means = pd.DataFrame(rng.normal(5, 2, (400, 2)), columns=[0.0, 0.5])
    band = estimate_curve(means)
    assert list(band.columns) == ["value", "ci_low", "ci_high", "n"]
    assert list(band.loc[0.5]) == list(estimate(means[0.5]).as_row().values())
    width = 2 * 1.96 * means[0.5].std() / 20
    assert band.loc[0.5, "ci_high"] - band.loc[0.5, "ci_low"] == pytest.approx(width, rel=0.1)
    hits = pd.DataFrame({0.0: [100.0] * 4, 0.5: [100.0, 0, 0, 0]})
    band = estimate_curve(hits, yes=100)
    assert band.loc[0.0, "ci_low"] == pytest.approx(100 * wilson(4, 4)[0])
    assert band.loc[0.5, "ci_high"] == pytest.approx(100 * wilson(1, 4)[1])


def rows(images, values, **more):
    return pd.DataFrame({"image_id": images, "v": values, **more})


def test_whether_it_is_a_yes_is_asked_of_rows_not_of_means():
    """One image half right makes 0.5; a mean that happens to be 1 makes no answer."""
    yes = rows(list("aabc"), [1.0, 0, 1, 1], g="x")
    line = summarise(yes, ["g"], VALUE).iloc[0]
    assert (line["ci_low"], line["ci_high"]) == (wilson(2, 3)[0], 1)
    shares = rows(list("aabb"), [0.8, 1.2, 0.4, 1.6], g="x")
    line = summarise(shares, ["g"], VALUE).iloc[0]
    assert line[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([1, 1, 1])


def test_summaries_draw_units_and_leave_out_what_is_only_shown():
    table = rows(
        list("abcde"),
        [0.1, 0.1, 0.7, 0.7, 99],
        g="x",
        unit=["p", "p", "q", "q", "r"],
        measured=[True] * 4 + [False],
    )
    line = summarise(table, ["g"], VALUE).iloc[0]
    assert line[["value", "n"]].tolist() == pytest.approx([0.4, 2])
    assert measured_rows(table.drop(columns="measured")).equals(table.drop(columns="measured"))
    gap = paired_difference(table, table.assign(v=0.2), VALUE["v"])
    assert (gap.value, gap.low, gap.high, gap.n) == pytest.approx((0.2, -0.1, 0.5, 2))


def test_paired_differences_of_answers_have_no_false_certainty():
    first, second = rows(range(12), [1.0] * 12), rows(range(12), [0.0] * 12)
    gap = paired_difference(first, second, VALUE["v"])
    assert (gap.value, gap.high) == (1, 1)
    assert gap.low == pytest.approx(2 * wilson(12, 12)[0] - 1)
    assert gap.verdict(above=0) == HOLDS
    shares = paired_difference(first.assign(v=0.75), second.assign(v=0.75), VALUE["v"])
    assert (shares.low, shares.high) == (0, 0)


def test_an_estimate_is_read_from_a_table():
    table = summarise(rows(list("aabb"), [1, 2, 3, 5], m=list("xyxy")), ["m"], VALUE)
    assert read_estimate(table, m="y", measure="v") == estimate(pd.Series([2.0, 5.0]))
    assert read_estimate(table, m="z") == NOT_KNOWN
    renamed = table.rename(columns={"value": "auc"})
    assert read_estimate(renamed, "auc", m="x").value == 2


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, 0.03 x 2 (raised to the one before), 0.5 x 1."""
    assert holm([0.03, 0.01, 0.5, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([0.04]).tolist() == [0.04]
    assert holm([]).tolist() == []


def test_signed_ranks_by_hand():
    """|d| has ranks 1 2 3 4; one of rank 2 is negative: (8 - 2) / 10, and p = 2 x 3 / 16."""
    p, effect = signed_rank(np.array([1.0, -2, 3, 4, 0]))
    assert effect == pytest.approx(0.6)
    assert p == pytest.approx(6 / 16)
    assert signed_rank(np.zeros(3)) == (1, 0)
