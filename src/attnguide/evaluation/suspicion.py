"""How suspicious a label is: signals per picture, more is more suspicious, and how well they tell.

Pictures come with the label that somebody gave them, which the model was perhaps trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from attnguide.data.pictures import Item
from attnguide.data.views import View
from attnguide.evaluation.rows import explain_batch, forward, row_of
from attnguide.evaluation.statistics import NOT_KNOWN, Estimate, newcombe
from attnguide.methods import complete
from attnguide.store.maps import relevance_of
from attnguide.types import ViT

DETAIL, BESIDE, CONFIDENT, CLUSTERS = (
    "detail interpretation",
    "logit beside another class",
    "confident learning",
    "unlike its class's maps",
)
SIGNALS = (DETAIL, BESIDE, CONFIDENT, CLUSTERS)
TOP = 0.05  # share of the pictures that a signal points at
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
    found = explain_batch(vit, images, label, method, loss="relative_contrast", reference=other)
    maps = found.maps["complete"]
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

    usual = np.nan_to_num(_usual(probabilities, labels))
    adjusted = probabilities - usual + usual.max()
    adjusted /= adjusted.sum(1, keepdims=True)
    return 1 - get_normalized_margin_for_each_label(labels, adjusted)


def is_issue(probabilities: NDArray[np.float64], labels: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(N,) whether another class than the label is confidently the picture's.

    Of the classes that are as probable as they are on average among pictures of their label, that
    is the most probable one. A class that no picture is labelled as must reach the mean of these
    averages: in a folder with one picture of each of many classes an audit thus has something to
    compare with.

    Args:
        probabilities: (N, C).
        labels: (N,).

    Source: the confident joint of Northcutt, Jiang, Chuang, JAIR 2021.
    Differs: cleanlab leaves classes out that no picture is labelled as.
    """
    usual = _usual(probabilities, labels)
    confident = probabilities >= np.where(np.isnan(usual), np.nanmean(usual), usual)
    likeliest = np.where(confident, probabilities, -1.0).argmax(1)
    return confident.any(1) & (likeliest != labels)


def _usual(probabilities: NDArray[np.float64], labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """(C,) mean probability of every class among pictures of its label; NaN without any."""
    count, own = probabilities.shape[1], probabilities[np.arange(len(labels)), labels]
    present = np.bincount(labels, minlength=count)
    return np.bincount(labels, own, minlength=count) / np.where(present > 0, present, np.nan)


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


def auroc(signal: Sequence[float], wrong: Sequence[bool]) -> Estimate:
    """How often a wrong label is more suspicious than a right one, with Newcombe's interval.

    Ties count half. `n` is the number of wrong or of right labels, whichever is less; 0 where one
    of them is missing.
    """
    values = np.asarray(signal, dtype=np.float64)
    truth, known = np.asarray(wrong, dtype=bool), np.isfinite(values)
    first, second = int((truth & known).sum()), int((~truth & known).sum())
    if not first or not second:
        return NOT_KNOWN
    value = float(roc_auc_score(truth[known], values[known]))
    return Estimate(value, *newcombe(value, first, second), min(first, second))


def told_apart(rows: pd.DataFrame, signal: str, *, of_class: bool) -> Estimate:
    """`auroc` of a signal among all pictures, or among those of the wrong labels' class.

    Args:
        rows: Of `with_all_signals`, with `wrong`: whether the label is, None where not known.
        signal: A column.
        of_class: Whether other classes are left out.
    """
    wrong = rows["wrong"].eq(True)
    if of_class and wrong.any():
        own = rows["target"] == rows.loc[wrong, "target"].iloc[0]
        rows, wrong = rows[own], wrong[own]
    return auroc(rows[signal].tolist(), wrong.tolist())


def audited_rows(
    vit: ViT, items: Sequence[Item], views: Sequence[View], guided: Sequence[View]
) -> pd.DataFrame:
    """A row per picture: signals that need one picture alone, probabilities, and the map.

    Args:
        vit: The model.
        items: With the labels that somebody gave them.
        views: Of the items.
        guided: The same, beside a picture of another class.
    """
    images, label = torch.stack([view.image for view in views]), [item.label for item in items]
    logits, given = forward(vit, images), torch.tensor(label)
    other, predicted = runner_up(logits, given), logits.argmax(1)
    against, maps = detail_signal(vit, images, given, other)
    whose = (
        row_of(vit, view, target, relevance=relevance)
        for view, target, relevance in zip(views, given.tolist(), maps, strict=True)
    )
    probabilities = logits.double().softmax(1).numpy().astype("<f4")
    found: dict[str, Any] = {
        "other_name": [vit.class_names[c] for c in other],
        "prediction": predicted.tolist(),
        "prediction_name": [vit.class_names[c] for c in predicted],
        DETAIL: against,
        BESIDE: beside_signal(vit, torch.stack([v.image for v in guided]), given, other),
        "probabilities": [row.tobytes() for row in probabilities],
    }
    return pd.DataFrame(whose).assign(**found)


def with_all_signals(rows: pd.DataFrame) -> pd.DataFrame:
    """With the signals that need all pictures of a model; of each the most suspicious first.

    Args:
        rows: Of `audited_rows`, with `model`.

    Returns:
        Also `suspicion`, the mean rank of the signals in [0, 1]; `why`, by which signals a picture
        is among the first `TOP`; and `is_issue`, as the function of this name says.
    """
    parts = [_of_all_pictures(own) for _, own in rows.groupby("model", sort=False)]
    return pd.concat(parts, ignore_index=True)


def _of_all_pictures(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.reset_index(drop=True)
    labels = rows["target"].to_numpy()
    probabilities = np.stack([np.frombuffer(p, "<f4") for p in rows["probabilities"]]).astype(float)
    maps = np.stack([relevance_of(row) for row in rows.itertuples()])
    rows[CONFIDENT] = confident_learning(probabilities, labels)
    rows["is_issue"] = is_issue(probabilities, labels)
    rows[CLUSTERS] = unlike_its_class(maps.astype(np.float64), labels)
    ranks = rows[list(SIGNALS)].rank(pct=True)
    first = ranks >= 1 - TOP
    why = [", ".join(name for name in SIGNALS if line[name]) for _, line in first.iterrows()]
    rows = rows.assign(suspicion=ranks.mean(axis=1), why=why)
    return rows.sort_values("suspicion", ascending=False, kind="stable", ignore_index=True)


def issues(rows: pd.DataFrame) -> pd.DataFrame:
    """All pictures as cleanlab lists label issues, the most suspicious first.

    Args:
        rows: Of `with_all_signals`.

    Returns:
        cleanlab's columns is_label_issue, label_score (low is suspicious), given_label,
        predicted_label; and picture, rank (by `suspicion`), model.
    """
    return pd.DataFrame(
        {
            "picture": rows["image_id"],
            "rank": rows.groupby("model").cumcount() + 1,
            "is_label_issue": rows["is_issue"],
            "label_score": 1 - rows[CONFIDENT],
            "given_label": rows["target_name"],
            "predicted_label": rows["prediction_name"],
            "model": rows["model"],
        }
    )


def suspicious_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Pairs of classes by the mean rank of their pictures' suspicion, the worst first.

    Args:
        rows: Of `with_all_signals`.

    Returns:
        Columns model, label, other, pictures, suspicion.
    """
    table = rows.groupby(["model", "target_name", "other_name"], sort=False)
    found = table["suspicion"].agg(["size", "mean"]).reset_index()
    found.columns = ["model", "label", "other", "pictures", "suspicion"]
    found = found.sort_values("suspicion", ascending=False, kind="stable")
    order = {model: number for number, model in enumerate(rows["model"].unique())}
    return found.sort_values("model", key=lambda m: m.map(order), kind="stable", ignore_index=True)
