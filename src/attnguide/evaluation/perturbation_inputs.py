"""What `perturb` takes: images, relevance, classes, orders and fractions, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from attnguide.errors import InputError, InputTypeError, unknown_name
from attnguide.inputs import Target, class_targets
from attnguide.types import Explanation, ViT

ORDERS = ("positive", "negative")
Model = ViT | Callable[[Tensor], Tensor]
Relevance = Tensor | Explanation
Label = Target


def take(
    vit: Model, images: Tensor, relevances: Mapping[str, Relevance], label: Label
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Images (B, 3, H, W), maps and labels (B,), on one device."""
    if not isinstance(images, Tensor):
        raise InputTypeError(
            f"images must be a Tensor (B, 3, H, W), got {type(images).__name__}; make one with "
            "vit.preprocess(pil_images)"
        )
    images = images.unsqueeze(0) if images.ndim == 3 else images
    if images.ndim != 4 or len(images) == 0:
        raise InputError(f"images must be (B, 3, H, W), at least one, got {tuple(images.shape)}")
    if isinstance(vit, ViT):
        if tuple(images.shape[-2:]) != tuple(vit.image_size):
            raise InputError(
                f"images for {vit.name} must be (B, 3, {vit.image_size[0]}, {vit.image_size[1]}), "
                f"got {tuple(images.shape)}; make them with vit.preprocess(pil_images)"
            )
        images = images.to(vit.device, vit.dtype, non_blocking=True)
    moved: dict[int, Tensor] = {}  # a map under two names is ranked once
    for name, given in relevances.items():
        tensor = given.relevance if isinstance(given, Explanation) else given
        if not isinstance(tensor, Tensor):
            raise InputTypeError(
                f"relevance {name!r} must be a Tensor (B, rows, cols) or an Explanation, got "
                f"{type(tensor).__name__}"
            )
        moved.setdefault(id(given), tensor.detach().to(images.device, non_blocking=True))
    maps = {name: moved[id(given)] for name, given in relevances.items()}
    return images, maps, _labels(vit, label, len(images)).to(images.device, non_blocking=True)


def _labels(vit: Model, label: Label, batch: int) -> Tensor:
    """(B,) int64."""
    if isinstance(label, Tensor) and not label.is_floating_point():
        given: Tensor | None = label.long()  # where it is: looking at its values would wait
    elif isinstance(vit, ViT):
        given = class_targets(vit, label, batch)
    else:
        try:
            given = torch.as_tensor(label).long()
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"label must be class indices: only a ViT knows names, got {label!r}"
            ) from error
    if given is None or given.ndim > 1 or (given.ndim == 1 and len(given) != batch):
        got = label if given is None else tuple(given.shape)
        raise InputError(f"label must be one class or one per image ({batch},), got {got}")
    return given.expand(batch)


def check(
    vit: Model,
    images: Tensor,
    relevances: Mapping[str, Tensor],
    orders: Sequence[str],
    fractions: Sequence[float],
) -> tuple[int, int]:
    """The grid of patches, after everything was found to fit."""
    for order in orders:
        if order not in ORDERS:
            raise unknown_name("order", order, list(ORDERS))
    check_fractions(fractions)
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
    if isinstance(vit, ViT) and shape[1:] != tuple(vit.grid):
        raise InputError(
            f"the patches of {vit.name} are {vit.grid[0]} x {vit.grid[1]}, the relevance is "
            f"{shape[1]} x {shape[2]}; pass (B, {vit.grid[0]}, {vit.grid[1]})"
        )
    return shape[1], shape[2]


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse fractions that do not increase or leave [0, 1].

    Raises:
        ValueError: what came.
    """
    steps = list(fractions)
    if not steps or steps != sorted(set(steps)) or not (steps[0] >= 0 and steps[-1] <= 1):
        raise InputError(f"fractions must increase within [0, 1], got {steps}")


def check_finite(names: Sequence[str], finite: Sequence[bool]) -> None:
    """Refuse curves of images, relevance or logits that were not finite.

    Args:
        names: Of the relevance maps.
        finite: As `unchecked_curves` gave it.

    Raises:
        ValueError: the first that was not.
    """
    if all(finite):
        return
    if not finite[0]:
        raise InputError("images contain NaN or infinite values; check the preprocessing")
    for name, is_finite in zip(names, finite[1:-1], strict=True):
        if not is_finite:
            raise InputError(
                f"relevance {name!r} contains NaN or infinite values, which have no order; compute "
                "it in float64"
            )
    raise InputError(
        "the model gave NaN or infinite logits for masked images; use precision='fp32' or float64"
    )
