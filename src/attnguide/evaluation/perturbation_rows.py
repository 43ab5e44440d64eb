"""The perturbation study of one batch: explain, mask, a row per image, method, order, fraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attnguide.api import Target, explain_many
from attnguide.errors import InputError
from attnguide.evaluation.engines import Engine, MaskedModel, prepare
from attnguide.evaluation.fills import seed_of_name
from attnguide.evaluation.perturbation import (
    FRACTIONS,
    PerturbationCurve,
    perturb_many,
    require_finite,
)
from attnguide.losses import Loss, loss_name
from attnguide.types import ViT

RANDOM = "random"
KINDS = ("prediction", "correct", "probability", "logit")


def perturbation_rows(
    vit: ViT,
    images: Tensor,
    names: Sequence[str],
    label: Tensor,
    *,
    methods: Mapping[str, Any],
    target: Target = "label",
    loss: str | Loss = "logit",
    reference: Target | None = None,
    fractions: Sequence[float] = FRACTIONS,
    fills: Sequence[str | float] = ("zero",),
    seed: int = 0,
    engine: Engine | MaskedModel | None = None,
) -> pd.DataFrame:
    """Rows of `results.parquet` for one batch, a random order of patches included.

    The device is waited for once, when all numbers leave it together.

    Args:
        vit: The model.
        images: (B, 3, H, W), normalised.
        names: B image ids; with the seed they fix the random order and the noise of a fill.
        label: (B,) class that is followed.
        methods: As `explain_many` takes them.
        target: Class that is explained; "label" for the label.
        loss, reference: As in `explain`.
        fractions, engine: As in `perturb`.
        fills: Several share the explanations.
        seed: Of the random order and of the noise of fill="linear".

    Raises:
        ValueError: as `explain` and `perturb`; the same fill twice.
    """
    if not fills or len({str(fill) for fill in fills}) != len(fills):
        raise InputError(f"fills must be different ones, at least one, got {list(fills)}")
    label = label.to(vit.device, non_blocking=True)
    explained = label if isinstance(target, str) and target == "label" else target
    many = explain_many(vit, images, explained, methods=methods, loss=loss, reference=reference)
    maps = {name: explanation.relevance for name, explanation in many.items()}
    maps[RANDOM] = torch.stack([random_map(name, seed, vit.grid) for name in names])
    model = prepare(vit, engine)
    seeds = [seed_of_name(name, seed) for name in names]
    curves: dict[tuple[str, str, str], PerturbationCurve] = {}
    for fill in fills:
        found = perturb_many(
            vit,
            images,
            maps,
            label,
            fractions=fractions,
            fill=fill,
            engine=model,
            seeds=seeds,
            check_finite=False,
        )
        curves |= {(str(fill), *key): curve for key, curve in found.items()}
    classes = torch.stack([label, next(iter(many.values())).target.to(label.device)])
    numbers, fetched = _fetch(curves, classes)
    require_finite(numbers[KINDS.index("logit")])
    return _table(names, fetched, list(curves), numbers, fractions, loss_name(loss))


def random_map(name: str, seed: int, grid: tuple[int, int]) -> Tensor:
    """(rows, cols) uniform numbers that depend on the image's name and the seed alone."""
    return torch.rand(grid, generator=torch.Generator().manual_seed(seed_of_name(name, seed)))


def _fetch(curves: Mapping[Any, PerturbationCurve], classes: Tensor) -> tuple[Tensor, Any]:
    """Numbers (4, curves, B, S) and classes (2, B) on the CPU, in one transfer.

    Float64 holds every class index and float32 exactly.
    """
    numbers = torch.stack(
        [
            torch.stack([getattr(curve, kind).double() for curve in curves.values()])
            for kind in KINDS
        ]
    )
    flat = torch.cat([numbers.flatten(), classes.double().flatten()]).cpu()
    fetched = flat[: numbers.numel()].view(numbers.shape)
    return fetched, flat[numbers.numel() :].view(classes.shape).long().numpy()


def _table(
    names: Sequence[str],
    classes: Any,
    keys: Sequence[tuple[str, str, str]],
    numbers: Tensor,
    fractions: Sequence[float],
    loss: str,
) -> pd.DataFrame:
    """A row per curve, image and fraction."""
    steps = len(fractions)
    images, curves = len(names), len(keys)
    image = np.tile(np.repeat(np.arange(images), steps), curves)
    curve = np.repeat(np.arange(curves), steps * images)
    fill, method, order = (
        np.array(column, dtype=object)[curve] for column in zip(*keys, strict=True)
    )
    prediction, correct, probability, logit = (kind.flatten().numpy() for kind in numbers)
    return pd.DataFrame(
        {
            "image_id": np.array(names, dtype=object)[image],
            "label": classes[0][image],
            "target": classes[1][image],
            "prediction": prediction.astype(np.int64),
            "fraction": np.tile(np.array(fractions, dtype=np.float64), images * curves),
            "correct": correct.astype(bool),
            "probability": probability,
            "logit": logit,
            "method": method,
            "loss": loss,
            "order": order,
            "fill": fill,
        }
    )
