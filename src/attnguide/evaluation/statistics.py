"""Means with their 95 % intervals, p values, verdicts, and the tables made of them.

The kind of a measure is declared with it (`of_kind`) and decides its interval:

| kind | interval |
|---|---|
| answers (yes or no) | Wilson's, for as many trials as there are independent units |
| differences of answers | both shares' Wilson intervals, added in squares |
| share, share difference, mean | bootstrap over independent units, from a seed |

A unit is an image, or all the images that are made of the same pictures. Fewer than 5 units have no
interval. The bootstrap is studentised below 30 units, where percentiles are too narrow. In 2,000
samples of 10, 12 and 24 units its intervals contained the mean of normal values in 96, 94 and 95 %,
of lognormal ones in 91, 90 and 91 % (percentiles: 91, 90, 93 % and 82, 81, 86 %).
A p value is read off the interval, so that they never disagree. Missing evidence is no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, isnan, nan, sqrt
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest
from scipy.stats import t as student

from attnguide.errors import InputTypeError

VERDICTS = HOLDS, DOES_NOT_HOLD, INCONCLUSIVE = "holds", "does not hold", "inconclusive"
MIN_IMAGES = 10  # of a verdict
MIN_UNITS, MANY_UNITS = 5, 30  # of an interval; of one by percentiles
SIGNIFICANT = 0.05
RESAMPLES = 2000
NORMAL_95 = 1.959963984540054  # of a normal distribution, 95 % lie within

Measure = Callable[[pd.DataFrame], "pd.Series[float]"]  # a value per row; `of_kind` says what
Kind = Literal["answers", "differences", "share", "share difference", "mean"]
DIFFERENCE_OF: Mapping[Kind, Kind] = {
    "answers": "differences", "share": "share difference", "mean": "mean",
}  # fmt: skip
LIMITS = {"share": (0.0, 1.0), "share difference": (-1.0, 1.0)}  # no mean lies beyond


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `n` counts independent units.

    As text "0.92 [0.88, 0.95], n = 100"; a format sets the numbers, as in `f"{gap:+.1f}"`. The ends
    are NaN where there are too few units for an interval.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return format(self, ".2f")

    def __format__(self, spec: str) -> str:
        if not self.n:
            return "not known"
        numbers = (format(each, spec or ".2f") for each in (self.value, self.low, self.high))
        value, low, high = (number.replace("-", "−") for number in numbers)
        interval = "" if isnan(self.low) else f" [{low}, {high}]"
        return f"{value}{interval}, n = {self.n}"

    def p(self, bound: float) -> float:
        """Two-sided p value of the mean being `bound`; NaN without an interval.

        It is that of a t distribution with n - 1 degrees of freedom whose scale makes it 0.05 at
        the interval's end: below 0.05 exactly where the interval leaves the bound out, and of the
        interval's own procedure, whichever that is.

        Source: Altman, Bland, BMJ 2011;343:d2304.
        Differs: each side of the interval has its own scale, and t takes the place of the normal
        distribution, whose tails are too thin for few units.
        """
        reach = self.value - self.low if bound < self.value else self.high - self.value
        if isnan(reach):
            return nan
        if not reach:
            return float(bound == self.value)
        scale = student.isf(SIGNIFICANT / 2, self.n - 1) / reach
        return float(2 * student.sf(scale * abs(self.value - bound), self.n - 1))

    def verdict(self, *, above: float | None = None, below: float | None = None) -> str:
        """Whether the mean lies above (or below) a bound: `HOLDS`, `DOES_NOT_HOLD`, or neither.

        `INCONCLUSIVE` if the interval contains the bound, or n is less than `MIN_IMAGES`.
        """
        if above is not None and below is None:
            right, wrong = self.low > above, self.high < above
        elif below is not None and above is None:
            right, wrong = self.high < below, self.low > below
        else:
            raise InputTypeError(f"a verdict takes either above or below, got {above} and {below}")
        if self.n < MIN_IMAGES or not (right or wrong):
            return INCONCLUSIVE
        return HOLDS if right else DOES_NOT_HOLD

    def as_row(self, name: str = "value") -> dict[str, float | int]:
        """Columns of a table: the mean under `name`, `ci_low`, `ci_high`, `n`."""
        return {name: self.value, "ci_low": self.low, "ci_high": self.high, "n": self.n}


NOT_KNOWN = Estimate(nan, nan, nan, 0)


def estimate(
    values: pd.Series[float],
    units: pd.Series[str] | None = None,
    seed: int = 0,
    *,
    kind: Kind = "mean",
    yes: float = 1.0,
) -> Estimate:
    """Mean over images with its interval; images without a value (NaN) are left out.

    Args:
        values: One per image, indexed by the image.
        units: Of each image, indexed alike; missing or "" for an image that stands for itself.
        seed: Of the bootstrap.
        kind: As the head of this file says: "answers" are 0 or 1, or an image's mean of such.
        yes: What an answer, or a whole share, counts: 1, or 100 for percent.

    Returns:
        `n` is the number of units. Where the mean of answers is no whole number of successes, the
        lower bound belongs to the next lower number and the upper bound to the next higher. The
        bootstrap draws units with all their images.
    """
    values = values.dropna()
    if values.empty:
        return NOT_KNOWN
    array = np.asarray(values, dtype=np.float64)
    codes = unit_codes(values.index, units)
    n, value = int(codes.max()) + 1, float(array.mean())
    if n < MIN_UNITS:
        return Estimate(value, nan, nan, n)
    if kind in ("answers", "differences"):
        ends = wilson(value / yes, n) if kind == "answers" else _square_and_add(array / yes, n)
        return Estimate(value, yes * ends[0], yes * ends[1], n)
    low, high = _bootstrap(array, codes, seed)
    least, most = LIMITS.get(kind, (-np.inf, np.inf))
    return Estimate(value, max(low, yes * least), min(high, yes * most), n)


def estimate_curve(
    values: pd.DataFrame,
    units: pd.Series[str] | None = None,
    seed: int = 0,
    *,
    kind: Kind = "mean",
    yes: float = 1.0,
) -> pd.DataFrame:
    """`estimate` at each step of curves: a line per column of `values` (images, steps).

    Columns are value, ci_low, ci_high and n. Bands hold for each step alone.
    """
    found = [estimate(values[x], units, seed, kind=kind, yes=yes) for x in values.columns]
    return pd.DataFrame([each.as_row() for each in found], index=values.columns)


def of_kind(kind: Literal["answers", "share", "mean"]) -> Callable[[Measure], Measure]:
    """Declare of a measure that its values are answers (0 or 1), shares in [0, 1], or any numbers.

    A measure without it has any numbers, even if all of them happen to be 0 or 1.
    """

    def declare(measure: Measure) -> Measure:
        vars(measure)["kind"] = kind
        return measure

    return declare


def summarise(
    rows: pd.DataFrame, by: Sequence[str], measures: Mapping[str, Measure], seed: int = 0
) -> pd.DataFrame:
    """Mean of every measure with its interval, one line per group and measure.

    Rows of one image are averaged first. Measures that no row has are left out.

    Args:
        rows: With `image_id` and the columns that the measures read; `unit` and `measured` count
            where they are there.
        by: Columns that name a group.
        measures: By name.
        seed: Of the bootstrap.
    """
    lines = []
    for key, part in measured_rows(rows).groupby(list(by), sort=False):
        for name, measure in measures.items():
            values, kind = per_image(part, measure)
            found = estimate(values, units_of(part), seed, kind=kind)
            if found.n:
                lines.append({**dict(zip(by, key, strict=True)), "measure": name, **found.as_row()})
    return pd.DataFrame(lines, columns=[*by, "measure", "value", "ci_low", "ci_high", "n"])


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, measure: Measure, seed: int = 0
) -> Estimate:
    """Mean difference of a measure, first minus second, over the images that both have."""
    first, second = measured_rows(first), measured_rows(second)
    (own, kind), (other, other_kind) = per_image(first, measure), per_image(second, measure)
    units = units_of(pd.concat([first, second]))
    gap: Kind = DIFFERENCE_OF[kind] if kind == other_kind else "mean"
    return estimate(own - other, units, seed, kind=gap)


def measured_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that count: those that are only shown have `measured` False."""
    return rows[rows["measured"].ne(False)] if "measured" in rows else rows


def units_of(rows: pd.DataFrame) -> pd.Series[str] | None:
    """Unit of each image; None if every image stands for itself."""
    return rows.groupby("image_id")["unit"].first() if "unit" in rows else None


def unit_means(values: pd.Series[float], units: pd.Series[str] | None) -> NDArray[np.float64]:
    """Mean over the images of each unit, for statistics that need independent values."""
    values = values.dropna()
    codes = unit_codes(values.index, units)
    return np.bincount(codes, np.asarray(values, dtype=np.float64)) / np.bincount(codes)


def per_image(rows: pd.DataFrame, measure: Measure) -> tuple[pd.Series[float], Kind]:
    """Mean of a measure over the rows of each image that have it, and its kind."""
    means: pd.Series[float] = measure(rows).groupby(rows["image_id"]).mean().dropna()
    return means, getattr(measure, "kind", "mean")


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """P values of one family of tests, corrected for their number after Holm."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def unit_codes(images: pd.Index, units: pd.Series[str] | None) -> NDArray[np.intp]:
    """Number of each image's unit, in the order of their first images."""
    own = images.to_numpy(dtype=object)
    if units is not None:
        named = units.reindex(images).to_numpy(dtype=object, na_value="")
        own = np.where(named == "", own, named)
    return pd.factorize(own)[0]


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval; for a broken number of successes, those of both neighbours."""
    fewer, more = (
        binomtest(successes, n).proportion_ci(method="wilson")
        for successes in (floor(share * n + 1e-9), ceil(share * n - 1e-9))
    )
    return float(fewer.low), float(more.high)


def _square_and_add(values: NDArray[np.float64], n: int) -> tuple[float, float]:
    """Share that gained minus share that lost, each with Wilson's interval, added in squares.

    The shares exclude each other, so that one is low where the other is high: their correlation is
    that of two shares of a multinomial, -sqrt(up down / ((1 - up) (1 - down))), and the distances
    from share to bound add up like the variances of a difference. (The interval of (difference +
    1) / 2 as one share would be five times as wide if most differences are 0.)

    Source: the squares of Newcombe, Statistics in Medicine 1998, with this correlation.
    """
    up, down = float(np.maximum(values, 0).mean()), float(np.maximum(-values, 0).mean())
    up_low, up_high = wilson(up, n)
    down_low, down_high = wilson(down, n)
    rest = (1 - up) * (1 - down)
    together = 2 * min(sqrt(up * down / rest), 1) if rest > 0 else 2

    def add(a: float, b: float) -> float:
        return sqrt(a * a + b * b + together * a * b)

    return (
        up - down - add(up - up_low, down_high - down),
        up - down + add(up_high - up, down - down_low),
    )


def newcombe(area: float, first: int, second: int) -> tuple[float, float]:
    """Interval of an area under the ROC curve, of `first` cases and `second` controls.

    Never of zero width: an area of 1 among few is not certain. Each end is the area whose own
    standard error puts the measured one at its limit, as Wilson's ends are.

    Source: Newcombe, Statistics in Medicine 2006;25:559-573, method 5.
    """
    half = (first + second) / 2 - 1
    z = NORMAL_95

    def miss(true: float) -> float:
        """Squared distance from the measured area, less what chance allows."""
        cases = half * (1 - true) / (2 - true) + half * true / (1 + true)
        return (area - true) ** 2 - z * z * true * (1 - true) * (1 + cases) / (first * second)

    inside = 1e-12  # 0 and 1 themselves have no error, and would always be an end
    low = brentq(miss, 0, min(area, 1 - inside)) if area > 0 else 0.0
    high = brentq(miss, max(area, inside), 1) if area < 1 else 1.0
    return float(low), float(high)


def _bootstrap(
    values: NDArray[np.float64], codes: NDArray[np.intp], seed: int
) -> tuple[float, float]:
    """Interval of the mean, drawing units: studentised below `MANY_UNITS`, else by percentiles.

    Studentised: in every draw the distance of its mean from the sample's is divided by its own
    standard error, so that draws of little spread count as uncertain. That error is the
    linearised one of a ratio of sums, since units hold several images. A draw of one unit again
    and again has no spread; it gets the sample's error.

    Source: Efron, Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5.
    """
    n = int(codes.max()) + 1
    draws = _draws(n, seed)
    sums, counts = np.bincount(codes, values), np.bincount(codes).astype(np.float64)
    mean = sums.sum() / counts.sum()
    rest = sums - mean * counts
    if n >= MANY_UNITS:
        low, high = middle_95((draws @ rest) / (draws @ counts))
        return mean + low, mean + high
    moments = np.stack([rest, counts, rest**2, rest * counts, counts**2], 1)
    of_all = np.vstack([moments.sum(0), draws @ moments])  # the sample itself first
    total, size, square, mixed, sizes = of_all.T
    away = total / size
    spread = np.maximum(square - 2 * away * mixed + away**2 * sizes, 0)
    error = np.sqrt(spread * n / (n - 1)) / size
    error[error <= 1e-6 * error[0]] = error[0]  # rounded, not of the draw
    if error[0] <= 1e-12 * abs(mean):  # all alike
        return mean, mean
    low, high = middle_95(away[1:] / error[1:])
    return mean - high * error[0], mean - low * error[0]


@lru_cache(maxsize=2)  # a table asks for the same draws a hundred times
def _draws(count: int, seed: int) -> NDArray[np.float64]:
    return resample(count, np.random.default_rng(seed))


def resample(count: int, rng: np.random.Generator, draws: int = RESAMPLES) -> NDArray[np.float64]:
    """(draws, count) how often each of `count` independent units is drawn, with replacement.

    NaN for fewer than `MIN_UNITS`, which have no interval.
    """
    drawn = rng.multinomial(count, np.full(count, 1 / count), draws).astype(np.float64)
    return drawn if count >= MIN_UNITS else drawn * nan


def middle_95(draws: NDArray[np.float64] | Sequence[float]) -> tuple[float, float]:
    """The percentile interval of a statistic that was computed on every draw."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
