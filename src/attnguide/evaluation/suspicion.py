"""How suspicious a label is: signals per picture, more is more suspicious, and how well they tell.

Pictures come with the label that somebody gave them, which the model was perhaps trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from attnguide.evaluation.rows import forward, maps_of
from attnguide.evaluation.statistics import NOT_KNOWN, Estimate, middle_95, resample, wilson
from attnguide.methods import complete
from attnguide.types import ViT

DETAIL, BESIDE, CONFIDENT, CLUSTERS = (
    "detail interpretation",
    "logit beside another class",
    "confident learning",
    "unlike its class's maps",
)
SIGNALS = (DETAIL, BESIDE, CONFIDENT, CLUSTERS)
MIN_ALIKE = 3  # pictures of a label that a mean map needs


def runner_up(logits: Tensor, label: Tensor) -> Tensor:
    """(B,) the most probable class beside the label."""
    return logits.scatter(1, label.unsqueeze(1), -torch.inf).argmax(1)


def detail_signal(
    vit: ViT, images: Tensor, label: Tensor, other: Tensor
) -> tuple[NDArray[np.float64], Tensor]:
    """(B,) share of the map that speaks for the other class; and the maps (B, rows, cols).

    The map is complete correction of the relative contrast of label and other class (the paper's
    Eq. 8): blue is what makes the picture the other class.
    """
    method = {"complete": complete.explain}
    found, _ = maps_of(vit, images, label, method, loss="relative_contrast", reference=other)
    maps = found["complete"]
    size = maps.abs().sum((1, 2)).double()
    against = (-maps).clamp(min=0).sum((1, 2)).double()
    return (against / size.where(size > 0, torch.nan)).numpy(), maps


def beside_signal(vit: ViT, guided: Tensor, label: Tensor, other: Tensor) -> NDArray[np.float64]:
    """(B,) logit of the other class minus that of the label, beside a picture of a third class."""
    logits = forward(vit, guided).double()
    rows = torch.arange(len(logits))
    return (logits[rows, other] - logits[rows, label]).numpy()


def confident_learning(
    probabilities: NDArray[np.float64], labels: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(N,) how much likelier another class is than the label, once each class is put in its place.

    From each probability the mean probability of the class among pictures of its label is taken;
    what is left is shifted and divided so that a picture's classes sum to 1; the signal is (1 -
    label + largest other) / 2. A class that no picture is labelled as is left as it is.

    Args:
        probabilities: (N, C).
        labels: (N,).

    Source: Northcutt, Jiang, Chuang, JAIR 2021; the normalised margin of adjusted probabilities, as
    cleanlab ranks labels.
    Differs: cleanlab never takes a class that no picture is labelled as for the better label; in a
    folder with a few of ImageNet's classes these are nearly all.
    """
    from cleanlab.rank import get_normalized_margin_for_each_label  # takes seconds to import

    count = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    present = np.bincount(labels, minlength=count)
    mean = np.bincount(labels, own, minlength=count) / np.maximum(present, 1)
    usual = np.where(present > 0, mean, 0.0)
    adjusted = probabilities - usual + usual.max()
    adjusted /= adjusted.sum(1, keepdims=True)
    return 1 - get_normalized_margin_for_each_label(labels, adjusted)


def unlike_its_class(maps: NDArray[np.float64], labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """(N,) one minus the correlation with the mean map of the other pictures of the label.

    NaN for labels with fewer than three pictures, and for constant maps.

    Source: the idea of Lapuschkin et al. 2019 (SpRAy), with a centre for each label.
    """
    flat = maps.reshape(len(maps), -1)
    centred = flat - flat.mean(1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(size > 0, size, np.nan)
    found = np.full(len(maps), np.nan)
    for label in np.unique(labels):
        own = np.flatnonzero((labels == label) & np.isfinite(unit).all(1))
        if len(own) >= MIN_ALIKE:
            rest = unit[own].sum(0) - unit[own]
            length = np.linalg.norm(rest, axis=1)
            found[own] = 1 - (unit[own] * rest).sum(1) / np.where(length > 0, length, np.nan)
    return found


def auroc(signal: Sequence[float], wrong: Sequence[bool], seed: int = 0) -> Estimate:
    """How often a wrong label is more suspicious than a right one, with a bootstrap interval.

    Ties count half; wrong and right ones are drawn again apart. Where all pairs
    are alike, the interval is Wilson's for `n` answers. `n` is the number of wrong or of
    right labels, whichever is less; 0 where one of them is missing.
    """
    values = np.asarray(signal, dtype=np.float64)
    truth = np.asarray(wrong, dtype=bool) & np.isfinite(values)
    right = ~np.asarray(wrong, dtype=bool) & np.isfinite(values)
    one, two = values[truth], values[right]
    if not len(one) or not len(two):
        return NOT_KNOWN
    fewest = min(len(one), len(two))
    value = float(roc_auc_score([1] * len(one) + [0] * len(two), [*one, *two]))
    if value in (0, 1):  # every draw would agree: as many answers that are all alike
        return Estimate(value, *wilson(value, fewest), fewest)
    # the area of a draw: pairs in the right order, weighted by how often both pictures are drawn
    better = (one[:, None] > two) + 0.5 * (one[:, None] == two)
    rng = np.random.default_rng(seed)
    weights_one, weights_two = (resample(len(own), rng) / len(own) for own in (one, two))
    return Estimate(value, *middle_95(((weights_one @ better) * weights_two).sum(1)), fewest)


def suspicious_pairs(rows: pd.DataFrame, signals: Sequence[str]) -> pd.DataFrame:
    """Pairs of classes by the mean rank of their pictures' suspicion, the worst first.

    Args:
        rows: One per picture, with `label_name`, `other_name` and the signals.
        signals: Columns.

    Returns:
        Columns label, other, pictures, suspicion (mean over signals of ranks in [0, 1]).
    """
    ranks = rows[list(signals)].rank(pct=True).mean(axis=1)
    table = rows.assign(suspicion=ranks).groupby(["label_name", "other_name"], sort=False)
    found = table["suspicion"].agg(["size", "mean"]).reset_index()
    found.columns = ["label", "other", "pictures", "suspicion"]
    return found.sort_values("suspicion", ascending=False, kind="stable").reset_index(drop=True)
