"""What every table of maps is made of: maps of several methods, and what a row says of one map."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attnguide.api import Target, explain_many
from attnguide.data.views import View
from attnguide.losses import Loss
from attnguide.methods import Method
from attnguide.store.maps import as_columns
from attnguide.types import Explanation, ViT

CHUNK = 32  # pictures per forward pass
Maps = dict[str, Tensor]  # by method: (B, rows, cols), or (B, T, rows, cols) of several targets


@dataclass(frozen=True)
class Explained:
    """Pictures of a batch with their maps by several methods.

    Attributes:
        vit: The model.
        images: (B, 3, H, W), normalised; of several guides (B, G, 3, H, W).
        target: (B,) or (B, T) classes.
        methods: By label, settings bound.
        maps: By label, on the CPU: (B, rows, cols), or (B, T, rows, cols).
        logits: (B, C), on the CPU.
    """

    vit: ViT
    images: Tensor
    target: Tensor
    methods: Mapping[str, Method]
    maps: Maps
    logits: Tensor

    def part(self, index: Sequence[int]) -> Explained:
        """Some of the pictures."""
        own = list(index)
        maps = {label: relevance[own] for label, relevance in self.maps.items()}
        images, target, logits = (every[own] for every in (self.images, self.target, self.logits))
        return replace(self, images=images, target=target, maps=maps, logits=logits)


def explain_batch(
    vit: ViT,
    images: Tensor,
    target: Tensor,
    methods: Mapping[str, Method],
    *,
    loss: str | Loss = "logit",
    reference: Target = None,
) -> Explained:
    """The pictures explained by all methods; arguments as in `Explained` and `explain`.

    The warning of Eq. 8 about negative logits is left out: whoever asks for tables counts them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "relative_contrast needs both logits positive")
        many = explain_many(vit, images, target, methods=methods, loss=loss, reference=reference)
    maps = {label: found.relevance.cpu() for label, found in many.items()}
    return Explained(vit, images, target, methods, maps, next(iter(many.values())).logits.cpu())


def first_targets(views: Sequence[View]) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) images of views, and (B,) the first target of each."""
    images = torch.stack([view.image for view in views])
    return images, torch.tensor([view.targets[0] for view in views])


def forward(vit: ViT, images: Tensor) -> Tensor:
    """(B, C) logits on the CPU, a few pictures at a time."""
    with torch.no_grad():
        parts = [vit.logits(part.to(vit.device, vit.dtype)).cpu() for part in images.split(CHUNK)]
    return torch.cat(parts)


def row_of(
    vit: ViT, view: View, target: int, method: str = "complete", relevance: Tensor | None = None
) -> dict[str, Any]:
    """Columns that say whose map it is, and hold the map.

    Views of one picture share its `image_id` and differ in `view`.

    Args:
        vit: Names the class.
        view: What the model saw.
        target: The explained class.
        method: Label.
        relevance: (rows, cols), to be kept; None for a map that is not shown.
    """
    return {
        "image_id": view.id.removesuffix(f"@{view.kind}"),
        "view": view.kind,
        "method": method,
        "target": target,
        "target_name": vit.class_names[target],
        **as_columns(relevance),
    }


def answer(vit: ViT, logits: Tensor, target: int) -> dict[str, Any]:
    """Columns of the model's answer, logits (C,): its class, and what it says of the target."""
    return {
        "prediction": int(logits.argmax()),
        "probability": float(vit.probabilities(logits.double())[target]),
        "logit": float(logits[target]),
    }


def number_of(image_id: str, count: int) -> int:
    """A number in [0, count) that depends on the picture's id alone, as if it were drawn."""
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:4], "big") % count


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
    rows = []
    for place, (name, label) in enumerate(zip(ids, labels, strict=True)):
        for method, explanation in many.items():
            logits, target = explanation.logits[place], int(explanation.target[place])
            relevance = explanation.relevance[place].detach().float().cpu()
            counted = relevance.numpy() if own is None else relevance.numpy() * own.cpu().numpy()
            size = float(np.abs(counted).sum())
            known = answer(vit, logits, target)
            prediction = known["prediction"]
            rows.append(
                {
                    "image_id": name,
                    "method": method,
                    "target": target,
                    "target_name": vit.class_names[target],
                    **known,
                    "prediction_name": vit.class_names[prediction],
                    "prediction_probability": answer(vit, logits, prediction)["probability"],
                    "label": label,
                    "label_name": "" if label is None else vit.class_names[label],
                    "loss": explanation.settings.get("loss", "logit"),
                    "positive_share": float(counted.clip(min=0).sum()) / size if size else np.nan,
                    "largest": float(relevance.abs().max()),
                    **as_columns(relevance),
                }
            )
    return pd.DataFrame(rows).astype({"label": "Int64"})
