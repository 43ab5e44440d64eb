"""Faithfulness of a map as a number: from curves (AUC), single cells, random weights.

Pure functions on arrays. What the model answers comes in (drops, curves), a number goes out; NaN
where it is not defined, never a guess. "Least first" and "most first" are the curves of filling the
least and the most relevant patches first; both have the same fractions and follow one fixed class.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
from scipy.stats import spearmanr
from torch import Tensor

from attnguide.errors import InputError

Floats: TypeAlias = NDArray[np.float64]


def area_under_curve(fraction: Tensor, value: Tensor) -> Tensor:
    """(...,) trapezoid area of `value` (..., S) over `fraction` (S,), divided by its range.

    This is the AUC of all our tables: a constant curve has itself as area.

    Raises:
        ValueError: fewer than two fractions, or fractions that do not increase.
    """
    if fraction.numel() < 2 or bool((fraction.diff() <= 0).any()):
        raise InputError(
            f"an area needs at least two increasing fractions, got {fraction.tolist()}"
        )
    fraction = fraction.double().to(value.device)
    return torch.trapezoid(value.double(), fraction, dim=-1) / (fraction[-1] - fraction[0])


def auc_chefer(fraction: ArrayLike, value: ArrayLike) -> Floats:
    """(...,) trapezoid area of (..., S), not divided by the range: published tables have this.

    Our areas are divided: over 0 to 0.9 this one is 0.9 times as large.
    """
    return np.asarray(trapezoid(_floats(value), _floats(fraction), axis=-1))


def srg(fraction: ArrayLike, least_first: ArrayLike, most_first: ArrayLike) -> Floats:
    """(...,) symmetric relevance gain: area of least first minus area of most first, divided.

    High is good; a random order has 0 in the mean.

    Source: Blücher, Vielhaben, Strodthoff, TMLR 2024.
    Differs: areas are divided by the range of the fractions, as all our areas are.
    """
    x = _floats(fraction)
    return auc_chefer(x, _floats(least_first) - _floats(most_first)) / (x[-1] - x[0])


def abpc(fraction: ArrayLike, least_first: ArrayLike, most_first: ArrayLike) -> Floats:
    """(...,) area between the perturbation curves: mean difference over the fractions and 1.

    At fraction 1 all is filled, in both orders, so that the difference is 0: the point counts
    whether or not it was computed. High is good.

    Source: AG-CAM (`ABPC.py`), over 0, 0.1, ..., 1 on probability.
    """
    gap = _floats(least_first) - _floats(most_first)
    steps = gap.shape[-1] + (0 if np.isclose(_floats(fraction)[-1], 1) else 1)
    return np.asarray(gap.sum(-1) / steps)


def cell_sums(relevance: ArrayLike, cells: int = 4) -> Floats:
    """(cells, cells) sums of a map (rows, cols); a patch on a border is split by its share."""
    values = _floats(relevance)
    down, across = (_shares(count, cells) for count in values.shape)
    return down @ values @ across.T


def single_deletion(relevance: ArrayLike, drops: ArrayLike) -> float:
    """Rank correlation of the map's cell sums and the logit's drops when one cell is filled.

    This is IDSDS if the model was fine-tuned with filled cells; on an ordinary model it is plain
    single deletion. Signs matter: the map is summed as it is.

    Args:
        relevance: (rows, cols).
        drops: (cells, cells), logit of the clean image minus logit with this cell filled.

    Source: Hesse, Schaub-Meyer, Roth, NeurIPS Datasets and Benchmarks 2024.
    """
    answers = _floats(drops)
    return spearman(cell_sums(relevance, len(answers)), answers)


def completeness_error(total: ArrayLike, difference: ArrayLike) -> tuple[Floats, Floats]:
    """Size of (sum of the map - what it should sum to), and the same relative to the latter.

    Args:
        total: (...,) sum over all that the method distributes over (tokens with the class token,
            or pixels), which can be more than the patches shown.
        difference: (...,) y(x) - y(baseline), in the unit that the method explains; y(x) for a
            method without a baseline.

    Returns:
        The relative error is NaN where the difference is 0; report its median.
    """
    aim = _floats(difference)
    error = np.abs(_floats(total) - aim)
    return error, error / np.where(aim == 0, np.nan, np.abs(aim))


def similarity(first: ArrayLike, second: ArrayLike) -> dict[str, float]:
    """Rank correlation of two maps, `signed` and of their `absolute` values.

    For parameter randomisation: the trained model's map against that of a randomised one, for the
    same class; low is good. NaN for a constant map: count these.

    Source: Adebayo et al., NeurIPS 2018.
    """
    a, b = _floats(first), _floats(second)
    return {"signed": spearman(a, b), "absolute": spearman(np.abs(a), np.abs(b))}


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Rank correlation with average ranks for ties; NaN if either is constant or not finite."""
    a, b = _floats(first).ravel(), _floats(second).ravel()
    if a.shape != b.shape:
        raise InputError(f"both need as many values to be ranked, got {len(a)} and {len(b)}")
    if _constant(a) or _constant(b):
        return float("nan")
    return float(spearmanr(b, a).statistic)


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _constant(values: Floats) -> bool:
    """Nothing to rank: equal up to rounding, or not finite."""
    return not np.isfinite(values).all() or bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _shares(count: int, cells: int) -> Floats:
    """(cells, count) share of each of `count` patches that lies in each of `cells` equal cells."""
    begins = np.arange(cells)[:, None] * count / cells
    patches = np.arange(count)
    shared = np.minimum(begins + count / cells, patches + 1) - np.maximum(begins, patches)
    return np.clip(shared, 0, 1)
