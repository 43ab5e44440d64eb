"""The maps of a batch as numbers: a row per view, target and method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attnguide.data.views import View, images_of
from attnguide.evaluation.localisation import correlation, regions, relevance_by_region
from attnguide.evaluation.metrics import spearman
from attnguide.evaluation.rows import answer, forward, maps_of, number_of, row_of
from attnguide.losses import Loss, logit
from attnguide.methods import Method
from attnguide.types import ViT

COMPETITORS = ("runner-up", "absent")  # classes that are explained beside the label, in this order
REFERENCES = ("other", "runner-up")  # words for the second class of a two-class loss
KEY = ("image_id", "model", "view", "method", "target")


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

    `place` counts the targets of a view; `role` is "target", "runner-up" or "absent".

    Args:
        vit: The model.
        views: All with the same number of targets.
        shown: Of each view: whether its rows hold the raw maps.
        methods: By label.
        loss: What is differentiated.
        reference: Second class of a two-class loss: "other", the view's other target; "runner-up",
            the most probable class but the target; or a class.
        competitors: How many of `COMPETITORS` are explained too: 1 adds the most probable other
            class, 2 also one that its id picks at random.
    """
    images = torch.stack([view.image for view in views])
    explained = images_of(views)
    own = torch.tensor([view.targets for view in views])
    extra = _competitors(vit, images, views)[:, :competitors] if competitors else own[:, :0]
    targets = torch.cat([own, extra], 1)
    if reference is None:
        maps, logits = maps_of(vit, explained, targets, methods, loss=loss)
    else:  # every column of targets has second classes of its own
        columns = []
        for target in targets.unbind(1):
            second = _references(vit, images, own, target, reference)
            columns.append(maps_of(vit, explained, target, methods, loss=loss, reference=second))
        maps = {label: torch.stack([one[label] for one, _ in columns], 1) for label in methods}
        logits = columns[0][1]
    rows = []
    for index, view in enumerate(views):
        count = len(view.targets)
        for place, target in enumerate(targets[index].tolist()):
            where = regions(view.objects, place, view.own)
            for label, relevance in maps.items():
                each = relevance[index]
                kept = each[place] if shown[index] else None
                rows.append(
                    row_of(vit, view, target, label, kept)
                    | {
                        "place": place,
                        "role": "target" if place < count else COMPETITORS[place - count],
                        **answer(vit, logits[index], target),
                        "correlation": correlation(each[0], each[place]) if place else np.nan,
                        "rank_correlation": spearman(each[0], each[place]) if place else np.nan,
                        "regions": view.regions,
                        "note": view.note,
                        **relevance_by_region(each[place], where),
                    }
                )
    return pd.DataFrame(rows)


def _competitors(vit: ViT, images: Tensor, views: Sequence[View]) -> Tensor:
    """(B, 2) the most probable class that is no target, and one at random of the others."""
    chosen = []
    for row, view in zip(forward(vit, images), views, strict=True):
        row[list(view.targets)] = -torch.inf
        second = int(row.argmax())
        others = [c for c in range(len(row)) if c not in (*view.targets, second)]
        chosen.append([second, others[number_of(view.id, len(others))]])
    return torch.tensor(chosen)


def _references(vit: ViT, images: Tensor, own: Tensor, target: Tensor, reference: str) -> Tensor:
    """(B,) the second class of each image's loss."""
    if reference == "other":
        first, second = own[:, 0], own[:, -1]
        return torch.where(target == first, second, first)
    if reference == "runner-up":
        return forward(vit, images).scatter(1, target.unsqueeze(1), -torch.inf).argmax(-1)
    return torch.full_like(target, vit.class_index(reference))
