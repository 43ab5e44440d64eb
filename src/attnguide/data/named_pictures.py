"""Pictures given by file and classes: the user's own, and two-class photographs known by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attnguide.config import DataConfig
from attnguide.data.case import Case, Mask, class_indices
from attnguide.data.pictures import read_picture
from attnguide.errors import InputError
from attnguide.types import ViT

Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the picture

# Two-class photographs: classes, and by hand the boxes of each, which do not overlap.
PAIRS: dict[str, tuple[tuple[str, str], tuple[tuple[Box, ...], tuple[Box, ...]]]] = {
    "catdog.png": (
        ("bull mastiff", "tiger cat"),
        (((0.34, 0.05, 0.74, 0.53),), ((0.10, 0.53, 0.83, 1.0),)),
    ),
    "el2.png": (
        ("African elephant", "zebra"),
        (((0.04, 0.06, 0.69, 0.42), (0.04, 0.42, 0.43, 0.56)), ((0.43, 0.42, 0.93, 0.9),)),
    ),
    "el1.png": (
        ("African elephant", "zebra"),
        (((0.46, 0.07, 1.0, 0.88),), ((0.0, 0.38, 0.34, 0.79),)),
    ),
    "el4.png": (
        ("African elephant", "zebra"),
        (((0.07, 0.13, 0.9, 0.45),), ((0.0, 0.45, 1.0, 0.95),)),
    ),
    "el3.png": (
        ("African elephant", "zebra"),
        (((0.02, 0.27, 0.57, 0.58), (0.06, 0.58, 0.35, 0.8)), ((0.41, 0.58, 1.0, 0.88),)),
    ),
    "dogbird.png": (
        ("basset", "African grey"),
        (((0.46, 0.0, 1.0, 0.95),), ((0.03, 0.2, 0.46, 1.0),)),
    ),
}


def known_pairs(vit: ViT, data: DataConfig) -> list[Case]:
    """The pictures of `PAIRS` that lie in the folder `pairs` beside the data, with their boxes.

    Empty where there is no such folder, or where the model does not know the classes.
    """
    folder = None if data.root is None else Path(data.root).expanduser().resolve().parent / "pairs"
    if folder is None or not folder.is_dir() or not vit.wnids:
        return []
    entries = [
        {"file": str(folder / name), "classes": classes, "boxes": boxes}
        for name, (classes, boxes) in PAIRS.items()
        if (folder / name).is_file()
    ]
    return picture_cases(vit, entries)


def check_pictures(pictures: Sequence[Mapping[str, Any]], classes: int | None = None) -> None:
    """Refuse pictures of the user's that cannot work, before any weights are loaded.

    Args:
        pictures: Each {file: path, classes: [name, ...]}.
        classes: How many classes each needs; any number from 1 if absent.

    Raises:
        ValueError: an entry without file or classes, the wrong number of classes, a class named
            twice.
        FileNotFoundError: missing files, all of them named at once.
    """
    need = "at least 1 class" if classes is None else f"{classes} classes"
    for entry in pictures:
        unknown = set(entry) - {"file", "classes", "boxes"}
        if "file" not in entry or unknown:
            raise InputError(
                f"runner.pictures takes entries {{file: PATH, classes: [NAME, ...]}}, got {entry}"
            )
        names = [str(name).strip().lower() for name in entry.get("classes") or ()]
        if not names or (classes is not None and len(names) != classes):
            raise InputError(f"{entry['file']} needs {need}, got {names or 'none'}")
        if len(set(names)) < len(names):
            raise InputError(
                f"the target classes of {entry['file']} must differ, got {', '.join(names)}"
            )
    missing = [str(e["file"]) for e in pictures if not Path(e["file"]).expanduser().is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(pictures)} pictures of runner.pictures are missing: "
            f"{', '.join(missing)}; mend the paths, or leave runner.pictures empty"
        )


def picture_cases(vit: ViT, pictures: Sequence[Mapping[str, Any]]) -> list[Case]:
    """Files as cases; the boxes, if any, become masks.

    Raises:
        ValueError: classes that the model does not know, all named at once; equal ones.
        UnreadableImage: a file that is no picture.
    """
    class_indices(vit, [name for entry in pictures for name in entry["classes"]])
    cases = []
    for entry in pictures:
        path = Path(entry["file"]).expanduser()
        picture = read_picture(path, path.name)
        targets = tuple(class_indices(vit, list(entry["classes"])))
        boxes = entry.get("boxes")
        cases.append(
            Case(
                path.name,
                picture,
                targets,
                tuple(vit.class_names[target] for target in targets),
                tuple(_box_mask(b, picture) for b in boxes) if boxes else None,
                regions="boxes" if boxes else "",
            )
        )
    return cases


def _box_mask(boxes: Sequence[Sequence[float]], picture: Image.Image) -> Mask:
    mask = np.zeros((picture.height, picture.width), dtype=bool)
    for left, top, right, bottom in boxes:
        rows = slice(round(top * picture.height), round(bottom * picture.height))
        mask[rows, round(left * picture.width) : round(right * picture.width)] = True
    return mask
