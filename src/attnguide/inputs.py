"""What people pass to `explain`: images and classes, in every form whose meaning is clear."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attnguide.errors import InputError, InputTypeError
from attnguide.types import Explanation, ViT

Target = int | str | Sequence[int] | Sequence[str] | Tensor | npt.NDArray[Any] | Explanation | None


def no_vit(given: object) -> str:
    """Where something goes that was given for a `ViT`."""
    return (
        f"expected a ViT, got {type(given).__name__}; pass wrap_model(network), or "
        "load_model(NAME or FOLDER)"
    )


def check_images(
    model: ViT | Callable[[Tensor], Tensor], images: Tensor, *, finite: bool = True
) -> Tensor:
    """(B, 3, H, W) of the model's size, device and precision; a copy.

    Args:
        model: A ViT; of any other callable, size, device and precision are not known.
        images: (B, 3, H, W), or one image (3, H, W), normalised.
        finite: Whether to look for values that are not finite, which waits for the device.

    Raises:
        ValueError: another shape, no image, values that are not finite.
        TypeError: no Tensor, or whole numbers, which are pixels that nobody has normalised.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputTypeError(
            "images must be a Tensor (B, 3, H, W) of normalised floating point numbers, got "
            f"{got}; make one with vit.preprocess(pil_images)"
        )
    if images.ndim == 3:
        images = images.unsqueeze(0)
    size = (3, *model.image_size) if isinstance(model, ViT) else images.shape[1:]
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(size):
        wanted = f"3, {size[1]}, {size[2]}" if isinstance(model, ViT) else "3, H, W"
        raise InputError(
            f"images must be (B, {wanted}), got {tuple(images.shape)}; make them with "
            "vit.preprocess(pil_images)"
        )
    if len(images) == 0:
        raise InputError("expected at least one image, got an empty batch")
    if finite:
        least, most = torch.stack(torch.aminmax(images)).tolist()  # one wait for the device
        if not (math.isfinite(least) and math.isfinite(most)):
            raise InputError("images contain NaN or infinite values; check the preprocessing")
        if isinstance(model, ViT) and least >= 0 and most > 10 * _white(model):
            raise InputError(
                f"images must be normalised, got pixels from 0 to {most:g}; make them with "
                "vit.preprocess(pil_images)"
            )
    if isinstance(model, ViT):
        images = images.to(device=model.device, dtype=model.dtype, non_blocking=True)
    return images.detach().clone()


def _white(vit: ViT) -> float:
    """The largest value that the model's own normalisation gives; infinite where not known."""
    mean, std = (getattr(vit.preprocess, name, None) for name in ("mean", "std"))
    if not (isinstance(mean, tuple | list) and isinstance(std, tuple | list)):
        return math.inf
    return max((1 - middle) / width for middle, width in zip(mean, std, strict=True))


def class_targets(vit: ViT, target: Target, batch: int) -> Tensor | None:
    """(B,) or (B, T) int64 on the CPU; None for the model's own answer.

    Args:
        vit: The model.
        target: One class for all images, one per image, or T per image, by index or name, in a
            list, a Tensor or an array; rows of zeros with a single one; the targets of an
            `Explanation`; "predicted" or None.
        batch: B.

    Raises:
        ValueError: an unknown class, or another number of them than there are images.
        TypeError: something that is no class.
    """
    if target is None or (isinstance(target, str) and target == "predicted"):
        return None
    if isinstance(target, Explanation):
        target = target.target
    if isinstance(target, np.ndarray):
        target = target.tolist() if target.dtype.kind in "UO" else torch.from_numpy(target)
    if isinstance(target, Tensor):
        given = _indices(vit, target.detach().cpu())
    elif isinstance(target, str) or not isinstance(target, Sequence):
        given = torch.tensor(_index(vit, target))
    else:
        indices = [_index(vit, entry) for entry in target]
        if len({len(entry) if isinstance(entry, list) else 0 for entry in indices}) > 1:
            raise InputError("target must have as many classes for every image; pass (B, T)")
        given = torch.tensor(indices, dtype=torch.int64)
    if given.ndim == 0:
        given = given.expand(batch)
    if given.ndim > 2 or len(given) != batch or given.numel() == 0:
        raise InputError(
            f"target must be one class or one per image ({batch},) or ({batch}, T), got "
            f"{tuple(given.shape)}"
        )
    for extreme in (int(given.min()), int(given.max())):
        vit.class_index(extreme)
    return given


def _indices(vit: ViT, target: Tensor) -> Tensor:
    """int64 of whole numbers, or of rows with a single one, as losses take them."""
    count = len(vit.class_names)
    whole = not target.is_floating_point() and target.dtype != torch.bool
    if target.ndim == 2 and target.shape[1] == count and (not whole or count > 2):
        ones = (target == 1).sum(1) == 1
        if bool((ones & ((target != 0).sum(1) == 1)).all()):
            return target.int().argmax(1)
    if not whole or target.is_complex():
        raise InputTypeError(f"target must hold class indices (int64), got {target.dtype}")
    return target.long().clone()  # an inference tensor cannot be differentiated with


def _index(vit: ViT, entry: Any) -> Any:
    if isinstance(entry, list | tuple):
        return [_index(vit, part) for part in entry]
    if isinstance(entry, Tensor | np.ndarray) and entry.ndim == 0:
        entry = entry.item()
    if isinstance(entry, str):
        return vit.class_index(entry)
    if not isinstance(entry, Integral) or isinstance(entry, bool):
        raise InputTypeError(
            f"a class is an index or a name, got {type(entry).__name__} {entry!r}; pass one class, "
            "one per image, or 'predicted'"
        )
    return vit.class_index(int(entry))


def check_reference(reference: Tensor, targets: Tensor) -> None:
    """Refuse to compare a class with itself.

    Args:
        reference: (B,).
        targets: (B,) or (B, T).

    Raises:
        ValueError: they are the same for an image.
    """
    if bool((reference.unsqueeze(1) == targets.reshape(len(reference), -1)).any()):
        raise InputError(
            "target and reference are the same class for at least one image; a two-class loss "
            "compares two different ones"
        )
