"""Every measure of a map in one long table, and methods ranked by it: how stable, how alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau
from torch import Tensor

from attnguide.data.views import View
from attnguide.evaluation import localisation
from attnguide.evaluation.engines import MaskedModel
from attnguide.evaluation.metrics import srg
from attnguide.evaluation.perturbation import perturb_many
from attnguide.evaluation.rows import Explained, explain_batch
from attnguide.evaluation.sanity import ENDS, noise_rows, randomised_rows
from attnguide.evaluation.statistics import (
    MIN_IMAGES,
    Measure,
    middle_95,
    of_kind,
    resample,
    unit_codes,
    units_of,
)
from attnguide.methods import Method, describe_methods
from attnguide.store.maps import COLUMNS
from attnguide.types import ViT
from attnguide.viz.style import method_label, minus

MORE, LESS, NEAR_ZERO = "more", "less", "near zero"  # what is better
Better: TypeAlias = Mapping[str, str]  # by measure
ON, OTHER = "relevance mass on the target", "negative mass on the other class"
BOTH, POINTING, SRG = "both signs right", "grid pointing", "SRG"
LEAST, MOST = "AUC, least relevant first", "AUC, most relevant first"
HEAD, ALL = "sanity: randomised head", "sanity: all weights randomised"
NOISE = "stability under noise"
BETTER = {
    ON: MORE, OTHER: MORE, BOTH: MORE, POINTING: MORE, SRG: MORE, LEAST: MORE, MOST: LESS,
    HEAD: NEAR_ZERO, ALL: NEAR_ZERO, NOISE: MORE,
}  # fmt: skip
WHERE: Mapping[str, Measure] = {
    ON: localisation.positive_share("target"),
    OTHER: localisation.negative_share("other"),
    BOTH: localisation.both_signs,
    POINTING: localisation.grid_pointing,
}
KEPT = ("image_id", "view", "method", "target", "target_name", "place")
SIGMA = 0.01  # of the noise, in image space
DRAWS = 500  # of pictures, for ranks

# Questions, the measures that answer each (the first that there is), and what a map must exceed
TRUST: Sequence[tuple[str, Sequence[str], float]] = (
    ("sign", (BOTH,), 0.5),
    ("ranking", (SRG,), 0.0),
    ("localisation", (POINTING, ON), 0.25),
)


def named(measure: str) -> Measure:
    """The values of the rows of one measure, of its kind."""
    kind: Any = getattr(WHERE.get(measure), "kind", "mean")
    return of_kind(kind)(lambda rows: rows["value"].astype(float).where(rows["measure"] == measure))


def explained(
    vit: ViT, views: Sequence[View], labels: Sequence[int | None]
) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) images, and (B,) the label of each, or what the model says it is."""
    images = torch.stack([view.image for view in views])
    with torch.no_grad():
        predicted = vit.logits(images.to(vit.device, vit.dtype)).argmax(-1).cpu().tolist()
    pairs = zip(predicted, labels, strict=True)
    return images, torch.tensor([said if label is None else label for said, label in pairs])


def whom_to_trust(model: str, rows: pd.DataFrame, seed: int = 0) -> str:
    """Which method is best for signs, for ranking patches, and for localisation.

    Args:
        model: Its name.
        rows: Of the model, as the functions below make them.
        seed: Of the pictures that are drawn again.
    """
    parts = []
    for question, measures, least in TRUST:
        measured = [name for name in measures if (rows["measure"] == name).any()]
        best = winner(rows, measured[0], BETTER[measured[0]], seed) if measured else None
        if best is None:
            continue
        method, value, alike = best
        number = f"{measured[0]} {compact(value)}"
        if not value > least:
            parts.append(f"none for {question} (the best is {method_label(method)}, {number})")
            continue
        others = f"; not told apart from it: {', '.join(map(method_label, alike))}" if alike else ""
        parts.append(f"{method_label(method)} for {question} ({number}{others})")
    return f"{model}: trust {'; '.join(parts)}." if parts else f"{model}: nothing was measured."


def localisation_scores(
    vit: ViT, views: Sequence[View], shown: Sequence[bool], methods: Mapping[str, Method]
) -> pd.DataFrame:
    """Where relevance lies in pictures whose objects are known; raw maps of those shown."""
    rows = localisation.localisation_rows(vit, views, shown, methods)
    is_grid = rows["regions"] == "cells"
    tables = []
    for name, measure in WHERE.items():
        counted = is_grid if name == POINTING else ~is_grid
        own = rows[list(KEPT)].assign(measure=name, value=measure(rows).where(counted))
        for column in COLUMNS:  # the map stands in one row of each target
            own[column] = rows[column] if name == ON else None
        tables.append(own[counted | own["relevance"].notna()])
    return pd.concat(tables, ignore_index=True)


def faithfulness_scores(
    vit: ViT,
    images: Tensor,
    names: Sequence[str],
    target: Tensor,
    methods: Mapping[str, Method],
    *,
    fractions: Sequence[float],
    seed: int = 0,
    engine: MaskedModel | None = None,
) -> pd.DataFrame:
    """Both orders of perturbation, and how like every map is to itself without weights and noisy.

    All share the maps of the trained model.

    Args:
        vit: The model.
        images: (B, 3, H, W), normalised.
        names: Of the images.
        target: (B,) class that is explained and followed.
        methods: By label.
        fractions: Of the patches that are filled.
        seed: Of new weights and noise.
        engine: Of masked forward passes.
    """
    own = explain_batch(vit, images, target, methods)
    rows = area_rows(own, fractions, engine)
    lost = randomised_rows(own, seed, wanted=ENDS)
    noisy = noise_rows(own, names, SIGMA, seed)
    measure = {"head": HEAD, "embedding": ALL, f"{SIGMA:g}": NOISE}  # by stage
    rows += [
        (row["index"], row["method"], measure[row["stage"]], row["signed"]) for row in lost + noisy
    ]
    table = pd.DataFrame(rows, columns=["index", "method", "measure", "value"])
    index = table.pop("index")
    classes = target.tolist()
    return table.assign(
        image_id=[names[i] for i in index],
        view="alone",
        target=[classes[i] for i in index],
        target_name=[vit.class_names[classes[i]] for i in index],
        place=0,
        **dict.fromkeys(COLUMNS),
    )


def area_rows(
    batch: Explained, fractions: Sequence[float], engine: MaskedModel | None = None
) -> list[tuple[int, str, str, float]]:
    """Areas in percent of recognition in both orders, and their difference."""
    device = batch.vit.device
    maps = {label: relevance.to(device) for label, relevance in batch.maps.items()}
    images, target = batch.images.to(device), batch.target.to(device)
    curves = perturb_many(batch.vit, images, maps, target, fractions=fractions, engine=engine)
    rows = []
    for label in maps:
        least, most = (curves[label, order] for order in ("negative", "positive"))
        gain = 100 * srg(least.fraction, least.correct.cpu(), most.correct.cpu())
        areas = (SRG, gain), (LEAST, least.auc_per_image()), (MOST, most.auc_per_image())
        rows += [(index, label, name, value) for name, own in areas
                 for index, value in enumerate(own.tolist())]  # fmt: skip
    return rows


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
    good = pd.DataFrame({name: goodness(means[name], better[name]) for name in means.columns})
    return good.rank(ascending=False).assign(**{"mean rank": _rank_shares(good.T).mean()})


def _rank_shares(good: pd.DataFrame) -> pd.DataFrame:
    """Rank of every column (method) within its row, more is better: 0 the best, 1 the worst."""
    ranked = good.rank(axis=1, ascending=False) - 1
    worst = ranked.count(axis=1) - 1
    return ranked.div(worst.where(worst > 0), axis=0)


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
        was drawn, and everywhere where `resample` draws nothing.
    """
    means = rows.pivot_table("value", "image_id", ["measure", "method"], sort=False)
    codes = unit_codes(means.index, units_of(rows))
    drawn = resample(int(codes.max()) + 1, np.random.default_rng(seed), DRAWS)[:, codes]
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
    draws = redrawn(rows, seed)
    shares = [_rank_shares(goodness(draws[name], better[name])) for name in draws.columns.unique(0)]
    each = pd.concat(shares).groupby(level=0).mean()  # over the measures of every draw
    low, high = each[value.index].quantile([0.025, 0.975]).to_numpy()
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
    return minus(f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}")
