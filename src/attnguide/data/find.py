"""Finding photographs: the form of a data set is found by looking, and named."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from attnguide.data.dataset import Listing
from attnguide.data.folders import file_listing, list_folder
from attnguide.data.imagenet import list_flat
from attnguide.data.parquet import fetch_hub, list_parquet
from attnguide.errors import InputError

HUB = "hf://"
IMAGENET_ON_HUB = "ILSVRC/imagenet-1k"
_VALIDATION_FOLDERS = ("val", "validation", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val")
_DEVKITS = ("", "data", "devkit", "devkit/data", "ILSVRC2012_devkit_t12/data")


def find_photographs(name: str, root: str | os.PathLike[str] | None = None) -> Listing:
    """What lies at a root, without opening a picture: cheap enough to check before a model loads.

    Args:
        name: What the pictures are called in messages.
        root: Folder, parquet file, picture, or "hf://owner/dataset"; else the environment's
            IMAGENET_DIR.

    Raises:
        ValueError: nothing there; says what was expected and what to do.
    """
    place = os.fspath(root) if root is not None else os.environ.get("IMAGENET_DIR")
    if not place:
        raise InputError(
            f"data {name!r} needs pictures: set data.root (or IMAGENET_DIR) to a folder of "
            "pictures, of <wnid>/ folders or of parquet shards, or set data.root="
            f"{HUB}{IMAGENET_ON_HUB} (gated: needs its licence accepted and HF_TOKEN)"
        )
    dataset = place.removeprefix(HUB).removeprefix("datasets/")
    if place.startswith(HUB) or (place == IMAGENET_ON_HUB and not Path(place).exists()):
        listing = list_parquet(fetch_hub(dataset), f"{dataset} on the Hugging Face hub")
    else:
        listing = _look(Path(place).expanduser())
    twice = [name for name, count in Counter(listing.column("id")).items() if count > 1]
    if twice:
        raise InputError(
            f"the picture {twice[0]} appears twice in: {listing.form}; remove one"
            + (f" (and {len(twice) - 1} others likewise)" if len(twice) > 1 else "")
        )
    return listing


def _look(root: Path) -> Listing:
    """The form of what lies in a local folder, or in a single file."""
    if not root.exists():
        raise InputError(f"data.root {str(root)!r} does not exist; pass a folder of pictures")
    try:
        listing = _look_at_file(root) if root.is_file() else _look_into(root)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot read data.root {str(root)!r}: {reason}") from error
    if listing is None or not len(listing.dataset):
        raise InputError(
            f"no pictures in {str(root)!r}: expected picture files (.jpg, .jpeg, .png, ...) in it, "
            "in folders named by class or wnid, in val/, or parquet shards"
        )
    return listing


def _look_at_file(root: Path) -> Listing:
    if root.suffix == ".parquet":
        return list_parquet([root], str(root))
    return file_listing(f"the picture {root}", root.parent, [root.name])


def _look_into(root: Path) -> Listing | None:
    shards = _shards(root)
    if shards:
        return list_parquet(shards, str(root))
    below = [root / part for part in _VALIDATION_FOLDERS if (root / part).is_dir()]
    for folder in (*below, root):
        devkits = [place / part for place in (folder, root, root.parent) for part in _DEVKITS]
        listing = list_flat(folder, (folder, root), devkits) or list_folder(folder)
        if listing is not None:
            return listing
    return None


def _shards(root: Path) -> list[Path]:
    """Parquet files in a folder or its data/; those of a validation split, if they say so."""
    found = sorted(root.glob("*.parquet")) or sorted(root.glob("data/*.parquet"))
    return [file for file in found if file.name.startswith("val")] or found
