"""Methods ranked by several measures: ranks, how stable they are, how far measures agree."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

from attnguide.evaluation.statistics import middle_95

DRAWS = 500
MORE, LESS, NEAR_ZERO = "more", "less", "near zero"  # what is better
Better: TypeAlias = Mapping[str, str]  # by measure


def table_of_means(summary: pd.DataFrame) -> pd.DataFrame:
    """Methods by measures, in the order of a summary of one model."""
    methods, measures = (list(dict.fromkeys(summary[name])) for name in ("method", "measure"))
    means = summary.pivot(index="method", columns="measure", values="value")
    return means.reindex(index=methods, columns=measures)


def goodness(values: Any, better: str) -> Any:
    """The numbers turned so that more is better."""
    if better == NEAR_ZERO:
        return -np.abs(values)
    return values if better == MORE else -values


def ranks(means: pd.DataFrame, better: Better) -> pd.DataFrame:
    """Rank of every method by every measure, 1 the best, ties alike; missing ones NaN.

    The column "mean rank" is that over the measures that a method has, as a share of the methods
    ranked: 0 for the best by all, 1 for the worst, so that gaps in the table cost nothing.
    """
    found = pd.DataFrame(
        {name: goodness(means[name], better[name]).rank(ascending=False) for name in means.columns}
    )
    counts = found.count() - 1
    shares = (found - 1) / counts.where(counts > 0)
    return found.assign(**{"mean rank": shares.mean(axis=1)})


def stability(rows: pd.DataFrame, better: Better, seed: int = 0) -> pd.DataFrame:
    """Kendall's tau between a measure's ranking and those of other pictures like these.

    Pictures are drawn again with replacement, for every method its own.

    Args:
        rows: One per method, measure and picture, with `value` and `image_id`, of one model.
        better: Measures, and what is better of each.
        seed: Of the drawing.

    Returns:
        A line per measure: tau (mean), low, high (95 %), methods, pictures (fewest).
    """
    rng = np.random.default_rng(seed)
    lines = []
    for name, wanted in better.items():
        own = rows[(rows["measure"] == name) & rows["value"].notna()]
        per_picture = own.groupby(["method", "image_id"], sort=False)["value"].mean()
        values = [part.to_numpy() for _, part in per_picture.groupby("method", sort=False)]
        if len(values) > 1:
            means = goodness(np.stack([_redrawn(part, rng) for part in values]), wanted)
            truth = goodness(np.array([part.mean() for part in values]), wanted)
            every = [kendalltau(truth, draw).statistic for draw in means.T]
            taus = [tau for tau in every if np.isfinite(tau)]  # not of methods that are all alike
            tau, low, high = np.nan, np.nan, np.nan
            if taus:
                tau, (low, high) = float(np.mean(taus)), middle_95(taus)
            lines.append((name, tau, low, high, len(values), min(map(len, values))))
    return pd.DataFrame(lines, columns=["measure", "tau", "low", "high", "methods", "pictures"])


def agreement(means: pd.DataFrame, better: Better) -> pd.DataFrame:
    """Kendall's tau between the rankings of every two measures, over the methods that both have."""
    good = pd.DataFrame({name: goodness(means[name], better[name]) for name in means.columns})
    found = pd.DataFrame(1.0, index=means.columns, columns=means.columns)
    for one, two in combinations(means.columns, 2):
        both = good[[one, two]].dropna()
        tau = kendalltau(both[one], both[two]).statistic if len(both) > 1 else np.nan
        found.loc[one, two] = found.loc[two, one] = tau
    return found


def _redrawn(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(DRAWS,) means of as many values, drawn with replacement."""
    return values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(1)
