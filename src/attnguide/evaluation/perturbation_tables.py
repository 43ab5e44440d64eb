"""From the rows of a perturbation study to areas with intervals and differences.

Rows are those of `results.parquet`: one per image, method, order and fraction. Everything is in
percent. An area is per image, so its mean has a bootstrap interval, of hits too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from attnguide.errors import InputError
from attnguide.evaluation.metrics import abpc, area_under_curve, auc_chefer, srg
from attnguide.evaluation.statistics import estimate, measured_rows, units_of

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
