"""The road from a picture to the tensor that a set of weights expects, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from attnguide.errors import InputError, unknown_name
from attnguide.models.reader import to_rgb

FILTERS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROPS = ("center", "squash", "border")


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop and normalisation that travel with the weights.

    Attributes:
        size: (height, width) of the result in pixels.
        mean, std: per channel, of images in [0, 1].
        crop_pct: share of the shorter side that the centre crop keeps, in (0, 1].
        interpolation: name of the resampling filter.
        crop_mode: timm's name of the crop ("center", "squash", "border").
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    crop_mode: str = "center"

    def __call__(self, images: Image.Image | Sequence[Image.Image]) -> Tensor:
        """(B, 3, H, W), normalised: resized, centre cropped, as the weights were trained.

        Raises:
            TypeError: something that is no PIL image.
        """
        from timm.data import create_transform  # imports half of torchvision

        transform = create_transform(
            input_size=(3, *self.size),
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            crop_mode=self.crop_mode,
            is_training=False,
        )
        return torch.stack([transform(to_rgb(picture)) for picture in _listed(images)])

    def normalize(self, image: Image.Image) -> Tensor:
        """(3, h, w), normalised, at the picture's own size: no geometry at all."""
        from torchvision.transforms.functional import pil_to_tensor

        pixels = pil_to_tensor(to_rgb(image)).float() / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return (pixels - mean) / std

    def denormalize(self, images: Tensor) -> Tensor:
        """(..., 3, H, W) in [0, 1] from normalised images; values outside are clipped."""
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)


@dataclass(frozen=True)
class PictureTransform:
    """The user's own function of one RGB picture, for any number of them.

    Attributes:
        transform: A PIL image to a normalised (3, H, W).
    """

    transform: Callable[[Image.Image], Tensor]

    def __call__(self, images: Image.Image | Sequence[Image.Image]) -> Tensor:
        """(B, 3, H, W) of pictures in any mode and orientation.

        Raises:
            TypeError: something that is no PIL image.
        """
        return torch.stack([self.transform(to_rgb(picture)) for picture in _listed(images)])


def with_fields(base: object, given: Mapping[str, Any], size: tuple[int, int]) -> Preprocess:
    """Steps with some of their fields replaced, as a config gives them.

    Args:
        base: The steps that hold otherwise.
        given: Fields of `Preprocess` by name.
        size: (height, width) in pixels that the network takes.

    Raises:
        ValueError: an unknown field, an impossible value, or another size.
    """
    check_fields(given)
    values: dict[str, Any] = {key: _as_field(value) for key, value in given.items()}
    if values.setdefault("size", size) not in (size, size[0] if size[0] == size[1] else size):
        raise InputError(f"the network takes images of {size}, preprocess.size is {values['size']}")
    steps = base if isinstance(base, Preprocess) else Preprocess(size)
    return replace(steps, **values | {"size": size})


def check_fields(given: Any) -> None:
    """Refuse fields that `Preprocess` does not have, and impossible values.

    Raises:
        ValueError: which, and what was expected.
    """
    if not isinstance(given, Mapping):
        raise InputError(
            "preprocess takes fields by name, e.g. {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}; "
            f"got {given!r}"
        )
    choices = {"interpolation": FILTERS, "crop_mode": CROPS}
    known = sorted(entry.name for entry in fields(Preprocess))
    for name, value in given.items():
        if name not in known:
            raise unknown_name("field of preprocess", name, known)
        if name in choices and value not in choices[name]:
            raise unknown_name(f"preprocess.{name}", value, choices[name])
        if name == "crop_pct" and not (isinstance(value, int | float) and 0 < value <= 1):
            raise InputError(f"preprocess.crop_pct must lie in (0, 1], got {value!r}")
        if name in ("mean", "std") and not _are_numbers(_as_field(value), above_0=name == "std"):
            what = "three numbers above 0" if name == "std" else "three numbers"
            raise InputError(f"preprocess.{name} must be {what}, got {value!r}")


def _as_field(value: Any) -> Any:
    return value if isinstance(value, str) or not isinstance(value, Sequence) else tuple(value)


def _are_numbers(values: Any, *, above_0: bool) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == 3
        and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
        and (not above_0 or min(values) > 0)
    )


def _listed(images: Image.Image | Sequence[Image.Image]) -> list[Image.Image]:
    pictures = [images] if isinstance(images, Image.Image) else list(images)
    if not pictures:
        raise InputError("no pictures given; expected at least one PIL image")
    return pictures
