"""From the table of a perturbation study to areas, means and intervals.

Intervals are percentile bootstraps over images, 95 %, from a seed: the same table gives the same
numbers. Rows are those of `results.parquet`: one per image, method, order and fraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from attnguide.errors import InputError
from attnguide.types import area_under_curve

QUANTITIES = {"accuracy": "correct", "probability": "probability"}
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; scalars, or one per fraction."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def bootstrap_mean(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean over images (axis 0) of (n, ...) with its percentile interval."""
    means = _draws(len(values), seed) @ values.reshape(len(values), -1) / len(values)
    low, high = np.percentile(means, [2.5, 97.5], axis=0).reshape(2, *values.shape[1:])
    return Interval(values.mean(0), low, high)


@lru_cache(maxsize=2)  # a table asks for the same draws a hundred times
def _draws(count: int, seed: int) -> NDArray[np.float64]:
    """(RESAMPLES, count) how often each image is drawn."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)


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


def areas(rows: pd.DataFrame, quantity: str) -> pd.Series:
    """Area under the curve in percent per image, of one model, guide, method and order."""
    fraction, table = curves(rows, quantity)
    area = area_under_curve(torch.tensor(fraction), torch.tensor(table.to_numpy()))
    return pd.Series(area.numpy(), table.index)


def auc_table(rows: pd.DataFrame, methods: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """One line per model, method, order and quantity: AUC with interval, in percent, and n."""
    lines = []
    for (model, order), part in rows.groupby(["model", "order"], sort=False):
        for quantity in QUANTITIES:
            for method in methods:
                area = areas(part[part["method"] == method], quantity)
                line = _line(bootstrap_mean(area.to_numpy(), seed), len(area))
                lines.append(
                    {"method": method, "order": order, "quantity": quantity, **line, "model": model}
                )
    return pd.DataFrame(lines)


def paired_differences(
    rows: pd.DataFrame, first: str, others: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """AUC of `first` minus each other method on the same images, in percentage points."""
    lines = []
    for (model, order), part in rows.groupby(["model", "order"], sort=False):
        for quantity in QUANTITIES:
            own = areas(part[part["method"] == first], quantity)
            for other in others:
                rival = areas(part[part["method"] == other], quantity)
                gap = (own - rival.reindex(own.index)).to_numpy()
                lines.append(
                    {
                        "difference": f"{first} - {other}",
                        "order": order,
                        "quantity": quantity,
                        **_line(bootstrap_mean(gap, seed), len(gap)),
                        "model": model,
                    }
                )
    return pd.DataFrame(lines)


def _line(interval: Interval, count: int) -> dict[str, float | int]:
    return {
        "auc": float(interval.mean),
        "ci_low": float(interval.low),
        "ci_high": float(interval.high),
        "n": count,
    }
