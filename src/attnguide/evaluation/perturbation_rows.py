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
from attnguide.evaluation.curve import PerturbationCurve
from attnguide.evaluation.engines import Engine, MaskedModel, ready
from attnguide.evaluation.fills import seed_of_name
from attnguide.evaluation.perturbation import FRACTIONS, unchecked_curves
from attnguide.evaluation.perturbation_inputs import check_finite
from attnguide.losses import Loss, loss_name
from attnguide.types import ViT

RANDOM = "random"


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
    model = ready(vit, engine)
    seeds = [seed_of_name(name, seed) for name in names]
    curves: dict[tuple[str, str, str], PerturbationCurve] = {}
    flags = []
    for fill in fills:
        found, finite = unchecked_curves(
            vit, images, maps, label, fractions=fractions, fill=fill, engine=model, seeds=seeds
        )
        curves |= {(str(fill), *key): curve for key, curve in found.items()}
        flags.append(finite)
    classes = torch.stack([label, next(iter(many.values())).target.to(label.device)])
    numbers, fetched, finite_flags = _fetch(curves, classes, torch.stack(flags).all(0))
    check_finite(list(maps), finite_flags)
    return _table(names, fetched, list(curves), numbers, fractions, loss_name(loss))


def random_map(name: str, seed: int, grid: tuple[int, int]) -> Tensor:
    """(rows, cols) uniform numbers that depend on the image's name and the seed alone."""
    return torch.rand(grid, generator=torch.Generator().manual_seed(seed_of_name(name, seed)))


def _fetch(
    curves: Mapping[Any, PerturbationCurve], classes: Tensor, finite: Tensor
) -> tuple[Any, Any, list[bool]]:
    """Numbers (4, curves, B, S), classes and flags as arrays, in one transfer.

    Float64 holds every class index and float32 exactly.
    """
    kinds = ("prediction", "correct", "probability", "logit")
    numbers = torch.stack(
        [
            torch.stack([getattr(curve, kind).double() for curve in curves.values()])
            for kind in kinds
        ]
    )
    parts = (numbers, classes, finite)
    flat = torch.cat([part.double().flatten() for part in parts]).cpu().numpy()
    ends = np.cumsum([part.numel() for part in parts])[:-1]
    fetched = [
        values.reshape(tuple(part.shape))
        for values, part in zip(np.split(flat, ends), parts, strict=True)
    ]
    return fetched[0], fetched[1].astype(np.int64), [bool(flag) for flag in fetched[2]]


def _table(
    names: Sequence[str],
    classes: Any,
    keys: Sequence[tuple[str, str, str]],
    numbers: Any,
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
    prediction, correct, probability, logit = (kind.reshape(-1) for kind in numbers)
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
