"""`Preprocess` from HuggingFace's image processors and torchvision's presets."""

from __future__ import annotations

import math
from typing import Any

from attnguide.errors import InputTypeError
from attnguide.models.adapters.lengths import from_lengths, sides, unknown
from attnguide.models.adapters.transforms import from_transform
from attnguide.models.preprocess import Preprocess

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_PRESET = ("crop_size", "resize_size", "mean", "std", "interpolation")


def as_preprocess(given: Any) -> Any:
    """The same steps as a `Preprocess` where they are known, or a function of pictures.

    Args:
        given: HuggingFace's image processor (`AutoImageProcessor.from_pretrained(...)`),
            torchvision's preset (`ViT_B_16_Weights.DEFAULT.transforms()`), a transform or function
            (`from_transform`), a `Preprocess`, or None.

    Raises:
        TypeError: none of these.
        ValueError: steps that a `Preprocess` does not have, or that do not give pixels.

    Differs: where the margin of the crop is odd, this one may lie one pixel beside HuggingFace's;
    resized pixels differ by at most one level of 255.
    """
    if hasattr(given, "image_mean") and hasattr(given, "image_std"):
        return _from_processor(given)
    if all(hasattr(given, name) for name in _PRESET):
        return from_lengths(
            given,
            sides(given.crop_size),
            given.resize_size,
            given.mean,
            given.std,
            given.interpolation,
        )
    if callable(given) and not isinstance(given, Preprocess):
        return from_transform(given)
    if given is not None and not isinstance(given, Preprocess):
        raise InputTypeError(
            f"preprocess must be a transform, an image processor or a function of pictures, got "
            f"{type(given).__name__}"
        )
    return given


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
            raise unknown(processor, steps)
    if size.keys() == {"shortest_edge"}:
        resize = [size["shortest_edge"]]
    elif size.keys() == {"height", "width"}:
        resize = [size["height"], size["width"]]
    else:
        raise unknown(processor, f"size={size}")
    final = resize
    if getattr(processor, "do_center_crop", False):
        final = [crop["height"], crop["width"]]
    elif len(resize) == 1:
        raise unknown(processor, "the shortest edge resized without a crop")
    mean, std = processor.image_mean, processor.image_std
    if not getattr(processor, "do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    return from_lengths(processor, (final[0], final[1]), resize, mean, std, processor.resample)
