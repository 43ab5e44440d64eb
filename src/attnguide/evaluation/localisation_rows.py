"""The maps of a batch as numbers: a row per view, target and method."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attnguide.api import explain_many
from attnguide.data.views import View
from attnguide.evaluation.localisation import correlation, regions, relevance_by_region
from attnguide.evaluation.metrics import spearman
from attnguide.losses import Loss, logit
from attnguide.methods import Method
from attnguide.store.maps import as_columns
from attnguide.types import ViT

COMPETITORS = ("runner-up", "absent")  # classes that are explained beside the label, in this order
REFERENCES = ("other", "runner-up")  # words for the second class of a two-class loss
KEY = ("image_id", "model", "view", "method", "target")
Maps = dict[str, Tensor]  # (B, T, rows, cols) by method


def explain_views(
    vit: ViT,
    views: Sequence[View],
    methods: Mapping[str, Method],
    *,
    loss: Loss = logit,
    reference: str | None = None,
    competitors: int = 0,
) -> tuple[Maps, Tensor, Tensor]:
    """Maps of every method, the explained classes (B, T), and the logits (B, C), on the CPU.

    Args:
        vit: The model.
        views: All with the same number of targets.
        methods: By label.
        loss: What is differentiated.
        reference: Second class of a two-class loss: "other", the view's other target; "runner-up",
            the most probable class but the target; or a class.
        competitors: How many of `COMPETITORS` are explained too: 1 adds the most probable other
            class, 2 also one that its id picks at random.
    """
    images = torch.stack([view.image for view in views])
    own = torch.tensor([view.targets for view in views])
    extra = _competitors(vit, images, views)[:, :competitors] if competitors else own[:, :0]
    targets = torch.cat([own, extra], 1)
    named: dict[str, Any] = {label: (method, {}) for label, method in methods.items()}
    if reference is None:
        many = explain_many(vit, images, targets, methods=named, loss=loss)
        maps = {label: explanation.relevance.cpu() for label, explanation in many.items()}
        return maps, targets, next(iter(many.values())).logits.cpu()
    columns = []
    for place in range(targets.shape[1]):
        second = _references(vit, images, own, targets[:, place], reference)
        columns.append(
            explain_many(vit, images, targets[:, place], methods=named, loss=loss, reference=second)
        )
    maps = {
        label: torch.stack([many[label].relevance.cpu() for many in columns], 1) for label in named
    }
    return maps, targets, next(iter(columns[0].values())).logits.cpu()


def localisation_rows(
    vit: ViT,
    views: Sequence[View],
    shown: Sequence[bool],
    methods: Mapping[str, Method],
    *,
    loss: Loss = logit,
    reference: str | None = None,
    competitors: int = 0,
) -> pd.DataFrame:
    """Rows of `results.parquet`: where the relevance of every map lies, and how like the first.

    `image_id` is the sample's: views of one picture share it and differ in `view`. `place` counts
    the targets of a view; `role` is "target", "runner-up" or "absent". Rows of views that are shown
    hold the raw map too.

    Args:
        shown: Of each view.
        vit, views, methods, loss, reference, competitors: As in `explain_views`.
    """
    maps, targets, logits = explain_views(
        vit, views, methods, loss=loss, reference=reference, competitors=competitors
    )
    probabilities = logits.double().softmax(-1)
    rows = []
    for index, view in enumerate(views):
        count = len(view.targets)
        for place, target in enumerate(targets[index].tolist()):
            where = regions(view.objects, place, view.own)
            for label, relevance in maps.items():
                own = relevance[index]
                rows.append(
                    {
                        "image_id": view.id.removesuffix(f"@{view.kind}"),
                        "view": view.kind,
                        "method": label,
                        "target": target,
                        "target_name": vit.class_names[target],
                        "place": place,
                        "role": "target" if place < count else COMPETITORS[place - count],
                        "prediction": int(logits[index].argmax()),
                        "probability": float(probabilities[index, target]),
                        "logit": float(logits[index, target]),
                        "correlation": correlation(own[0], own[place]) if place else np.nan,
                        "rank_correlation": spearman(own[0], own[place]) if place else np.nan,
                        "regions": view.regions,
                        "note": view.note,
                        **relevance_by_region(own[place], where),
                        **as_columns(own[place] if shown[index] else None),
                    }
                )
    return pd.DataFrame(rows)


def _competitors(vit: ViT, images: Tensor, views: Sequence[View]) -> Tensor:
    """(B, 2) the most probable class that is no target, and one at random of the others."""
    chosen = []
    for row, view in zip(_logits(vit, images), views, strict=True):
        row = row.clone()
        row[list(view.targets)] = -torch.inf
        second = int(row.argmax())
        others = [c for c in range(len(row)) if c not in (*view.targets, second)]
        digest = hashlib.sha256(view.id.encode()).digest()
        chosen.append([second, others[int.from_bytes(digest[:4], "big") % len(others)]])
    return torch.tensor(chosen)


def _references(vit: ViT, images: Tensor, own: Tensor, target: Tensor, reference: str) -> Tensor:
    """(B,) the second class of each image's loss."""
    if reference == "other":
        first, second = own[:, 0], own[:, -1]
        return torch.where(target == first, second, first)
    if reference == "runner-up":
        logits = _logits(vit, images).scatter(1, target.unsqueeze(1), -torch.inf)
        return logits.argmax(-1)
    return torch.full_like(target, vit.class_index(reference))


def _logits(vit: ViT, images: Tensor) -> Tensor:
    with torch.no_grad():
        return vit.module(images.to(vit.device, vit.dtype)).cpu()
