"""Photographs given by file, classes and boxes: the user's own, and two-class ones beside data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from attnguide.data.pictures import Item, Mask, Sample, Selection, class_indices, knows, numbered
from attnguide.errors import InputError
from attnguide.models.reader import picture_bytes, read_picture
from attnguide.store.files import Source
from attnguide.types import ViT

Boxes = Sequence[Sequence[float]]  # left, top, right, bottom each, as shares of the picture
FEATHER = 0.08  # width of the soft edge of a cut-out, as a share of its shorter side
ROOM = 0.95  # share of half the canvas, or of its height, that a cut-out fills
THIN = 2.0  # width over height, or height over width, of a cut-out that would be small


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


class CutOut(NamedTuple):
    """An object of a picture with boxes: its largest box, RGBA with soft edges."""

    file: Path
    box: Sequence[float]
    piece: Image.Image
    target: int
    name: str


def cut_outs(
    vit: ViT, folder: Path, boxes: Path, grounds: Sequence[Item], count: int, seed: int
) -> Selection:
    """Objects cut out of two pictures with boxes, side by side on a corner of a photograph.

    Args:
        vit: Numbers the classes, and gives the size.
        folder, boxes: As in `boxed_pictures`.
        grounds: Photographs, each used once, beneath objects of other classes.
        count: How many, at most.
        seed: Of the choice and the places.

    Returns:
        Items whose note says of how many objects they are made: they tell about other backgrounds
        and places, not about other animals.
    """
    objects = [
        CutOut(folder / name, box, piece, vit.class_index(kind), kind)
        for name, entry in read_boxes(boxes).items()
        for kind, own in zip(entry["classes"], entry["boxes"], strict=True)
        if (folder / name).is_file() and knows(vit, kind)
        for box in [max(own, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))]
        for piece in [_cut(folder / name, box, vit.image_size)]
        if max(piece.size) <= THIN * min(piece.size)
    ]
    pairs = [pair for pair in permutations(objects, 2) if pair[0].target != pair[1].target]
    rng, items = np.random.default_rng(seed), []
    for number, ground in enumerate(grounds[:count] if pairs else ()):
        pair = pairs[int(rng.integers(len(pairs)))]
        if ground.label not in [own.target for own in pair]:
            name = f"{'+'.join(own.file.stem for own in pair)} on {ground.id}"
            load = partial(_compose, name, ground, pair, vit.image_size, [seed, number])
            sources = (*ground.sources, *(Source(str(own.file)) for own in pair))
            facts = f"cut-outs {[(own.target, own.box) for own in pair]}"
            items.append(Item(name, load, sources=sources, facts=facts))
    note = f"{len(items)} compositions are made of {len(objects)} objects." if items else ""
    return Selection(tuple(items), note)


def _cut(file: Path, box: Sequence[float], size: tuple[int, int]) -> Image.Image:
    """The content of a box, RGBA with soft edges, nearly as large as half the canvas."""
    picture = read_picture(file, file.name)
    left, top, right, bottom = (round(side) for side in np.multiply(box, 2 * picture.size))
    room = round(ROOM * size[1] / 2), round(ROOM * size[0])
    piece = ImageOps.contain(picture.crop((left, top, right, bottom)), room)
    edge = round(FEATHER * min(piece.size))
    alpha = Image.new("L", piece.size)
    alpha.paste(255, (edge, edge, piece.width - edge, piece.height - edge))
    piece.putalpha(alpha.filter(ImageFilter.GaussianBlur(edge / 2)))
    return piece


def _compose(
    name: str, ground: Item, pair: Sequence[CutOut], size: tuple[int, int], seed: Sequence[int]
) -> Sample:
    """An object in each half of the ground's upper left corner, at random places."""
    height, width = size
    rng, masks, photograph = np.random.default_rng(seed), [], ground.load().picture
    corner = photograph.crop((0, 0, photograph.width // 2, photograph.height // 2))
    canvas = ImageOps.fit(corner, (width, height), Image.Resampling.BICUBIC)
    for half, own in enumerate(pair):
        left = half * width // 2 + int(rng.integers(width // 2 - own.piece.width + 1))
        top = int(rng.integers(height - own.piece.height + 1))
        canvas.paste(own.piece, (left, top), own.piece)
        mask = Image.new("L", canvas.size)
        mask.paste(own.piece.getchannel("A"), (left, top))
        masks.append(np.asarray(mask) > 127)
    targets, names = zip(*((own.target, own.name) for own in pair), strict=True)
    return Sample(name, canvas, targets, names, tuple(masks), regions="cut-outs", as_is=True)


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
