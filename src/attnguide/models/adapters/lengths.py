"""A resize and a centre crop, in the words of `Preprocess`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from attnguide.errors import InputError
from attnguide.models.preprocess import Preprocess

_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by PIL's number


def from_lengths(
    given: Any,
    final: tuple[int, int],
    resize: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: Any,
) -> Preprocess:
    """Resize to (height, width), or the shortest edge to (length,); then crop the centre."""
    resized = sides(resize)
    share = final[0] / resized[0]
    # timm goes back from the share to the length and rounds down; one ulp less keeps the length
    shares = (share, math.nextafter(share, 0))
    fits = [s for s in shares if tuple(math.floor(side / s) for side in final) == resized]
    if not fits or share > 1 or (len(resize) == 1 and final[0] != final[1]):
        raise unknown(given, f"resizing to {tuple(resize)}, then cropping {final}")
    filters = getattr(interpolation, "value", interpolation)
    return Preprocess(
        final,
        tuple(mean),
        tuple(std),
        fits[0],
        _FILTERS[filters] if isinstance(filters, int) else str(filters),
        "center" if len(resize) == 1 else "squash",
    )


def sides(lengths: Sequence[int]) -> tuple[int, int]:
    """(height, width) of one or two lengths."""
    return lengths[0], lengths[-1]


def unknown(given: Any, steps: str) -> InputError:
    """The error for steps that `Preprocess` does not have."""
    return InputError(
        f"cannot follow {type(given).__name__}: {steps}; expected a resize, a centre crop and a "
        "normalisation. Pass preprocess=attnguide.models.preprocess.Preprocess(...) or a callable "
        "from PIL images to (B, 3, H, W)"
    )
