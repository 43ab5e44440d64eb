"""Photographs given by file, classes and boxes: the user's own, and two-class ones beside data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attnguide.data.pictures import Item, Mask, Sample, Selection, class_indices, knows, numbered
from attnguide.errors import InputError
from attnguide.models.reader import picture_bytes, read_picture
from attnguide.store.files import Source
from attnguide.types import ViT

Boxes = Sequence[Sequence[float]]  # left, top, right, bottom each, as shares of the picture


def check_pictures(pictures: Sequence[Mapping[str, Any]], classes: int | None = None) -> None:
    """Refuse pictures of the user's that cannot work, before any weights are loaded.

    Args:
        pictures: Each {file: path, classes: [name, ...]}.
        classes: How many classes each needs; any number from 1 if absent.

    Raises:
        ValueError: an entry without file or classes, the wrong number of classes, a class named
            twice, boxes that are none, two pictures of one file name.
        FileNotFoundError: missing files, all of them named at once.
    """
    for entry in pictures:
        if "file" not in entry or set(entry) - {"file", "classes", "boxes"}:
            raise InputError(
                f"runner.pictures takes entries {{file: PATH, classes: [NAME, ...]}}, got {entry}"
            )
        names = [str(name).strip().lower() for name in entry.get("classes") or ()]
        if len(names) != (classes or max(1, len(names))):
            need = f"{classes} classes" if classes else "at least 1 class"
            raise InputError(f"{entry['file']} needs {need}, got {names or 'none'}")
        if len(set(names)) < len(names):
            raise _equal(str(entry["file"]), names)
        if entry.get("boxes"):
            check_boxes(str(entry["file"]), len(names), entry["boxes"])
    files = [Path(entry["file"]).expanduser() for entry in pictures]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(pictures)} pictures of runner.pictures are missing: "
            f"{', '.join(missing)}; correct the paths, or leave runner.pictures empty"
        )
    twice = [name for name, count in Counter(file.name for file in files).items() if count > 1]
    if twice:
        raise InputError(
            f"runner.pictures names {twice[0]} twice, and results are kept by file name; give all "
            "its classes in one entry, or rename a copy"
        )


def _equal(name: str, classes: Sequence[str]) -> InputError:
    return InputError(f"the target classes of {name} must differ, got {', '.join(classes)}")


def check_boxes(name: str, classes: int, boxes: Sequence[Boxes]) -> None:
    """Refuse boxes that do not fit the classes, or do not lie in the picture.

    Raises:
        ValueError: which picture, what was expected, what came.
    """
    try:
        fits = len(boxes) == classes and all(len(own) > 0 for own in boxes)
        for left, top, right, bottom in (map(float, box) for own in boxes for box in own):
            fits = fits and 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"the boxes of {name} must be a list for each of its {classes} classes, of boxes "
            f"[left, top, right, bottom] as shares of the picture in [0, 1], got {boxes}"
        )


def given_pictures(vit: ViT, pictures: Sequence[Mapping[str, Any]]) -> Selection:
    """Files as items; the boxes, if any, become masks.

    Raises:
        ValueError: classes that the model does not know, all named at once; equal ones.
    """
    class_indices(vit, [name for entry in pictures for name in entry["classes"]])
    items = []
    for entry in pictures:
        path = Path(entry["file"]).expanduser().absolute()
        targets = tuple(class_indices(vit, list(entry["classes"])))
        names = tuple(vit.class_names[target] for target in targets)
        if len(set(targets)) < len(targets):
            raise _equal(path.name, names)
        label = targets[0] if len(targets) == 1 else None
        boxes = entry.get("boxes") or ()
        load = partial(_load, path, targets, names, boxes)
        facts = f"classes {targets}, boxes {boxes}" if len(targets) > 1 or boxes else ""
        source = Source(str(path), partial(picture_bytes, path, path.name))
        items.append(Item(path.name, load, label, sources=(source,), facts=facts))
    return Selection(numbered(items))


def boxed_pictures(vit: ViT, folder: Path, boxes: Path) -> Selection:
    """The pictures of a folder whose boxes stand in a file.

    Args:
        vit: Numbers the classes.
        folder: Where the pictures are.
        boxes: Json: {file name: {"classes": [A, B], "boxes": [boxes of A, boxes of B]}}, each box
            [left, top, right, bottom] as shares of the picture.

    Returns:
        Items in the order of the file, without pictures that are not there; those of classes that
        the model does not know are counted in `note`.

    Raises:
        ValueError: no such file; boxes that are none.
    """
    here = [
        {"file": str(folder / name), **entry}
        for name, entry in read_boxes(boxes).items()
        if (folder / name).is_file()
    ]
    known = [entry for entry in here if all(knows(vit, name) for name in entry["classes"])]
    left = len(here) - len(known)
    note = f"Pictures with boxes of classes that {vit.name} does not know: {left}." if left else ""
    return Selection(given_pictures(vit, known).items, note)


def read_boxes(file: Path) -> dict[str, dict[str, Any]]:
    """Classes and boxes by the name of the picture.

    Raises:
        ValueError: no such file, no json, or boxes that are none.
    """
    try:
        stored = json.loads(file.read_text())
        entries = {str(name): dict(entry) for name, entry in stored.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"cannot read the boxes in {file} ({error}); expected "
            '{"FILE": {"classes": [A, B], "boxes": [[[left, top, right, bottom], ...], ...]}}'
        ) from error
    for name, entry in entries.items():
        if set(entry) != {"classes", "boxes"} or len(entry["classes"]) != 2:
            raise InputError(f"{file}: {name} needs two classes and their boxes, got {entry}")
        check_boxes(name, 2, entry["boxes"])
    return entries


def _load(path: Path, targets: tuple[int, ...], names: tuple[str, ...], boxes: Any) -> Sample:
    picture = read_picture(path, path.name)
    masks = tuple(_box_mask(own, picture) for own in boxes) or None
    return Sample(path.name, picture, targets, names, masks, regions="boxes" if masks else "")


def _box_mask(boxes: Boxes, picture: Image.Image) -> Mask:
    mask = np.zeros((picture.height, picture.width), dtype=bool)
    for left, top, right, bottom in boxes:
        rows = slice(round(top * picture.height), round(bottom * picture.height))
        mask[rows, round(left * picture.width) : round(right * picture.width)] = True
    return mask
