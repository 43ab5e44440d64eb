"""Methods ranked by several measures: ranks, how stable they are, how far measures agree."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from attnguide.evaluation.statistics import MIN_IMAGES, middle_95
from attnguide.methods import describe_methods

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


def redrawn(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Means of every measure and method, over other pictures like these.

    Independent units are drawn again with replacement, in each draw the same for all methods and
    measures, so that methods are compared on common pictures.

    Args:
        rows: One per method, measure and picture, with `value`, `image_id` and perhaps `unit`, of
            one model.
        seed: Of the drawing.

    Returns:
        A line for each of `DRAWS`, columns (measure, method); NaN where none of a method's pictures
        was drawn.
    """
    means = rows.pivot_table("value", "image_id", ["measure", "method"], sort=False)
    units = rows.groupby("image_id")["unit"].first() if "unit" in rows else None
    own = pd.Series(means.index, means.index)
    names = own if units is None else units.reindex(means.index).replace("", np.nan).fillna(own)
    codes = pd.factorize(names)[0]
    count = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), DRAWS)[:, codes].astype(float)
    values = means.to_numpy()
    with np.errstate(invalid="ignore"):
        found = (drawn @ np.nan_to_num(values)) / (drawn @ np.isfinite(values))
    return pd.DataFrame(found, columns=means.columns)


def mean_ranks(rows: pd.DataFrame, better: Better, seed: int = 0) -> pd.DataFrame:
    """The mean rank of every method as in `ranks`, with its interval over pictures.

    Args:
        rows, seed: As in `redrawn`.
        better: What is better of each measure; other measures do not count.

    Returns:
        Columns method, value, ci_low, ci_high and n (pictures), the best first.
    """
    rows = rows[rows["measure"].isin(list(better)) & rows["value"].notna()]
    per_picture = rows.groupby(["measure", "method", "image_id"], sort=False)["value"].mean()
    value = ranks(per_picture.groupby(["method", "measure"]).mean().unstack(), better)["mean rank"]
    each = [
        ranks(draw.unstack(0), better)["mean rank"] for _, draw in redrawn(rows, seed).iterrows()
    ]
    low, high = pd.concat(each, axis=1).reindex(value.index).quantile([0.025, 0.975], axis=1).values
    pictures = rows.groupby("method")["image_id"].nunique().reindex(value.index)
    table = pd.DataFrame({"value": value, "ci_low": low, "ci_high": high, "n": pictures})
    return table.sort_values("value", kind="stable").rename_axis("method").reset_index()


def winner(
    rows: pd.DataFrame, measure: str, better: str, seed: int = 0
) -> tuple[str, float, list[str]] | None:
    """The best method by a measure, its mean, and the methods that are not told apart from it.

    Methods measured on fewer than `MIN_IMAGES` pictures are left out where others have more. A
    method is told apart if 97.5 % of draws of other pictures put it behind the best one.

    Args:
        rows, seed: As in `redrawn`.
        measure: Which.
        better: What is better of it.
    """
    own = rows[(rows["measure"] == measure) & rows["value"].notna()]
    counts = own.groupby("method")["image_id"].nunique()
    if counts.empty:
        return None
    enough = counts.index[counts >= min(MIN_IMAGES, counts.max())]
    own = own[own["method"].isin(enough)]
    means = own.groupby(["method", "image_id"])["value"].mean().groupby("method").mean()
    best = str(goodness(means, better).idxmax())
    draws = goodness(redrawn(own, seed)[measure], better)
    behind = draws.rsub(draws[best], axis=0).quantile(0.025)
    alike = [str(m) for m, low in behind.items() if m != best and not low > 0]
    return best, float(means[best]), alike


def stability(rows: pd.DataFrame, better: Better, seed: int = 0) -> pd.DataFrame:
    """Kendall's tau between a measure's ranking and those of other pictures like these.

    Args:
        rows, seed: As in `redrawn`.
        better: Measures, and what is better of each.

    Returns:
        A line per measure: tau (mean), low, high (95 %), methods, pictures (fewest).
    """
    lines = []
    for name, wanted in better.items():
        own = rows[(rows["measure"] == name) & rows["value"].notna()]
        counts = own.groupby("method")["image_id"].nunique()
        if len(counts) > 1:
            per_picture = own.groupby(["method", "image_id"])["value"].mean()
            truth = goodness(per_picture.groupby("method").mean(), wanted)
            draws = goodness(redrawn(own, seed)[name][list(truth.index)], wanted).dropna()
            every = [kendalltau(truth, draw).statistic for draw in draws.to_numpy()]
            taus = [tau for tau in every if np.isfinite(tau)]  # not of methods that are all alike
            tau, low, high = np.nan, np.nan, np.nan
            if taus:
                tau, (low, high) = float(np.mean(taus)), middle_95(taus)
            lines.append((name, tau, low, high, len(counts), counts.min()))
    return pd.DataFrame(lines, columns=["measure", "tau", "low", "high", "methods", "pictures"])


def ranked_table(summary: pd.DataFrame, rows: pd.DataFrame, better: Better) -> pd.DataFrame:
    """Ranks by every measure, the mean one first; number of pictures and cost last.

    Args:
        summary: Of one model.
        rows: Those of the summary.
        better: What is better of each measure.
    """
    ranked = ranks(table_of_means(summary), better)
    facts = describe_methods().set_index("name")
    pictures = rows.groupby("method")["image_id"].nunique()
    first = ranked.pop("mean rank")
    table = pd.concat([first, ranked], axis=1).assign(
        pictures=pictures.reindex(ranked.index),
        cost=[facts["cost"].get(name.removesuffix("_libra"), "") for name in ranked.index],
    )
    return table.sort_values("mean rank", kind="stable").rename_axis("method").reset_index()


def agreement(means: pd.DataFrame, better: Better) -> pd.DataFrame:
    """Kendall's tau between the rankings of every two measures, over the methods that both have."""
    good = pd.DataFrame({name: goodness(means[name], better[name]) for name in means.columns})
    found = pd.DataFrame(1.0, index=means.columns, columns=means.columns)
    for one, two in combinations(means.columns, 2):
        both = good[[one, two]].dropna()
        tau = kendalltau(both[one], both[two]).statistic if len(both) > 1 else np.nan
        found.loc[one, two] = found.loc[two, one] = tau
    return found


def compact(value: float) -> str:
    """A number in a few letters; "" where it is not known."""
    if not np.isfinite(value):
        return ""
    text = f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"
    return text.replace("-", "\N{MINUS SIGN}")
