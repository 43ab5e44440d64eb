"""The road from a picture to the tensor that a set of weights expects, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps
from torch import Tensor

from attnguide.errors import InputTypeError


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
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        return torch.stack([transform(to_rgb(picture)) for picture in pictures])

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


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture upright and in RGB, whatever its mode and EXIF orientation.

    Raises:
        TypeError: not a PIL image.
    """
    if not isinstance(image, Image.Image):
        raise InputTypeError(
            f"expected a PIL image, got {type(image).__name__}; open it with PIL first"
        )
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # convert() would clip 16 bits instead of scaling them
        upright = upright.point(lambda value: value / 256).convert("L")
    return upright.convert("RGB")
