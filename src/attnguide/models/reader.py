"""The one reader of pictures: a file, bytes or a PIL image of any mode, as upright 8-bit RGB."""

from __future__ import annotations

import logging
import stat
import struct
import warnings
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from attnguide.errors import InputError, InputTypeError

log = logging.getLogger(__name__)

SUFFIXES = {
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif"),
    *(".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
}
MAX_BYTES = 2**30  # of a picture's file
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")

_EXTRA_SAMPLES, _ALPHA = 338, {1, 2}  # TIFF's entry, and what in it says transparency
_TURNS = {  # by EXIF's number
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(InputError):
    """A picture that cannot be decoded; says which one and why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"cannot read the picture {self.name}: {self.reason}"


def read_picture(file: Path | bytes, name: str) -> Image.Image:
    """The picture in a file as `to_rgb` makes it.

    Only the formats of photographs are opened, whatever the file's ending says: a PostScript file
    would be run by Ghostscript.

    Args:
        file: Path, or the encoded bytes.
        name: What messages call it.

    Raises:
        UnreadableImage: missing, empty, truncated, too large, or no picture at all.
    """
    try:
        content = file if isinstance(file, bytes) else picture_bytes(file, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # PIL's about EXIF and other metadata
            with Image.open(BytesIO(content), formats=picture_formats()) as picture:
                return to_rgb(picture, name)
    except UnidentifiedImageError:
        known = f"not a picture in a known format ({', '.join(picture_formats())})"
        raise UnreadableImage(name, known if content else "the file is empty") from None
    except MemoryError as error:
        raise UnreadableImage(name, "it does not fit into memory") from error
    except (
        OSError,
        SyntaxError,  # how PIL reports a broken PNG
        ValueError,
        EOFError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise UnreadableImage(name, str(error) or type(error).__name__) from error


def picture_bytes(file: Path, name: str) -> bytes:
    """The content of a picture's file; a pipe or a device would never end.

    Raises:
        UnreadableImage: missing, no ordinary file, or above `MAX_BYTES`.
    """
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            raise UnreadableImage(name, f"not an ordinary file of at most {MAX_BYTES >> 20} MB")
        return file.read_bytes()
    except OSError as error:
        raise UnreadableImage(name, error.strerror or type(error).__name__) from error


@cache
def picture_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are opened; AVIF only where this Pillow reads it."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def to_rgb(image: Image.Image, name: str = "") -> Image.Image:
    """A copy of the picture, upright, in 8-bit RGB, whatever its mode and EXIF orientation.

    Grey of more than 8 bits is scaled from 16, transparency is laid over white; of several pages
    the first is taken. An EXIF block that cannot be read is left alone: the orientation is
    unknown, the picture is kept.

    Args:
        image: Of any mode.
        name: What messages call it.

    Raises:
        TypeError: not a PIL image.
        ValueError: a mode without a known range.
    """
    if not isinstance(image, Image.Image):
        raise InputTypeError(
            f"expected a PIL image, got {type(image).__name__}; open it with PIL first"
        )
    name = name or "a picture"
    with suppress(OSError, ValueError, EOFError, SyntaxError):  # broken pages behind the first
        pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # with a preview
        if pages > 1:
            log.warning("%s: the first of its %d pages is taken", name, pages)
    upright = _eight_bits(_upright(image), name)
    if image.format == "TIFF" and image.mode == "RGBA":
        is_alpha = bool({*getattr(image, "tag_v2", {}).get(_EXTRA_SAMPLES, ())} & _ALPHA)
        done = "is transparency, laid over white" if is_alpha else "is left out"
        log.warning("%s: its fourth band %s", name, done)
        upright = upright if is_alpha else Image.merge("RGB", upright.split()[:3])
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    rgb = upright.convert("RGB")
    rgb.info = {}  # else its orientation would be applied again by the next reader
    return rgb


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; as it is where its EXIF block cannot be read.

    `ImageOps.exif_transpose` also writes the block anew, and fails where another entry is wrong.
    """
    image.load()  # TIFF pictures turn themselves while they are loaded
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a block that ends early
            turn = _TURNS.get(int(image.getexif().get(ExifTags.Base.Orientation, 1)))
    except (SyntaxError, struct.error, ValueError, TypeError, LookupError, OSError, EOFError):
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bits scaled by 65535, where a plain conversion would clip it."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(initial=0), values.max(initial=0)
    if image.mode == "F" or low < 0 or high > 65535:
        raise InputError(
            f"pixels of mode {image.mode} from {low:.0f} to {high:.0f} have no known range; save "
            "the picture with 8 or 16 bits"
        )
    if 0 < high < 4096:
        log.warning(
            "%s: its 16-bit pixels reach only %d of 65535, so it is nearly black; data of fewer "
            "bits must be scaled before it is saved",
            name,
            high,
        )
    return Image.fromarray((values / 257).round().astype(np.uint8))
