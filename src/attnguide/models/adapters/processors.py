"""`Preprocess` from HuggingFace's image processors and torchvision's presets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from attnguide.errors import InputError
from attnguide.models.preprocess import Preprocess

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by PIL's number
_PRESET = ("crop_size", "resize_size", "mean", "std", "interpolation")


def as_preprocess(given: Any) -> Any:
    """The same steps as a `Preprocess`; anything but a processor or preset is given back.

    Args:
        given: HuggingFace's image processor (`AutoImageProcessor.from_pretrained(...)`),
            torchvision's preset (`ViT_B_16_Weights.DEFAULT.transforms()`), or something else.

    Raises:
        ValueError: steps that a `Preprocess` does not have.

    Differs: where the margin of the crop is odd, this one may lie one pixel beside HuggingFace's;
    resized pixels differ by at most one level of 255.
    """
    if hasattr(given, "image_mean") and hasattr(given, "image_std"):
        return _from_processor(given)
    if all(hasattr(given, name) for name in _PRESET):
        return _preprocess(
            given,
            _sides(given.crop_size),
            given.resize_size,
            given.mean,
            given.std,
            given.interpolation,
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
            raise _unknown(processor, steps)
    if size.keys() == {"shortest_edge"}:
        resize = [size["shortest_edge"]]
    elif size.keys() == {"height", "width"}:
        resize = [size["height"], size["width"]]
    else:
        raise _unknown(processor, f"size={size}")
    final = resize
    if getattr(processor, "do_center_crop", False):
        final = [crop["height"], crop["width"]]
    elif len(resize) == 1:
        raise _unknown(processor, "the shortest edge resized without a crop")
    mean, std = processor.image_mean, processor.image_std
    if not getattr(processor, "do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    return _preprocess(processor, (final[0], final[1]), resize, mean, std, processor.resample)


def _preprocess(
    given: Any,
    final: tuple[int, int],
    resize: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: Any,
) -> Preprocess:
    """Resize to (height, width), or the shortest edge to (length,); then crop the centre."""
    resized = _sides(resize)
    share = final[0] / resized[0]
    # timm goes back from the share to the length and rounds down; one ulp less keeps the length
    shares = (share, math.nextafter(share, 0))
    fits = [s for s in shares if tuple(math.floor(side / s) for side in final) == resized]
    if not fits or share > 1 or (len(resize) == 1 and final[0] != final[1]):
        raise _unknown(given, f"resizing to {tuple(resize)}, then cropping {final}")
    filters = getattr(interpolation, "value", interpolation)
    return Preprocess(
        final,
        tuple(mean),
        tuple(std),
        fits[0],
        _FILTERS[filters] if isinstance(filters, int) else str(filters),
        "center" if len(resize) == 1 else "squash",
    )


def _sides(lengths: Sequence[int]) -> tuple[int, int]:
    """(height, width) of one or two lengths."""
    return lengths[0], lengths[-1]


def _unknown(given: Any, steps: str) -> InputError:
    return InputError(
        f"cannot follow {type(given).__name__}: {steps}; expected a resize, a centre crop and a "
        "normalisation. Pass preprocess=attnguide.models.preprocess.Preprocess(...) or a callable "
        "from PIL images to (B, 3, H, W)"
    )
