"""`Preprocess` from the transforms that torchvision and timm make, or a user's own function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from attnguide.errors import InputError
from attnguide.models.adapters.lengths import from_lengths
from attnguide.models.preprocess import PictureTransform, Preprocess

_LIBRARIES = ("torchvision.", "timm.")
_RANDOM = ("Random", "Auto", "TrivialAugment", "AugMix", "ColorJitter", "MixUp", "CutMix", "Jitter")
_SILENT = ("ToTensor", "MaybeToTensor", "PILToTensor", "ToImage", "ToDtype", "ConvertImageDtype")


def from_transform(given: Any) -> Any:
    """A transform of one picture, or of a list, as a function of any number of pictures.

    A resize, a centre crop and a normalisation of torchvision's or timm's become a `Preprocess`
    that gives the same pixels, which is tried. Anything else is kept as a function: it can be
    explained with, but what needs to know its steps says so.

    Raises:
        ValueError: it changes pictures at random, fails on one, or gives no (3, H, W).
    """
    steps = list(_steps(given))
    for step in steps:
        name = type(step).__name__
        if _is_known(step) and name.startswith(_RANDOM):
            raise InputError(
                f"{name} in preprocess changes pictures at random; pass the transform that was "
                "used for evaluation"
            )
    own = PictureTransform(given) if _takes_one(given) else given
    known = _as_steps(steps) if all(map(_is_known, steps)) else None
    if known is not None and _same_pixels(own, known):
        return known
    return own


def _steps(given: Any) -> Iterator[Any]:
    for step in getattr(given, "transforms", None) or [given]:
        yield from _steps(step) if hasattr(step, "transforms") else [step]


def _is_known(step: Any) -> bool:
    return type(step).__module__.startswith(_LIBRARIES)


def _picture() -> Image.Image:
    """Coloured noise, wider than high."""
    channels = [Image.effect_noise((331, 290), 90) for _ in range(3)]
    return Image.merge("RGB", channels)


def _takes_one(given: Callable[[Any], Any]) -> bool:
    """Whether it is a function of one picture; a list is tried first."""
    picture = _picture()
    try:
        if getattr(given([picture]), "ndim", 0) == 4:
            return False
    except Exception:  # the user's code was not made for lists: tried with one picture below
        pass
    try:
        pixels = given(picture)
    except Exception as error:
        raise InputError(
            f"preprocess ({type(given).__name__}) fails on a PIL image as on a list of them "
            f"({type(error).__name__}: {str(error)[:150]}); expected pixels (3, H, W) of one, or "
            "(B, 3, H, W) of a list"
        ) from error
    if isinstance(pixels, Tensor) and pixels.ndim == 4 and len(pixels) == 1:
        return False
    if not isinstance(pixels, Tensor) or pixels.ndim != 3 or len(pixels) != 3:
        what = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
        raise InputError(
            f"preprocess ({type(given).__name__}) makes {what} of a PIL image, expected a Tensor "
            "(3, H, W); end it with ToTensor() and Normalize(mean, std)"
        )
    if not pixels.is_floating_point():
        raise InputError(
            f"preprocess ({type(given).__name__}) makes pixels of {pixels.dtype}, expected "
            "normalised floating point; end it with ToTensor() and Normalize(mean, std)"
        )
    return True


def _as_steps(steps: list[Any]) -> Preprocess | None:
    """The same as resize, centre crop and normalisation, if it is these."""
    named = {type(step).__name__: step for step in steps}
    if len(named) != len(steps) or named.keys() - {"Resize", "CenterCrop", "Normalize", *_SILENT}:
        return None
    resize, crop, norm = (named.get(key) for key in ("Resize", "CenterCrop", "Normalize"))
    if resize is None:
        return None
    lengths = [resize.size] if isinstance(resize.size, int) else list(resize.size)
    if crop is None and len(lengths) == 1:
        return None
    final = lengths if crop is None else crop.size
    final = (final, final) if isinstance(final, int) else (final[0], final[-1])
    mean, std = ([0.0] * 3, [1.0] * 3) if norm is None else (norm.mean, norm.std)
    mean, std = ([round(float(part), 6) for part in values] for values in (mean, std))
    try:
        return from_lengths(resize, final, lengths, mean, std, resize.interpolation)
    except InputError:
        return None


def _same_pixels(own: Callable[[Any], Tensor], known: Preprocess) -> bool:
    pictures = [_picture(), _picture().resize((190, 240))]
    theirs, ours = own(pictures), known(pictures)
    return theirs.shape == ours.shape and torch.allclose(theirs, ours, atol=1e-5)
