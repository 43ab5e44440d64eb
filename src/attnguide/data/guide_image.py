"""The guide image: which picture is stitched beside the others, and what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from attnguide.data.source import open_source
from attnguide.errors import InputError
from attnguide.models.preprocess import to_rgb
from attnguide.types import ViT

IMAGENET_GUIDE = "zebra"  # the paper's
CREATURES_GUIDE = "spiral-shelled snail"


@dataclass(frozen=True)
class GuideImage:
    """A picture of another class.

    Attributes:
        picture: Upright RGB.
        label: Its class, None where it is not known.
        name: For records.
    """

    picture: Image.Image
    label: int | None
    name: str


def open_guide(
    image: str | None, vit: ViT, *, data: str = "creatures", root: str | None = None
) -> GuideImage:
    """The guide by file, by class, or the default one.

    Args:
        image: Path of a picture; or a class (index, name, wnid) whose first picture in the data,
            or whose drawn creature, is used; None for a zebra, or a snail among creatures.
        vit: Numbers the classes.
        data, root: Where to look for a picture of the class, as in `open_source`.

    Raises:
        ValueError: neither a file nor a class, or a class without pictures.
    """
    from attnguide.data.creatures.scenes import CLASS_NAMES, guide

    creatures = vit.class_names == CLASS_NAMES
    wanted = image or (CREATURES_GUIDE if creatures else IMAGENET_GUIDE)
    path = Path(wanted).expanduser()
    if path.is_file():
        folder = path.resolve().parent.name
        known = folder in vit.wnids or folder in vit.class_names
        label = vit.class_index(folder) if known else None
        with Image.open(path) as opened:
            return GuideImage(to_rgb(opened), label, path.name)
    try:
        label = vit.class_index(wanted)
    except ValueError as error:
        raise InputError(f"guide.image {wanted!r} is no picture file, and {error}") from error
    if creatures:
        return GuideImage(guide(label).to_pil(), label, vit.class_names[label])
    source = open_source(vit, name=data, root=root)
    if label not in source.labels:
        raise InputError(
            f"no picture of {vit.class_names[label]!r} for a guide in {source.form}; pass "
            "guide.image=FILE or a class that the data has"
        )
    index = source.labels.index(label)
    return GuideImage(source.load(index), label, source.ids[index])
