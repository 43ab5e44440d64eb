"""The guide image: a picture of another class, given by file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from attnguide.models.reader import read_picture
from attnguide.store.sources import Source
from attnguide.types import ViT


@dataclass(frozen=True)
class GuideImage:
    """A picture of another class.

    Attributes:
        picture: Upright RGB.
        label: Its class, None where it is not known.
        name: For records.
        sources: The files that it comes from.
    """

    picture: Image.Image
    label: int | None
    name: str
    sources: tuple[Source, ...] = ()


def guide_from_file(vit: ViT, image: str | None) -> GuideImage | None:
    """The picture at this path, of the class that its folder is named by; None if no file.

    Raises:
        UnreadableImage: a file that is no picture.
    """
    path = Path(image).expanduser() if image else None
    if path is None or not path.is_file():
        return None
    folder = path.resolve().parent.name
    known = folder in vit.wnids or folder in vit.class_names
    label = vit.class_index(folder) if known else None
    source = Source(str(path.absolute()))
    return GuideImage(read_picture(path, path.name), label, path.name, (source,))
