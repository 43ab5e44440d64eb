"""Resize, crop and normalise pictures for a model, and the inverse of the normalisation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor

from attnguide.errors import InputError, InputTypeError, unknown_name
from attnguide.models.reader import to_rgb
from attnguide.types import ViT

Filter = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by PIL's number
_PRESET = ("crop_size", "resize_size", "mean", "std", "interpolation")  # torchvision's
_RANDOM = re.compile(r"Random\w*|ColorJitter|AutoAugment|TrivialAugment\w*|AugMix|MixUp|CutMix")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
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
    mean: tuple[Finite, Finite, Finite] = (0.5, 0.5, 0.5)
    std: tuple[AboveZero, AboveZero, AboveZero] = (0.5, 0.5, 0.5)
    crop_pct: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Filter = "bicubic"
    crop_mode: Literal["center", "squash", "border"] = "center"

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

    def seen(self, image: Image.Image) -> Image.Image:
        """The part of a picture that the crop keeps, not resized; black where it reaches beyond."""
        picture = to_rgb(image)
        resized = [math.floor(side / self.crop_pct) for side in reversed(self.size)]
        scales = [new / old for new, old in zip(resized, picture.size, strict=True)]
        if self.crop_mode != "squash":
            scales = [max(scales) if self.crop_mode == "center" else min(scales)] * 2
        left, top = (
            round((old - new / scale) / 2)
            for old, new, scale in zip(picture.size, reversed(self.size), scales, strict=True)
        )
        return picture.crop((left, top, picture.width - left, picture.height - top))

    def denormalize(self, images: Tensor) -> Tensor:
        """(..., 3, H, W) in [0, 1] from normalised images; values outside are clipped."""
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)


def _each(transform: Callable[[Image.Image], Tensor], images: Any) -> Tensor:
    """(B, 3, H, W) of pictures in any mode and orientation, by a function of one RGB picture."""
    return torch.stack([transform(to_rgb(picture)) for picture in _listed(images)])


def _listed(images: Image.Image | Sequence[Image.Image]) -> list[Image.Image]:
    pictures = [images] if isinstance(images, Image.Image) else list(images)
    if not pictures:
        raise InputError("no pictures given; expected at least one PIL image")
    return pictures


def steps_of(vit: ViT) -> Preprocess:
    """The model's preprocessing, for callers that need its steps one by one, as a guide does.

    Raises:
        ValueError: it is a function of the user's own, whose steps are not known.
    """
    if not isinstance(vit.preprocess, Preprocess):
        raise InputError(
            f"the preprocess of {vit.name} is a function, whose resize, crop and normalisation are "
            "not known; pass preprocess=attnguide.models.preprocess.Preprocess(size, mean, std, "
            "crop_pct, interpolation)"
        )
    return vit.preprocess


BESIDE_WEIGHTS = ("mean", "std", "crop_pct", "interpolation", "crop_mode")  # fields of it


def pixels_of(preprocess: Any, images: Tensor) -> Tensor:
    """(..., 3, H, W) in [0, 1] for display; of an unknown normalisation, each image's own range."""
    if isinstance(preprocess, Preprocess):
        return preprocess.denormalize(images)
    low, high = images.amin((-3, -2, -1), keepdim=True), images.amax((-3, -2, -1), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-12)


def override(stored: Any, given: Any) -> Any:
    """What is stored with the weights, with what the user passed in its place.

    Args:
        stored: A `Preprocess`, or None where nothing is stored.
        given: None; fields of `Preprocess` by name, which replace those of `stored`; or another
            preprocessing.

    Raises:
        ValueError: an unknown field, or an impossible value.
    """
    if given is None:
        return stored
    if not isinstance(given, Mapping) or stored is None:
        return given
    known = [entry.name for entry in fields(Preprocess)]
    for name in given:
        if name not in known:
            raise unknown_name("field of preprocess", name, known)
    try:
        return replace(stored, **given)
    except ValidationError as error:
        faults = {f"preprocess.{fault['loc'][0]}": fault["msg"] for fault in error.errors()}
        told = "; ".join(f"{name}: {message}" for name, message in faults.items())
        raise InputError(f"{told}; got {dict(given)}") from None


def check_fields(given: Mapping[str, Any]) -> None:
    """Refuse fields that `Preprocess` does not have, and impossible values.

    Raises:
        ValueError: which, and what was expected.
    """
    override(Preprocess((1, 1)), given)


def as_preprocess(given: Any) -> Any:
    """A `Preprocess` of what tells its steps; any other callable as a function of pictures.

    Args:
        given: HuggingFace's image processor (`AutoImageProcessor.from_pretrained(...)`);
            torchvision's preset (`ViT_B_16_Weights.DEFAULT.transforms()`); a transform or function
            of one PIL image to (3, H, W), or of a list of them to (B, 3, H, W); a `Preprocess`; or
            None.

    Raises:
        TypeError: none of these.
        ValueError: steps that a `Preprocess` does not have; a function that changes pictures at
            random, fails on one, or returns no pixels.

    Differs: where the margin of the crop is odd, this one may lie one pixel beside HuggingFace's;
    resized pixels differ by at most one level of 255.
    """
    if given is None or isinstance(given, Preprocess):
        return given
    if hasattr(given, "image_mean") and hasattr(given, "image_std"):
        return _from_processor(given)
    if all(hasattr(given, name) for name in _PRESET):
        crop = (given.crop_size[0], given.crop_size[-1])
        return _from_lengths(
            given, crop, given.resize_size, given.mean, given.std, given.interpolation
        )
    if not callable(given):
        raise InputTypeError(
            f"preprocess must be a transform, an image processor or a function of pictures, got "
            f"{type(given).__name__}"
        )
    return _of_pictures(given)


def _of_pictures(given: Callable[[Any], Any]) -> Callable[..., Tensor]:
    """A function of one picture or of a list, as one of any number: asked with a grey picture."""
    name = type(given).__name__
    random = _RANDOM.search(repr(given))
    if random:
        raise InputError(
            f"{random[0]} in preprocess changes pictures at random; pass the transform that was "
            "used for evaluation"
        )
    picture = Image.new("RGB", (331, 290), "grey")
    try:
        pixels = given(picture)
    except Exception as error:  # whatever the user's code raises: it may want a list
        try:
            pixels = given([picture])
        except Exception:
            raise InputError(
                f"preprocess ({name}) fails on a PIL image and on a list of them "
                f"({type(error).__name__}: {str(error)[:150]})"
            ) from error
    if isinstance(pixels, Tensor) and pixels.is_floating_point():
        if pixels.ndim == 3 and len(pixels) == 3:
            return partial(_each, given)
        if pixels.ndim == 4 and pixels.shape[:2] == (1, 3):
            return given
    what = type(pixels).__name__
    if isinstance(pixels, Tensor):
        what = f"a tensor of {pixels.dtype} and shape {tuple(pixels.shape)}"
    raise InputError(
        f"preprocess ({name}) returned {what}, expected a floating-point Tensor (3, H, W) of a PIL "
        "image, or (B, 3, H, W) of a list; end it with ToTensor() and Normalize(mean, std)"
    )


def _from_processor(processor: Any) -> Preprocess:
    size = dict(processor.size or {})
    crop = dict(getattr(processor, "crop_size", None) or {})
    factor = getattr(processor, "rescale_factor", 1 / 255)
    for steps, wrong in (
        ("do_resize=False", not getattr(processor, "do_resize", True)),
        ("do_rescale=False", not getattr(processor, "do_rescale", True)),
        (f"rescale_factor={factor}", not math.isclose(factor, 1 / 255, rel_tol=1e-6)),
        ("padding", getattr(processor, "do_pad", None)),
    ):
        if wrong:
            raise _unsupported(processor, steps)
    if size.keys() == {"shortest_edge"}:
        resize = [size["shortest_edge"]]
    elif size.keys() == {"height", "width"}:
        resize = [size["height"], size["width"]]
    else:
        raise _unsupported(processor, f"size={size}")
    final = resize
    if getattr(processor, "do_center_crop", False):
        final = [crop["height"], crop["width"]]
    elif len(resize) == 1:
        raise _unsupported(processor, "the shortest edge resized without a crop")
    mean, std = processor.image_mean, processor.image_std
    if not getattr(processor, "do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    return _from_lengths(processor, (final[0], final[1]), resize, mean, std, processor.resample)


def _from_lengths(
    given: Any,
    final: tuple[int, int],
    resize: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: Any,
) -> Preprocess:
    """Resize to (height, width), or the shortest edge to (length,); then crop the centre."""
    resized = resize[0], resize[-1]
    share = final[0] / resized[0]
    # timm goes back from the share to the length and rounds down; one ulp less keeps the length
    shares = (share, math.nextafter(share, 0))
    fits = [s for s in shares if tuple(math.floor(side / s) for side in final) == resized]
    if not fits or share > 1 or (len(resize) == 1 and final[0] != final[1]):
        raise _unsupported(given, f"resizing to {tuple(resize)}, then cropping {final}")
    name = getattr(interpolation, "value", interpolation)
    steps = {
        "mean": tuple(mean),
        "std": tuple(std),
        "crop_pct": fits[0],
        "interpolation": _FILTERS[name] if isinstance(name, int) else name,
        "crop_mode": "center" if len(resize) == 1 else "squash",
    }
    made: Preprocess = override(Preprocess(final), steps)
    return made


def _unsupported(given: Any, steps: str) -> InputError:
    return InputError(
        f"cannot follow {type(given).__name__}: {steps}; expected a resize, a centre crop and a "
        "normalisation. Pass preprocess=attnguide.models.preprocess.Preprocess(...) or a callable "
        "from PIL images to (B, 3, H, W)"
    )
