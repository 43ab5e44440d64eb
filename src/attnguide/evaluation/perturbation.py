"""Positive and negative perturbation: fill patches by relevance, watch what the model still knows.

The seven choices, fixed here and stated in every record:

1. Unit: patches. Each step starts again from the clean image.
2. Count: round(fraction x patches), rounded half up.
3. Order: "positive" fills the most relevant patch first, "negative" the least relevant first.
   Ties are broken by position: the patch with the lower index (row-major) goes first in both.
4. Fill: 0 in the model's normalised space by default; see `masking.filled`.
5. The map is not computed again after filling.
6. Followed: the label's probability and logit, and whether top-1 equals the label.
7. Area: trapezoid over the fractions, divided by their range, in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from attnguide.errors import InputError, unknown_name
from attnguide.evaluation.masking import MaskedForward, filled
from attnguide.types import PerturbationCurve, ViT

ORDERS = ("positive", "negative")
FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def perturb(
    vit: ViT | Callable[[Tensor], Tensor],
    images: Tensor,
    relevance: Tensor,
    label: int | Sequence[int] | Tensor,
    *,
    order: str = "positive",
    fractions: Sequence[float] = FRACTIONS,
    fill: str | float = "zero",
    chunk: int | None = None,
) -> PerturbationCurve:
    """One order of one relevance map per image; see `perturb_many` for several at once.

    Args:
        vit: A ViT, or any callable from images to logits (B, C).
        images: (B, 3, H, W), normalised.
        relevance: (B, rows, cols); its grid is the grid of patches.
        label: Class that is followed: one, or one per image.
        order: "positive" or "negative".
        fractions: Increasing shares of patches in [0, 1].
        fill: "zero", "black", "mean", "blur", or a number in normalised space.
        chunk: Masked images per forward pass; by default 8 on a CPU and 128 on a GPU.

    Raises:
        ValueError: unknown order or fill, fractions that do not increase or leave [0, 1], shapes
            that do not fit, a relevance that is not finite.
    """
    curves = perturb_many(
        vit,
        images,
        {"": relevance},
        label,
        orders=(order,),
        fractions=fractions,
        fill=fill,
        chunk=chunk,
    )
    return curves["", order]


def perturb_many(
    vit: ViT | Callable[[Tensor], Tensor],
    images: Tensor,
    relevances: Mapping[str, Tensor],
    label: int | Sequence[int] | Tensor,
    *,
    orders: Sequence[str] = ORDERS,
    fractions: Sequence[float] = FRACTIONS,
    fill: str | float = "zero",
    chunk: int | None = None,
) -> dict[tuple[str, str], PerturbationCurve]:
    """Curves of several relevance maps in several orders, as one stream of masked images.

    Every distinct mask of an image is evaluated once: the clean image serves all curves.

    Args:
        relevances: Name of the map to (B, rows, cols).
        orders: Of "positive", "negative".
        vit, images, label, fractions, fill, chunk: As in `perturb`.

    Returns:
        One curve per (name, order).
    """
    batch = len(images)
    grid = _check(images, relevances, orders, fractions)
    if isinstance(vit, ViT):
        images = images.to(device=vit.device, dtype=vit.dtype)
    labels = torch.as_tensor(label).to(images.device).long().expand(batch)
    counts = [int(fraction * grid[0] * grid[1] + 0.5) for fraction in fractions]

    keep: list[Tensor] = []
    slots: dict[tuple[str, str], int] = {}
    for name, relevance in relevances.items():
        for order in orders:
            ranks = rank_patches(relevance.to(images.device).flatten(1), order).argsort(-1)
            slots[name, order] = len(keep)
            keep += [ranks >= count for count in counts]
    masks = torch.stack(keep, 1)  # (B, M, P)

    owner, unique, inverse = _distinct(masks)
    preprocess = getattr(vit, "preprocess", None)
    fill_images = filled(images, fill, _black(preprocess), images.shape[-2] // grid[0])
    step = chunk or (8 if images.device.type == "cpu" else 128)
    with torch.inference_mode():
        forward = MaskedForward(vit, images, fill_images, grid)
        logits = torch.cat(
            [
                forward(owner[start : start + step], unique[start : start + step])
                for start in range(0, len(owner), step)
            ]
        )
    logits = logits.clone()[inverse].view(batch, masks.shape[1], -1)
    return {
        key: _curve(logits[:, slot : slot + len(counts)], labels, fractions, key[1])
        for key, slot in slots.items()
    }


def rank_patches(relevance: Tensor, order: str) -> Tensor:
    """(..., P) indices of the patches, the first to be filled first; ties by position.

    Raises:
        ValueError: unknown order.
    """
    if order not in ORDERS:
        raise unknown_name("order", order, list(ORDERS))
    return relevance.argsort(dim=-1, descending=order == "positive", stable=True)


def _distinct(masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Owner (U,), mask (U, P) of every distinct mask of every image, and (B * M,) where it went."""
    batch, count, patches = masks.shape
    owner = torch.arange(batch, device=masks.device).repeat_interleave(count)
    seen: dict[tuple[int, bytes], int] = {}
    first: list[int] = []
    inverse: list[int] = []
    rows = masks.reshape(-1, patches)
    for index, (image, row) in enumerate(zip(owner.tolist(), rows.cpu().numpy(), strict=True)):
        key = (image, row.tobytes())
        if key not in seen:
            seen[key] = len(first)
            first.append(index)
        inverse.append(seen[key])
    return owner[first], rows[first], torch.tensor(inverse, device=masks.device)


def _curve(
    logits: Tensor, labels: Tensor, fractions: Sequence[float], order: str
) -> PerturbationCurve:
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


def _black(preprocess: object) -> Tensor | None:
    mean, std = getattr(preprocess, "mean", None), getattr(preprocess, "std", None)
    return None if mean is None or std is None else -torch.tensor(mean) / torch.tensor(std)


def _check(
    images: Tensor,
    relevances: Mapping[str, Tensor],
    orders: Sequence[str],
    fractions: Sequence[float],
) -> tuple[int, int]:
    """The grid of patches, after everything was found to fit."""
    for order in orders:
        if order not in ORDERS:
            raise unknown_name("order", order, list(ORDERS))
    steps = list(fractions)
    if not steps or steps != sorted(set(steps)) or steps[0] < 0 or steps[-1] > 1:
        raise InputError(f"fractions must increase within [0, 1], got {steps}")
    shapes = {tuple(relevance.shape) for relevance in relevances.values()}
    if len(shapes) != 1:
        raise InputError(f"expected relevance maps of one shape, got {sorted(shapes)}")
    shape = next(iter(shapes))
    height, width = images.shape[-2:]
    if len(shape) != 3 or shape[0] != len(images) or height % shape[1] or width % shape[2]:
        raise InputError(
            f"relevance must be (B, rows, cols) with whole patches of the {tuple(images.shape)} "
            f"images, got {shape}"
        )
    for name, relevance in relevances.items():
        if not bool(torch.isfinite(relevance).all()):
            raise InputError(f"relevance {name!r} contains NaN or infinite values")
    return shape[1], shape[2]
