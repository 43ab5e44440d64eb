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
from attnguide.evaluation.localisation import (
    correlation,
    map_correlation,
    masses,
    regions,
    summarise,
)
from attnguide.types import ViT

RIVALS = ("runner-up", "absent")  # classes that are explained beside the label, in this order
LIKE = {"runner-up": "like the runner-up's map", "absent": "like a random other class's map"}
Maps = dict[str, Tensor]  # (B, T, rows, cols) by method


def explain_views(
    vit: ViT,
    views: Sequence[View],
    methods: Mapping[str, Mapping[str, Any]],
    *,
    loss: str = "logit",
    rivals: int = 0,
) -> tuple[Maps, Tensor, Tensor]:
    """Maps of every method, the explained classes (B, T), and the logits (B, C), on the CPU.

    Args:
        vit: The model.
        views: All with the same number of targets.
        methods: Settings of each by name.
        loss: As in `explain`; one that needs no reference class.
        rivals: How many of `RIVALS` are explained too: 1 adds the most probable other class, 2
            also one that its id picks at random.
    """
    images = torch.stack([view.image for view in views])
    own = torch.tensor([view.targets for view in views])
    targets = torch.cat([own, _rivals(vit, images, views)[:, :rivals]], 1) if rivals else own
    many = explain_many(vit, images, targets, methods=methods, loss=loss)
    maps = {name: explanation.relevance.cpu() for name, explanation in many.items()}
    return maps, targets, next(iter(many.values())).logits.cpu()


def map_rows(
    vit: ViT,
    views: Sequence[View],
    methods: Mapping[str, Mapping[str, Any]],
    *,
    loss: str = "logit",
    rivals: int = 0,
) -> pd.DataFrame:
    """Rows of `results.parquet`: where the mass of every map lies, and how like the first it is.

    `image_id` is the case's: views of one picture share it and differ in `view`. `role` is
    "target", "runner-up" or "absent". Arguments as in `explain_views`.
    """
    maps, targets, logits = explain_views(vit, views, methods, loss=loss, rivals=rivals)
    probabilities = logits.double().softmax(-1)
    rows = []
    for index, view in enumerate(views):
        for place, target in enumerate(targets[index].tolist()):
            where = regions(view.objects, place, view.own)
            count = len(view.targets)
            for method, relevance in maps.items():
                own = relevance[index]
                rows.append(
                    {
                        "image_id": view.id.removesuffix(f"@{view.kind}"),
                        "view": view.kind,
                        "method": method,
                        "target": target,
                        "role": "target" if place < count else RIVALS[place - count],
                        "prediction": int(logits[index].argmax()),
                        "probability": float(probabilities[index, target]),
                        "logit": float(logits[index, target]),
                        "correlation": correlation(own[0], own[place]) if place else np.nan,
                        "regions": view.regions,
                        **masses(own[place], where),
                    }
                )
    return pd.DataFrame(rows)


def summarise_likeness(rows: pd.DataFrame, by: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """How alike the label's map is to those of `RIVALS`: lines of `summarise`, named by `LIKE`."""
    tables = [
        summarise(rows[rows["role"] == role], by, {LIKE[role]: map_correlation}, seed)
        for role in RIVALS
    ]
    return pd.concat(tables, ignore_index=True)


def _rivals(vit: ViT, images: Tensor, views: Sequence[View]) -> Tensor:
    """(B, 2) the most probable class that is no target, and one at random of the others."""
    with torch.no_grad():
        logits = vit.module(images.to(vit.device, vit.dtype)).cpu()
    chosen = []
    for row, view in zip(logits, views, strict=True):
        row = row.clone()
        row[list(view.targets)] = -torch.inf
        second = int(row.argmax())
        others = [c for c in range(len(row)) if c not in (*view.targets, second)]
        digest = hashlib.sha256(view.id.encode()).digest()
        chosen.append([second, others[int.from_bytes(digest[:4], "big") % len(others)]])
    return torch.tensor(chosen)
