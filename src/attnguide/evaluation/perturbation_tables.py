"""From the rows of a perturbation study to areas with intervals, differences and rankings.

Rows are those of `results.parquet`: one per image, method, order and fraction. Everything is in
percent. An area is per image, so its mean has a bootstrap interval, of hits too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import nan

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from attnguide.errors import InputError
from attnguide.evaluation.curve import area_under_curve
from attnguide.evaluation.metrics import abpc, auc_chefer, srg
from attnguide.evaluation.statistics import (
    estimate,
    holm,
    measured_rows,
    signed_rank,
    unit_means,
    units_of,
)

QUANTITIES = {"accuracy": "correct", "probability": "probability"}
BOTH_ORDERS = {"srg": ("accuracy", srg), "abpc": ("probability", abpc)}


def curves(rows: pd.DataFrame, quantity: str) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """Fractions (S,), and one row of percent values (S columns) per image.

    Args:
        rows: Of one model, guide, method and order.
        quantity: "accuracy" or "probability".

    Raises:
        ValueError: an image that lacks a fraction.
    """
    table = rows.pivot(index="image_id", columns="fraction", values=QUANTITIES[quantity])
    if table.isna().to_numpy().any():
        broken = table.index[table.isna().any(axis=1)][0]
        raise InputError(f"image {broken!r} lacks fractions; resume the run to complete it")
    return table.columns.to_numpy(float), 100 * table.astype(float).sort_index()


def areas(rows: pd.DataFrame, quantity: str) -> pd.Series[float]:
    """Area under the curve in percent per image, of one model, guide, method and order."""
    fraction, table = curves(rows, quantity)
    area = area_under_curve(torch.tensor(fraction), torch.tensor(table.to_numpy()))
    return pd.Series(area.numpy(), table.index)


def scores(rows: pd.DataFrame, quantity: str, order: str = "") -> pd.Series[float]:
    """One number in percent per image, of one model, guide and method.

    Args:
        rows: Of both orders, where the quantity uses both.
        quantity: "accuracy" or "probability" for `areas`; "auc_chefer" for the undivided area of
            accuracy; "srg" (accuracy) or "abpc" (probability), which use both orders.
        order: "positive" or "negative"; empty for a quantity that uses both.

    Raises:
        ValueError: the two orders have other fractions.
    """
    if quantity in QUANTITIES:
        return areas(rows[rows["order"] == order], quantity)
    if quantity == "auc_chefer":
        fraction, table = curves(rows[rows["order"] == order], "accuracy")
        return pd.Series(auc_chefer(fraction, table.to_numpy()), table.index)
    followed, metric = BOTH_ORDERS[quantity]
    (fraction, least), (other, most) = (
        curves(rows[rows["order"] == each], followed) for each in ("negative", "positive")
    )
    if fraction.tolist() != other.tolist():
        raise InputError(
            f"{quantity} needs the same fractions in both orders, got {fraction.tolist()} and "
            f"{other.tolist()}"
        )
    images = least.index.intersection(most.index)
    found = metric(fraction, least.loc[images].to_numpy(), most.loc[images].to_numpy())
    return pd.Series(found, images)


def auc_table(rows: pd.DataFrame, methods: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """One line per model, method, order and quantity: its mean in percent with interval, and n.

    First the areas of accuracy and probability, then what published tables report: `auc_chefer`,
    `srg` and `abpc` of `scores`; `order` is empty where a quantity uses both.
    """
    rows = measured_rows(rows)
    units = units_of(rows)
    pairs = rows[["model", "order"]].drop_duplicates().to_numpy().tolist()
    asked = [(model, order, quantity) for model, order in pairs for quantity in QUANTITIES]
    asked += [(model, order, "auc_chefer") for model, order in pairs]
    for model, part in rows.groupby("model", sort=False):
        asked += [(model, "", each) for each in BOTH_ORDERS if part["order"].nunique() == 2]
    lines = []
    for model, order, quantity in asked:
        own = rows[rows["model"] == model]
        for method in methods:
            found = estimate(
                scores(own[own["method"] == method], quantity, order), units, seed, kind="mean"
            )
            names = {"method": method, "order": order, "quantity": quantity}
            lines.append({**names, **found.as_row("auc"), "model": model})
    return pd.DataFrame(lines)


def paired_differences(
    rows: pd.DataFrame, first: str, others: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """AUC of `first` minus each other method on the same images, in percentage points."""
    rows = measured_rows(rows)
    units = units_of(rows)
    lines = []
    for (model, order), part in rows.groupby(["model", "order"], sort=False):
        for quantity in QUANTITIES:
            own = areas(part[part["method"] == first], quantity)
            for other in others:
                gap = own - areas(part[part["method"] == other], quantity)
                found = estimate(gap, units, seed, kind="mean").as_row("auc")
                names = {
                    "difference": f"{first} - {other}",
                    "order": order,
                    "quantity": quantity,
                }
                lines.append({**names, **found, "model": model})
    return pd.DataFrame(lines)


def compare(rows: pd.DataFrame, first: str, rivals: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """`first` against several rivals on probability, tested image by image.

    Top-1 curves are 0 or 1, so many of their differences are exactly 0; hence probability: its
    area in each order, and "abpc", which uses both.

    Returns:
        Columns of `paired_differences`, and `p` (Wilcoxon, two-sided, over units), `p_holm`
        (corrected over the rivals of one model and order) and `effect` (matched-pairs rank-biserial
        correlation: 1 if `first` is larger in every unit; in the positive order smaller is better).
    """
    rows = measured_rows(rows)
    units = units_of(rows)
    lines = []
    for model, part in rows.groupby("model", sort=False):
        orders = list(part["order"].unique())
        asked = [(order, "probability") for order in orders]
        asked += [("", "abpc")] if len(orders) == 2 else []
        for order, quantity in asked:
            own = scores(part[part["method"] == first], quantity, order)
            family = []
            for rival in rivals:
                gap = own - scores(part[part["method"] == rival], quantity, order)
                p, effect = signed_rank(unit_means(gap, units))
                found = estimate(gap, units, seed, kind="mean").as_row("auc")
                names = {"difference": f"{first} - {rival}", "order": order, "quantity": quantity}
                family.append({**names, **found, "p": p, "effect": effect, "model": model})
            corrected = holm([line["p"] for line in family])
            lines += [line | {"p_holm": p} for line, p in zip(family, corrected, strict=True)]
    return pd.DataFrame(lines)


def ranking_agreement(
    tables: Mapping[str, pd.DataFrame], methods: Sequence[str] | None = None
) -> pd.DataFrame:
    """Kendall's tau between rankings of methods: across fills, and across quantities.

    A ranking is by the mean in `auc_table` of one quantity and order, the better the higher (the
    positive order's areas count downwards). Two rankings are compared if they have the quantity and
    order in common, or the table. `auc_chefer` ranks as accuracy does and is left out.

    Args:
        tables: Of `auc_table`, by the name of their fill (or of what else they differ in).
        methods: To rank; all by default. A random order among them makes agreement look better.

    Returns:
        Columns model, first, second, tau (NaN for fewer than two methods, or if all are equal) and
        n, the number of methods that both rank.
    """
    rankings = {}
    for name, table in tables.items():
        kept = table[table["quantity"] != "auc_chefer"].fillna({"order": ""})
        if methods is not None:
            kept = kept[kept["method"].isin(list(methods))]
        for (model, order, quantity), part in kept.groupby(
            ["model", "order", "quantity"], sort=False
        ):
            mean = part.set_index("method")["auc"]
            rankings[model, name, quantity, order] = -mean if order == "positive" else mean
    lines = []
    for (a, one), (b, two) in combinations(rankings.items(), 2):
        if a[0] == b[0] and (a[1] == b[1] or a[2:] == b[2:]):
            both = one.index.intersection(two.index)
            tau = kendalltau(one[both], two[both]).statistic if len(both) > 1 else nan
            first, second = (f"{key[1]}: {key[2]} {key[3]}".strip() for key in (a, b))
            lines.append(
                {"model": a[0], "first": first, "second": second, "tau": tau, "n": len(both)}
            )
    return pd.DataFrame(lines, columns=["model", "first", "second", "tau", "n"])
