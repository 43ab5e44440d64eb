"""Relevance as colours over a picture: for display only, never for numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnguide.errors import InputError
from attnguide.viz.style import figure_settings, relevance_colours

MAP_WEIGHT = 0.7  # share of the map; the picture above it gets the rest
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green, blue


def normalize(relevance: Any) -> NDArray[np.float64]:
    """S / max|S| of each map (last two axes): in [-1, 1], signs kept, zero stays zero.

    Each map gets a scale of its own, so colours must not be compared between pictures.

    Args:
        relevance: (..., rows, cols), array or tensor.

    Raises:
        ValueError: no map, or numbers that are not finite.

    Paper: Sec. 4.2, the text beside Figure 3.
    """
    values = np.asarray(as_values(relevance), dtype=np.float64)
    if values.ndim < 2 or values.size == 0:
        raise InputError(f"relevance must be (..., rows, cols) and not empty, got {values.shape}")
    if not np.isfinite(values).all():
        raise InputError("relevance holds NaN or infinite numbers; explain in float64")
    largest = np.abs(values).max(axis=(-2, -1), keepdims=True)
    return values / np.where(largest > 0, largest, 1)


def overlay(
    image: Any,
    relevance: Any,
    *,
    weight: float = MAP_WEIGHT,
    grey: bool | None = None,
    cmap: str | None = None,
) -> NDArray[np.float32]:
    """(H, W, 3) in [0, 1]: red where the target is supported, blue where it is opposed.

    The map is resized bilinearly to the picture, coloured, and mixed with it.

    Args:
        image: PIL picture, (H, W, 3) array, or (3, H, W) tensor in [0, 1].
        relevance: (rows, cols), raw.
        weight: Share of the map in the mixture, in [0, 1].
        grey: Take the colours out of the picture, where they would tint the map's zero; by default
            what `figure.underlay` says.
        cmap: Name of a colour map of matplotlib's, in place of red, white and blue.

    Raises:
        ValueError: shapes or a weight that do not fit; an unknown colour map.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"weight must lie in [0, 1], got {weight}")
    picture = as_picture(image)
    scaled = normalize(relevance)
    if scaled.ndim != 2:
        raise InputError(f"one picture takes one map (rows, cols), got {scaled.shape}")
    if figure_settings().underlay == "grey" if grey is None else grey:
        picture = np.repeat(picture @ LUMINANCE[:, None], 3, axis=-1)
    height, width = picture.shape[:2]
    field = Image.fromarray(scaled.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    mixed = weight * relevance_colours(np.asarray(field), cmap) + (1 - weight) * picture
    return mixed.astype(np.float32)


def as_picture(image: Any) -> NDArray[np.float32]:
    """(H, W, 3) in [0, 1] from a PIL picture, an (H, W, 3) array or a (3, H, W) tensor.

    Arrays of integers count as 0 to 255, everything else as 0 to 1 already.

    Raises:
        ValueError: another shape, or numbers outside the range.
    """
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
    values = as_values(image)
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[2] != 3:
        values = values.transpose(1, 2, 0)
    if values.ndim != 3 or values.shape[2] != 3:
        raise InputError(
            f"a picture must be (H, W, 3), or a tensor (3, H, W), got {tuple(values.shape)}"
        )
    scaled = values.astype(np.float32) / (255 if np.issubdtype(values.dtype, np.integer) else 1)
    if not (scaled.min() >= -1e-6 and scaled.max() <= 1 + 1e-6):
        raise InputError(
            f"a picture must lie in [0, 1], got {scaled.min():.3g} to {scaled.max():.3g}; undo "
            "the normalisation with vit.preprocess.denormalize(images), or divide pixels by 255"
        )
    return scaled.clip(0, 1)


def as_values(values: Any) -> NDArray[Any]:
    """A numpy array from an array or a tensor on any device, without importing torch."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
