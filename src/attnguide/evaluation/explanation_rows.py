"""Explained pictures as rows: classes, probabilities, and the raw map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from attnguide.store.maps import as_columns
from attnguide.types import Explanation, ViT


def explanation_rows(
    vit: ViT,
    many: Mapping[str, Explanation],
    ids: Sequence[str],
    labels: Sequence[int | None],
    own: Tensor | None = None,
) -> pd.DataFrame:
    """One row per picture and method.

    `positive_share` is the positive part of the relevance over its magnitude, in [0, 1], missing
    for a map of zeros; `largest` is the largest magnitude, by which a map is divided for display.

    Args:
        vit: Names the classes.
        many: One target per image, as `explain_many` gives it.
        ids: Of the images.
        labels: Class of each image, None where it is not known.
        own: (rows, cols), 1 on the patches that `positive_share` counts; None for all of them.
    """
    rows = [
        {"image_id": ids[place], "method": method}
        | _classes(vit, explanation.logits[place], int(explanation.target[place]), labels[place])
        | {"loss": explanation.settings.get("loss", "logit")}
        | _map(explanation.relevance[place], own)
        for place in range(len(ids))
        for method, explanation in many.items()
    ]
    return pd.DataFrame(rows).astype({"label": "Int64"})


def _classes(vit: ViT, logits: Tensor, target: int, label: int | None) -> dict[str, Any]:
    probability = vit.probabilities(logits.double())
    prediction = int(logits.argmax())
    return {
        "target": target,
        "target_name": vit.class_names[target],
        "probability": float(probability[target]),
        "logit": float(logits[target]),
        "prediction": prediction,
        "prediction_name": vit.class_names[prediction],
        "prediction_probability": float(probability[prediction]),
        "label": label,
        "label_name": "" if label is None else vit.class_names[label],
    }


def _map(relevance: Tensor, own: Tensor | None) -> dict[str, Any]:
    values = relevance.detach().float().cpu().numpy()
    counted = values if own is None else values * own.cpu().numpy()
    size = float(np.abs(counted).sum())
    return {
        "positive_share": float(counted.clip(min=0).sum()) / size if size else float("nan"),
        "largest": float(np.abs(values).max()),
        **as_columns(relevance),
    }
