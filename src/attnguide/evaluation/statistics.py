"""Means with their 95 % intervals, verdicts, and the tables made of them.

Shares of yes/no answers have Wilson's interval; other means have a percentile bootstrap over
independent units, from a seed: the same table gives the same numbers. A unit is an image, or all
the images that are made of the same pictures. Missing evidence is never a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, nan, sqrt
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, rankdata, wilcoxon

from attnguide.errors import InputTypeError

HOLDS, DOES_NOT_HOLD, INCONCLUSIVE = "holds", "does not hold", "inconclusive"
MIN_IMAGES = 10
RESAMPLES = 2000

Measure = Callable[[pd.DataFrame], "pd.Series[float]"]  # a value per row; `of_kind` says what
Kind = Literal["answers", "differences", "mean"]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `n` counts independent units.

    As text "0.92 [0.88, 0.95], n = 100"; a format sets the numbers, as in `f"{gap:+.1f}"`.
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
        value, low, high = (format(v, spec or ".2f") for v in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}], n = {self.n}"

    @property
    def signed(self) -> str:
        """As text with signs, for differences."""
        return format(self, "+.2f")

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
    kind: Kind | None = None,
    yes: float = 1.0,
) -> Estimate:
    """Mean over images with its interval; images without a value (NaN) are left out.

    Args:
        values: One per image, indexed by the image.
        units: Of each image, indexed alike; missing or "" for an image that stands for itself.
        seed: Of the bootstrap.
        kind: "answers" (each 0 or 1, or an image's mean of such), "differences" of answers (-1 to
            1), "mean" of anything else. By default what the values are; say it where values are
            means over an image's rows.
        yes: What an answer counts: 1, or 100 for percent.

    Returns:
        `n` is the number of units. Answers have Wilson's interval for n trials; where their mean
        is no whole number of successes, the lower bound belongs to the next lower number and the
        upper bound to the next higher. Differences combine the intervals of gains and of losses.
        Other means have a percentile bootstrap that draws units with all their images.
    """
    values = values.dropna()
    if values.empty:
        return NOT_KNOWN
    array = np.asarray(values, dtype=np.float64)
    codes = _codes(values.index, units)
    n, value = int(codes.max()) + 1, float(array.mean())
    kind = kind or kind_of(values / yes)
    if kind == "mean":
        return Estimate(value, *_bootstrap(array, codes, seed), n)
    low, high = wilson(value / yes, n) if kind == "answers" else _square_and_add(array / yes, n)
    return Estimate(value, yes * low, yes * high, n)


def estimate_curve(
    values: pd.DataFrame,
    units: pd.Series[str] | None = None,
    seed: int = 0,
    *,
    kind: Kind | None = None,
    yes: float = 1.0,
) -> pd.DataFrame:
    """`estimate` at each step of curves: a line per column of `values` (images, steps).

    Columns are value, ci_low, ci_high and n. Bands hold for each step alone.
    """
    kind = kind or kind_of(pd.Series(values.to_numpy(float).ravel()) / yes)
    found = [estimate(values[x], units, seed, kind=kind, yes=yes) for x in values.columns]
    return pd.DataFrame([each.as_row() for each in found], index=values.columns)


def kind_of(values: pd.Series[float]) -> Kind:
    """What these values are: answers, differences of answers, or anything else."""
    known = values.dropna()
    if known.isin([0, 1]).all():
        return "answers"
    return "differences" if known.isin([-1, 0, 1]).all() else "mean"


def of_kind(kind: Literal["answers", "mean"]) -> Callable[[Measure], Measure]:
    """Declare of a measure that its values are answers, 0 or 1, or any numbers.

    A measure without it is a share in [0, 1]: the mean of a share that is 0 or 1 in every row has
    the interval of answers, since a bootstrap of equal values has none.
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
    answers = kind == other_kind == "answers"
    units = units_of(pd.concat([first, second]))
    return estimate(own - other, units, seed, kind="differences" if answers else "mean")


def read_estimate(table: pd.DataFrame, mean: str = "value", /, **where: object) -> Estimate:
    """The first line of a summary with these values in its columns; `NOT_KNOWN` if there is none.

    `mean` is the column of the mean.
    """
    for column, value in where.items():
        table = table[table[column] == value]
    if table.empty:
        return NOT_KNOWN
    line = table.iloc[0]
    return Estimate(line[mean], line["ci_low"], line["ci_high"], int(line["n"]))


def measured_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that count: those that are only shown have `measured` False."""
    return rows[rows["measured"].ne(False)] if "measured" in rows else rows


def units_of(rows: pd.DataFrame) -> pd.Series[str] | None:
    """Unit of each image; None if every image stands for itself."""
    return rows.groupby("image_id")["unit"].first() if "unit" in rows else None


def unit_means(values: pd.Series[float], units: pd.Series[str] | None) -> NDArray[np.float64]:
    """Mean over the images of each unit, for tests that need independent values."""
    values = values.dropna()
    codes = _codes(values.index, units)
    return np.bincount(codes, np.asarray(values, dtype=np.float64)) / np.bincount(codes)


def per_image(rows: pd.DataFrame, measure: Measure) -> tuple[pd.Series[float], Kind]:
    """Mean of a measure over the rows of each image that have it, and what a row's value is."""
    values = measure(rows)
    means: pd.Series[float] = values.groupby(rows["image_id"]).mean().dropna()
    return means, getattr(measure, "kind", None) or kind_of(values)


def signed_rank(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Wilcoxon's two-sided p, and the matched-pairs rank-biserial correlation, in [-1, 1].

    The latter is the ranks' share that is positive minus the share that is negative. Zero
    differences are left out of both; if nothing is left, p is 1 and the effect 0.
    """
    kept = differences[differences != 0]
    if not len(kept):
        return 1.0, 0.0
    ranks = rankdata(np.abs(kept))
    return float(wilcoxon(kept).pvalue), float((ranks * np.sign(kept)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """P values of one family of tests, corrected for their number after Holm."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def _codes(images: pd.Index, units: pd.Series[str] | None) -> NDArray[np.intp]:
    """Number of each image's unit, in the order of their first images."""
    own = pd.Series(images, images)
    if units is not None:
        named = units[units.notna() & (units != "")].reindex(images)
        own = named.where(named.notna(), own)
    return pd.factorize(own.to_numpy())[0]


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


def _bootstrap(
    values: NDArray[np.float64], codes: NDArray[np.intp], seed: int
) -> tuple[float, float]:
    """Percentile interval of the mean, drawing units."""
    n = int(codes.max()) + 1
    draws = _draws(n, seed)
    sums, counts = np.bincount(codes, values), np.bincount(codes).astype(np.float64)
    return middle_95((draws @ sums.reshape(n, 1) / (draws @ counts.reshape(n, 1)))[:, 0])


@lru_cache(maxsize=2)  # a table asks for the same draws a hundred times
def _draws(count: int, seed: int) -> NDArray[np.float64]:
    return resample(count, np.random.default_rng(seed))


def resample(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(RESAMPLES, count) how often each of `count` independent units is drawn, with replacement."""
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)


def middle_95(draws: NDArray[np.float64] | Sequence[float]) -> tuple[float, float]:
    """The percentile interval of a statistic that was computed on every draw."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
