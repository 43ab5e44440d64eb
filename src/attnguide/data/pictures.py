"""What a picture on disk is to us: a file or bytes of any kind, read as upright RGB."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from attnguide.errors import InputError
from attnguide.models.preprocess import to_rgb

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)


class UnreadableImage(InputError):
    """A picture that cannot be decoded; says which one and why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"cannot read the picture {self.name}: {self.reason}"


@dataclass(frozen=True)
class Listing:
    """Pictures as they were found, before the model gives their classes numbers.

    Attributes:
        form: What was found and where, for the log.
        ids: Name of each picture, unique.
        keys: Class of each picture as the source writes it (wnid, class name, or the number of
            the model's class in digits); None where it has none.
        load: Number in the listing to upright RGB; raises `UnreadableImage`.
    """

    form: str
    ids: tuple[str, ...]
    keys: tuple[str | None, ...]
    load: Callable[[int], Image.Image]


def read_picture(file: Path | bytes, name: str) -> Image.Image:
    """The picture as 8-bit RGB, upright.

    Grey, palette, CMYK and 16-bit pictures are converted; transparency is laid over white.

    Args:
        file: Path, or the encoded bytes.
        name: What messages call it.

    Raises:
        UnreadableImage: missing, empty, truncated, or no picture at all.
    """
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as picture:
            picture.load()
            return to_rgb(_over_white(_eight_bits(ImageOps.exif_transpose(picture))))
    except UnidentifiedImageError:
        empty = len(file) == 0 if isinstance(file, bytes) else file.stat().st_size == 0
        reason = "the file is empty" if empty else "not a picture in a known format"
        raise UnreadableImage(name, reason) from None
    except (
        OSError,
        SyntaxError,  # how PIL reports a broken PNG
        ValueError,
        EOFError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise UnreadableImage(name, str(error) or type(error).__name__) from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits scaled, where a plain conversion would clip it."""
    if picture.mode == "F":
        raise InputError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture).astype(np.float64)
    if values.max(initial=0) > 255:
        values = values / 257  # 65535 becomes 255
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def _over_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
