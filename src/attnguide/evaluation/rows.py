"""What every table of maps is made of: maps of several methods, and the row of one map."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from attnguide.api import Target, explain_many
from attnguide.data.views import View
from attnguide.losses import Loss
from attnguide.methods import Method
from attnguide.store.maps import as_columns
from attnguide.types import ViT

Maps = dict[str, Tensor]  # by method: (B, rows, cols), or (B, T, rows, cols) of several targets


def maps_of(
    vit: ViT,
    images: Tensor,
    targets: Tensor,
    methods: Mapping[str, Method],
    *,
    loss: str | Loss = "logit",
    reference: Target = None,
) -> tuple[Maps, Tensor]:
    """The maps of every method by its label, and the logits (B, C), on the CPU.

    The warning of Eq. 8 about negative logits is left out: whoever asks for tables counts them.

    Args:
        vit: The model.
        images: (B, 3, H, W), normalised; of several guides (B, G, 3, H, W).
        targets: (B,) or (B, T) classes.
        methods: By label, settings bound.
        loss, reference: As in `explain`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "relative_contrast needs both logits positive")
        many = explain_many(vit, images, targets, methods=methods, loss=loss, reference=reference)
    maps = {label: found.relevance.cpu() for label, found in many.items()}
    return maps, next(iter(many.values())).logits.cpu()


def row_of(
    vit: ViT,
    view: View,
    target: int,
    method: str = "complete",
    relevance: Tensor | None = None,
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
