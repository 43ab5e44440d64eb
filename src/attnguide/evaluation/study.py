"""The perturbation study of one batch: explain, fill, a row per image, method, order, fraction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from attnguide.api import Target, explain_many
from attnguide.evaluation.perturbation import FRACTIONS, perturb_many
from attnguide.types import PerturbationCurve, ViT

RANDOM = "random"


def perturbation_rows(
    vit: ViT,
    images: Tensor,
    names: Sequence[str],
    label: Tensor,
    *,
    methods: Mapping[str, Mapping[str, Any]],
    target: Target = "label",
    loss: str = "logit",
    reference: Target | None = None,
    fractions: Sequence[float] = FRACTIONS,
    fill: str | float = "zero",
    seed: int = 0,
) -> pd.DataFrame:
    """Rows of `results.parquet` for one batch, a random order of patches included.

    Args:
        vit: The model.
        images: (B, 3, H, W), normalised.
        names: B image ids; with the seed they fix the random order.
        label: (B,) class that is followed.
        methods: Settings of each method by name.
        target: Class that is explained; "label" for the label.
        loss, reference: As in `explain`.
        fractions, fill: As in `perturb`.
        seed: Of the random order.
    """
    label = label.to(vit.device)
    aim = label if isinstance(target, str) and target == "label" else target
    many = explain_many(vit, images, aim, methods=methods, loss=loss, reference=reference)
    maps = {name: explanation.relevance for name, explanation in many.items()}
    maps[RANDOM] = torch.stack([random_map(name, seed, vit.grid) for name in names])
    aimed = next(iter(many.values())).target
    found = perturb_many(vit, images, maps, label, fractions=fractions, fill=fill)
    return pd.concat(
        [
            _rows(names, label, aimed, curve).assign(
                method=method, loss=loss, order=order, fill=str(fill)
            )
            for (method, order), curve in found.items()
        ],
        ignore_index=True,
    )


def random_map(name: str, seed: int, grid: tuple[int, int]) -> Tensor:
    """(rows, cols) uniform numbers that depend on the image's name and the seed alone."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.rand(grid, generator=generator)


def _rows(
    names: Sequence[str], label: Tensor, target: Tensor, curve: PerturbationCurve
) -> pd.DataFrame:
    steps = len(curve.fraction)
    return pd.DataFrame(
        {
            "image_id": [name for name in names for _ in range(steps)],
            "label": label.cpu().repeat_interleave(steps).numpy(),
            "target": target.cpu().repeat_interleave(steps).numpy(),
            "prediction": curve.prediction.flatten().cpu().numpy(),
            "fraction": curve.fraction.repeat(len(names)).numpy(),
            "correct": curve.correct.flatten().cpu().numpy(),
            "probability": curve.probability.flatten().double().cpu().numpy(),
            "logit": curve.logit.flatten().double().cpu().numpy(),
        }
    )
