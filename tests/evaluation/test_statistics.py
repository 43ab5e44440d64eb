"""Intervals that cover, verdicts that can be withheld, corrections worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest, norm, ttest_1samp
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import t as student

from attnguide.evaluation import statistics
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
    newcombe,
    of_kind,
    paired_difference,
    summarise,
)

VALUE = {"v": lambda rows: rows["v"]}
ANSWER = {"v": of_kind("answers")(lambda rows: rows["v"])}


def answers(right, n):
    return pd.Series([1.0] * right + [0.0] * (n - right))


def wilson(k, n):
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return interval.low, interval.high


def test_text_of_an_estimate():
    known = Estimate(0.924, 0.88, 0.951, 100)
    assert str(known) == f"{known}" == "0.92 [0.88, 0.95], n = 100"
    assert f"{known:+.2f}" == "+0.92 [+0.88, +0.95], n = 100"
    assert f"{known:.1f}" == "0.9 [0.9, 1.0], n = 100"
    assert str(Estimate(0.5, np.nan, np.nan, 4)) == "0.50, n = 4"
    assert str(NOT_KNOWN) == "not known"


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


@pytest.mark.parametrize("n", [5, 9, 120])
def test_all_right_is_never_certain(n):
    found = estimate(answers(n, n), kind="answers")
    assert (found.value, found.high, found.n) == (1, 1, n)
    assert found.low == pytest.approx(n / (n + 1.959964**2), rel=1e-6)
    none = estimate(answers(0, n), kind="answers")
    assert (none.low, none.high) == pytest.approx((0, 1 - found.low))


@pytest.mark.parametrize(("n", "p"), [(6, 0.9), (10, 0.5), (10, 0.95), (60, 0.97)])
def test_wilson_covers_what_it_says(n, p):
    """Exactly: the chance of the answers whose interval contains p."""
    found = [estimate(answers(k, n), kind="answers") for k in range(n + 1)]
    covered = [k for k, each in enumerate(found) if each.low <= p <= each.high]
    assert binom.pmf(covered, n, p).sum() >= 0.9


def test_broken_numbers_of_successes_take_both_neighbours():
    """Two answers of one image may disagree: 3.5 of 5 is between 3 and 4."""
    found = estimate(pd.Series([1, 1, 1, 0.5, 0]), kind="answers")
    assert (found.low, found.high) == (wilson(3, 5)[0], wilson(4, 5)[1])
    assert found.value == pytest.approx(0.7)


def test_percent_is_the_same_interval():
    share = estimate(answers(7, 9), kind="answers")
    percent = estimate(100 * answers(7, 9), kind="answers", yes=100)
    expected = [100 * v for v in (share.value, share.low, share.high)]
    assert [percent.value, percent.low, percent.high] == pytest.approx(expected)


def test_differences_of_answers_by_hand():
    """5 gain, 1 loses, 6 stay: two shares that exclude each other, added in squares."""
    found = estimate(pd.Series([1.0] * 5 + [-1.0] + [0.0] * 6), kind="differences")
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
    """Half of 40 units have three images of 2, half have one of 8: ratios of sums are drawn."""
    ids = [f"{unit}-{i}" for unit in range(40) for i in range(3 if unit % 2 else 1)]
    values = pd.Series([2.0 if int(i.split("-")[0]) % 2 else 8.0 for i in ids], ids)
    found = estimate(values, pd.Series([i.split("-")[0] for i in ids], ids))
    assert (found.value, found.n) == (3.5, 40)
    odd = binom(40, 0.5).ppf([0.025, 0.975])  # how many of the drawn units have three images
    low, high = ((6 * k + 8 * (40 - k)) / (3 * k + 40 - k) for k in odd[::-1])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1)


def test_answers_of_one_unit_count_once():
    twice = pd.Series([1.0] * 10, list("abcdefghij"))
    units = pd.Series(list("vvwwxxyyzz"), twice.index)
    found = estimate(twice, units, kind="answers")
    assert (found.low, found.n) == (wilson(5, 5)[0], 5)


@pytest.mark.parametrize("kind", ["answers", "differences", "share", "mean"])
def test_fewer_than_five_units_have_no_interval(kind):
    few = estimate(answers(3, 4), kind=kind)
    assert (few.value, few.n) == (0.75, 4)
    assert np.isnan([few.low, few.high, few.p(0.5)]).all()
    assert few.verdict(above=0.5) == INCONCLUSIVE
    assert estimate(answers(3, 5), kind=kind).low < 0.6


DRAWS = {"normal": (lambda rng, n: rng.normal(1, 1, n), 1),
         "lognormal": (lambda rng, n: rng.lognormal(0, 1, n), np.exp(0.5))}  # fmt: skip


def covered(draw, truth, n):
    """Share of 200 samples whose interval contains the true mean."""
    rng = np.random.default_rng(n)
    found = [estimate(pd.Series(draw(rng, n))) for _ in range(200)]
    return np.mean([each.low <= truth <= each.high for each in found])


@pytest.mark.parametrize(("name", "least"), [("normal", 0.925), ("lognormal", 0.87)])
def test_few_units_need_the_studentised_bootstrap(name, least, monkeypatch):
    """Of n = 10, 12 and 24: it covers, percentiles do not; what it says is in the module's head."""
    sizes = (10, 12, 24)
    studentised = [covered(*DRAWS[name], n) for n in sizes]
    monkeypatch.setattr(statistics, "MANY_UNITS", 0)
    percentiles = [covered(*DRAWS[name], n) for n in sizes]
    assert min(studentised) >= least
    assert all(one > other for one, other in zip(studentised, percentiles, strict=True))
    assert percentiles[0] < 0.93


def test_draws_of_equal_values_have_no_spread():
    """Rounding gave those of six equal values a spread of 1e-7, and an interval down to -2e8."""
    found = estimate(pd.Series([95.0] * 6 + [80.0], index=[*"abcdefg"]))
    assert found.value - 15 < found.low < found.value < found.high < found.value + 15


def test_the_studentised_interval_by_hand():
    """Equal units: (mean of a draw - mean) / its own standard error, and back with the sample's."""
    values = np.random.default_rng(4).gamma(2, size=9)
    draws = statistics._draws(9, 0).astype(int)
    drawn = np.array([np.repeat(values, times) for times in draws])
    error = drawn.std(1, ddof=1) / 3
    own = values.std(ddof=1) / 3
    t = (drawn.mean(1) - values.mean()) / np.where(error > 1e-9 * own, error, own)
    low, high = np.percentile(t, [2.5, 97.5])
    found = estimate(pd.Series(values))
    assert found.low == pytest.approx(values.mean() - high * own)
    assert found.high == pytest.approx(values.mean() - low * own)
    assert estimate(pd.Series(values / 10), kind="share").high <= 1
    alike = estimate(pd.Series([0.3] * 9))
    assert (alike.low, alike.high) == pytest.approx((0.3, 0.3))


def test_p_is_that_of_the_interval():
    """Exactly Student's where the interval is; below 0.05 just where a bound is outside."""
    values = np.random.default_rng(5).normal(1, 1, 14)
    half = student.isf(0.025, 13) * values.std(ddof=1) / np.sqrt(14)
    mean = values.mean()
    for bound in (-1.0, 0.7, 1.2, 4.0):
        p = Estimate(mean, mean - half, mean + half, 14).p(bound)
        assert p == pytest.approx(ttest_1samp(values, bound).pvalue)
    for found in (
        estimate(pd.Series(values)),
        estimate(answers(9, 12), kind="answers"),
        estimate(pd.Series([1.0] * 5 + [-1.0] + [0.0] * 6), kind="differences"),
    ):
        for bound in np.linspace(-0.9, 1.9, 57):
            assert (found.p(bound) < 0.05) == (bound < found.low or bound > found.high)
        assert found.p(found.value) == 1
    assert (Estimate(0.5, 0.5, 0.5, 9).p(0.5), Estimate(0.5, 0.5, 0.5, 9).p(0)) == (1, 0)


@pytest.mark.parametrize(("cases", "controls", "area"), [(12, 300, 0.9), (12, 30, 0.97)])
def test_newcombes_interval_of_an_auroc(cases, controls, area):
    """It covers, is never of zero width, and is the same seen from the other side."""
    low, high = newcombe(1.0, cases, controls)
    assert 0.7 < low < high == 1
    assert newcombe(0.0, cases, controls) == pytest.approx((0, 1 - low))
    rng, shift = np.random.default_rng(0), np.sqrt(2) * norm.ppf(area)
    hits = 0
    for _ in range(300):
        better = rng.normal(shift, 1, cases)[:, None] > rng.normal(0, 1, controls)
        low, high = newcombe(better.mean(), cases, controls)
        hits += low <= area <= high
    assert hits / 300 >= 0.93


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
    hits = pd.DataFrame({0.0: [100.0] * 5, 0.5: [100.0, 0, 0, 0, 0]})
    band = estimate_curve(hits, kind="answers", yes=100)
    assert band.loc[0.0, "ci_low"] == pytest.approx(100 * wilson(5, 5)[0])
    assert band.loc[0.5, "ci_high"] == pytest.approx(100 * wilson(1, 5)[1])


def rows(images, values, **more):
    return pd.DataFrame({"image_id": images, "v": values, **more})


def test_a_measure_is_what_it_was_declared_as():
    """Shares that happen to be 1 are no answers; an image half right makes half an answer."""
    yes = rows(list("aabcdef"), [1.0, 0, 1, 1, 1, 1, 1], g="x")
    line = summarise(yes, ["g"], ANSWER).iloc[0]
    assert (line["ci_low"], line["ci_high"]) == (wilson(5, 6)[0], 1)
    ones = rows(list("abcdef"), [1.0] * 6, g="x")
    line = summarise(ones, ["g"], VALUE).iloc[0]
    assert line[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([1, 1, 1])


def test_summaries_draw_units_and_leave_out_what_is_only_shown():
    images = [f"{unit}{i}" for unit in "pqrstu" for i in range(2)] + ["z"]
    table = rows(
        images,
        [*np.repeat([0.1, 0.7, 0.1, 0.7, 0.1, 0.7], 2), 99],
        g="x",
        unit=[image[0] for image in images],
        measured=[True] * 12 + [False],
    )
    line = summarise(table, ["g"], VALUE).iloc[0]
    assert line[["value", "n"]].tolist() == pytest.approx([0.4, 6])
    assert measured_rows(table.drop(columns="measured")).equals(table.drop(columns="measured"))
    gap = paired_difference(table, table.assign(v=0.2), VALUE["v"])
    assert (gap.value, gap.n) == pytest.approx((0.2, 6))
    assert (gap.low, gap.high) == pytest.approx((line["ci_low"] - 0.2, line["ci_high"] - 0.2))


def test_paired_differences_of_answers_have_no_false_certainty():
    first, second = rows(range(12), [1.0] * 12), rows(range(12), [0.0] * 12)
    gap = paired_difference(first, second, ANSWER["v"])
    assert (gap.value, gap.high) == (1, 1)
    assert gap.low == pytest.approx(2 * wilson(12, 12)[0] - 1)
    assert gap.verdict(above=0) == HOLDS
    shares = paired_difference(first.assign(v=0.75), second.assign(v=0.75), VALUE["v"])
    assert (shares.low, shares.high) == (0, 0)


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, 0.03 x 2 (raised to the one before), 0.5 x 1."""
    assert holm([0.03, 0.01, 0.5, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([0.04]).tolist() == [0.04]
    assert holm([]).tolist() == []
