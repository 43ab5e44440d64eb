"""Positive and negative perturbation: mask patches by relevance, watch what the model still knows.

The seven choices, fixed here and stated in every record:

1. Unit: patches. Each step starts again from the clean image.
2. Count: round(fraction x patches), rounded half up.
3. Order: "positive" fills the most relevant patch first, "negative" the least relevant first.
   Ties are broken by position: the patch with the lower index (row-major) goes first in both.
4. Fill: 0 in the model's normalised space by default; see `fills`.
5. The map is not computed again after filling.
6. Followed: the label's probability and logit, and whether top-1 equals the label.
7. Area: trapezoid over the fractions, divided by their range, in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attnguide.errors import unknown_name
from attnguide.evaluation.curve import PerturbationCurve
from attnguide.evaluation.engines import Engine, MaskedModel, ready
from attnguide.evaluation.fills import check_fill, filled, normalisation, seeds_of
from attnguide.evaluation.masking import Dropped, Imputed, Replaced, check_drop
from attnguide.evaluation.perturbation_inputs import (
    ORDERS,
    Label,
    Model,
    Relevance,
    check,
    check_finite,
    take,
)
from attnguide.types import ViT

FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
Column = tuple[int, int]  # number of a ranking, number of its patches that are masked


def perturb(
    vit: Model,
    images: Tensor,
    relevance: Relevance,
    label: Label,
    *,
    order: str = "positive",
    fractions: Sequence[float] = FRACTIONS,
    fill: str | float = "zero",
    engine: Engine | MaskedModel | None = None,
) -> PerturbationCurve:
    """One order of one relevance map per image; see `perturb_many` for several at once.

    Args:
        vit: A ViT, or any callable from images to logits (B, C). A module in training mode runs
            in evaluation mode inside.
        images: (B, 3, H, W), normalised.
        relevance: (B, rows, cols), or the `Explanation` that holds it; its grid is the grid of
            patches, for a ViT the model's own.
        label: Class that is followed, by index or (of a ViT) by name: one, or one per image.
        order: "positive" or "negative".
        fractions: Increasing shares of patches in [0, 1].
        fill: "zero", "black", "mean", "blur", "linear", "drop", or a number in normalised space.
        engine: What the masked images are computed on; see `engines.Engine`. One that is not
            torch's default is better prepared once (`engines.prepare`) than in every call.

    Raises:
        ValueError: unknown order, fill or class, fractions that do not increase or leave [0, 1],
            shapes that do not fit, images or a relevance that are not finite.
        TypeError: images or a relevance that are not a Tensor.
    """
    curves = perturb_many(
        vit,
        images,
        {"": relevance},
        label,
        orders=(order,),
        fractions=fractions,
        fill=fill,
        engine=engine,
    )
    return curves["", order]


def perturb_many(
    vit: Model,
    images: Tensor,
    relevances: Mapping[str, Relevance],
    label: Label,
    *,
    orders: Sequence[str] = ORDERS,
    fractions: Sequence[float] = FRACTIONS,
    fill: str | float = "zero",
    engine: Engine | MaskedModel | None = None,
    seeds: Sequence[int] | None = None,
) -> dict[tuple[str, str], PerturbationCurve]:
    """Curves of several relevance maps in several orders, as one stream of masked images.

    The masks of one ranking are nested, so they are distinct wherever their counts are. What every
    ranking has in common, the clean image and the wholly masked one, is evaluated once.

    Args:
        relevances: Name of the map to (B, rows, cols) or `Explanation`.
        orders: Of "positive", "negative".
        seeds: One per image, of the noise of fill="linear"; by default made from its pixels.
        vit, images, label, fractions, fill, engine: As in `perturb`.

    Returns:
        One curve per (name, order).
    """
    curves, finite = unchecked_curves(
        vit,
        images,
        relevances,
        label,
        orders=orders,
        fractions=fractions,
        fill=fill,
        engine=engine,
        seeds=seeds,
    )
    check_finite(list(relevances), finite.tolist())
    return curves


def unchecked_curves(
    vit: Model,
    images: Tensor,
    relevances: Mapping[str, Relevance],
    label: Label,
    *,
    orders: Sequence[str] = ORDERS,
    fractions: Sequence[float] = FRACTIONS,
    fill: str | float = "zero",
    engine: Engine | MaskedModel | None = None,
    seeds: Sequence[int] | None = None,
) -> tuple[dict[tuple[str, str], PerturbationCurve], Tensor]:
    """As `perturb_many`, and what `check_finite` takes: nothing here waits for the device."""
    images, maps, labels = take(vit, images, relevances, label)
    grid = check(vit, images, maps, orders, fractions)
    check_fill(fill)
    counts = [int(fraction * grid[0] * grid[1] + 0.5) for fraction in fractions]
    if fill == "drop":
        check_drop(vit, max(counts))
    model = ready(vit, engine, images.device.type)

    rankings: list[Tensor] = []
    numbers: dict[tuple[int, str], int] = {}
    for relevance in maps.values():
        for order in orders:
            if (id(relevance), order) not in numbers:
                numbers[id(relevance), order] = len(rankings)
                rankings.append(rank_patches(relevance.flatten(1), order))
    columns = [
        (0 if count in (0, grid[0] * grid[1]) else number, count)
        for number in range(len(rankings))
        for count in counts
    ]
    with model.running():
        logits = _logits(model, images, rankings, list(dict.fromkeys(columns)), grid, fill, seeds)
    curves = {}
    for name, relevance in maps.items():
        for order in orders:
            start = numbers[id(relevance), order] * len(counts)
            own = torch.stack([logits[key] for key in columns[start : start + len(counts)]], 1)
            curves[name, order] = _curve(own, labels, fractions, order)
    followed = torch.stack([curve.logit for curve in curves.values()])
    finite = [torch.isfinite(tensor).all() for tensor in (images, *maps.values(), followed)]
    return curves, torch.stack(finite)


def rank_patches(relevance: Tensor, order: str) -> Tensor:
    """(..., P) indices of the patches, the first to be filled first; ties by position.

    Raises:
        ValueError: unknown order.
    """
    if order not in ORDERS:
        raise unknown_name("order", order, list(ORDERS))
    return relevance.argsort(dim=-1, descending=order == "positive", stable=True)


def _logits(
    model: MaskedModel,
    images: Tensor,
    rankings: Sequence[Tensor],
    columns: Sequence[Column],
    grid: tuple[int, int],
    fill: str | float,
    seeds: Sequence[int] | None,
) -> dict[Column, Tensor]:
    """(B, C) logits for every column."""
    weights = model.vit.dtype if isinstance(model.vit, ViT) else images.dtype
    entered = images.to(weights)
    preprocess = getattr(model.vit, "preprocess", None)
    if fill == "drop":
        dropped = Dropped(model.vit, model.network, entered)  # type: ignore[arg-type]
        logits: dict[Column, Tensor] = {}
        for count in dict.fromkeys(count for _, count in columns):
            alike = [column for column in columns if column[1] == count]
            kept = [rankings[number][:, count:].sort(-1).values for number, _ in alike]
            logits |= _stream(model, dropped, alike, kept)
        return logits
    if fill == "linear":
        std = normalisation(preprocess, fill)[1]
        own = list(seeds) if seeds is not None else seeds_of(images)
        masked: Any = Imputed(model.network, images, grid, own, std, weights)
    else:
        other = filled(images, fill, preprocess, images.shape[-2] // grid[0]).to(weights)
        masked = Replaced(model.network, entered, other, grid)
    ranks = [ranking.argsort(-1) for ranking in rankings]
    return _stream(model, masked, columns, [ranks[number] >= count for number, count in columns])


def _stream(
    model: MaskedModel, masked: Any, columns: Sequence[Column], masks: Sequence[Tensor]
) -> dict[Column, Tensor]:
    """(B, C) logits for every column: all its masks (B, ...) of all images, image by image."""
    stacked = torch.stack(list(masks), 1)
    batch, count = stacked.shape[:2]
    image = torch.arange(batch, device=stacked.device).repeat_interleave(count)
    logits = model.logits(masked, image, stacked.flatten(0, 1)).view(batch, count, -1)
    return dict(zip(columns, logits.unbind(1), strict=True))


def _curve(
    logits: Tensor, labels: Tensor, fractions: Sequence[float], order: str
) -> PerturbationCurve:
    logits = logits.clone()  # not an inference tensor, which cannot be differentiated with
    index = labels.view(-1, 1, 1).expand(-1, logits.shape[1], 1)
    prediction = logits.argmax(-1)
    return PerturbationCurve(
        fraction=torch.tensor(fractions, dtype=torch.float64),
        correct=prediction == labels.unsqueeze(1),
        probability=logits.softmax(-1).gather(-1, index).squeeze(-1),
        logit=logits.gather(-1, index).squeeze(-1),
        prediction=prediction,
        order=order,
    )
