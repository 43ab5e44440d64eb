"""Finding pictures: the form of a data set is found by looking, and named."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from PIL import Image

from attnguide.data.creatures.scenes import CLASS_NAMES, NUM_CLASSES, pair, single
from attnguide.data.folders import file_listing, list_folder
from attnguide.data.imagenet import list_flat
from attnguide.data.parquet import fetch_hub, list_parquet
from attnguide.data.pictures import Listing
from attnguide.errors import InputError

HUB = "hf://"
IMAGENET_ON_HUB = "ILSVRC/imagenet-1k"
CREATURES_COUNT = 200  # pictures of the embedded world where no number is asked for
_VALIDATION_FOLDERS = ("val", "validation", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val")
_DEVKITS = ("", "data", "devkit", "devkit/data", "ILSVRC2012_devkit_t12/data")


def find_pictures(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    num_images: int | None = None,
) -> Listing:
    """What lies at a root, without opening a picture: cheap enough to check before a model loads.

    Args:
        name: "creatures", "creature_pairs", or what the pictures are called in messages.
        root: As in `open_source`.
        seed: Of the creatures' world.
        num_images: Of creatures, which are drawn and not found.

    Raises:
        ValueError: nothing there; says what was expected and what to do.
    """
    place = os.fspath(root) if root is not None else None
    if place is None and name in ("creatures", "creature_pairs"):
        return _creatures(name, seed, num_images or CREATURES_COUNT)
    place = place or os.environ.get("IMAGENET_DIR")
    if not place:
        raise InputError(
            f"data {name!r} needs pictures: set data.root (or IMAGENET_DIR) to a folder of "
            "pictures, of <wnid>/ folders or of parquet shards, or set data.root="
            f"{HUB}{IMAGENET_ON_HUB} (gated: needs its licence accepted and HF_TOKEN)"
        )
    dataset = place.removeprefix(HUB).removeprefix("datasets/")
    if place.startswith(HUB) or (place == IMAGENET_ON_HUB and not Path(place).exists()):
        return list_parquet(fetch_hub(dataset), f"{dataset} on the Hugging Face hub")
    return _look(Path(place).expanduser())


def _look(root: Path) -> Listing:
    """The form of what lies in a local folder, or in a single file."""
    if not root.exists():
        raise InputError(f"data.root {str(root)!r} does not exist; pass a folder of pictures")
    try:
        listing = _look_at_file(root) if root.is_file() else _look_into(root)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot read data.root {str(root)!r}: {reason}") from error
    if listing is None or not listing.ids:
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


def _creatures(name: str, seed: int, count: int) -> Listing:
    """Single creatures, class after class, or scenes of two, labelled by the one on the left."""
    single_ones = name == "creatures"
    labels = [index % NUM_CLASSES if single_ones else _left(index) for index in range(count)]
    kind = "single creatures" if single_ones else "scenes of two creatures"
    return Listing(
        form=f"{count} {kind} of seed {seed}, drawn by the program",
        ids=tuple(f"{name}-{seed}-{index}" for index in range(count)),
        keys=tuple(CLASS_NAMES[label] for label in labels),
        load=partial(_draw, single_ones, seed),
    )


def _left(index: int) -> int:
    """Class of the creature on the left of a scene: another species every time."""
    return 2 * index % NUM_CLASSES + index // (NUM_CLASSES // 2) % 2


def _draw(single_ones: bool, seed: int, index: int) -> Image.Image:
    if single_ones:
        return single(seed, index, index % NUM_CLASSES).to_pil()
    left = _left(index)
    return pair(seed, index, (left, (left + 6) % NUM_CLASSES)).to_pil()
