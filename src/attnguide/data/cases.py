"""Which pictures a figure shows and measures, at every scale.

Creatures come with exact masks. Photographs come from the run's data by class, and two-class ones
from a folder `pairs` beside it, with boxes; where that folder is missing, two photographs are set
side by side, each a region of its own. Or the user names files and classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from attnguide.config import DataConfig
from attnguide.data.case import Case, Cases, class_indices
from attnguide.data.creatures import scenes as creatures
from attnguide.data.find import CREATURES_COUNT
from attnguide.data.named_pictures import known_pairs, picture_cases
from attnguide.data.source import ImageSource, open_source
from attnguide.errors import InputError
from attnguide.types import ViT

log = logging.getLogger(__name__)


def is_creatures(data: DataConfig) -> bool:
    """Whether the pictures are drawn, not found."""
    return data.name in ("creatures", "creature_pairs") and data.root is None


def of_kind(data: DataConfig, creature: Sequence[str], photographed: Sequence[str]) -> list[str]:
    """The classes that a figure names for pictures of this kind."""
    return list(creature if is_creatures(data) else photographed)


def creature_case(vit: ViT, scene: creatures.Scene, name: str) -> Case:
    """A scene with its exact masks.

    Raises:
        ValueError: the model does not know the creatures.
    """
    names = tuple(creatures.CLASS_NAMES[label] for label in scene.labels)
    return Case(
        name,
        scene.to_pil(),
        tuple(class_indices(vit, names)),
        names,
        tuple(mask.numpy() for mask in scene.animal_masks),
        tuple(part.numpy() for part in scene.part_masks),
        "masks",
    )


def single_cases(vit: ViT, data: DataConfig, exclude: Sequence[int] = ()) -> Cases:
    """Pictures of one class each, labelled; this process's share of `data.num_images`.

    Args:
        vit: Numbers the classes.
        data: Which pictures.
        exclude: Classes to leave out, such as the guide's; they are counted in `note`.

    Raises:
        ValueError: as `open_source`; or pictures without labels.
    """
    if is_creatures(data):
        numbers = range(data.num_images or CREATURES_COUNT)
        own = class_indices(vit, creatures.CLASS_NAMES)
        kept = [n for n in numbers if own[n % len(own)] not in set(exclude)]
        mine = _share(kept, data)
        ids = [f"creatures-{data.seed}-{n}" for n in mine]
        return Cases(ids, partial(_creature, vit, data.seed, mine), note=_note(numbers, kept))
    source = _open(vit, data, exclude)
    labels = source.require_labels()
    note = _note(range(source.excluded), ())
    return Cases(source.ids, partial(_photograph, vit, source, labels), source.unreadable, note)


def pair_cases(vit: ViT, data: DataConfig) -> Cases:
    """`data.num_images` pictures of two classes each: creature scenes, or photographs in halves.

    Raises:
        ValueError: as `open_source`; or no two pictures of different classes.
    """
    if is_creatures(data):
        numbers = _share(range(data.num_images or CREATURES_COUNT), data)
        ids = [f"pair-{data.seed}-{n}" for n in numbers]
        return Cases(ids, partial(_creature_pair, vit, data.seed, numbers))
    source = _open(vit, data)
    labels = source.require_labels()
    half = (len(source) + 1) // 2
    both = [(i, (i + half) % len(source)) for i in range(len(source))]
    both = [(i, j) for i, j in both if labels[i] != labels[j]]
    if not both:
        raise InputError(f"no two pictures of different classes in {source.form}; add some")
    ids = [f"{source.ids[i]}+{source.ids[j]}" for i, j in both]
    same = len(source) - len(both)
    note = f"Pairs of one class twice that were left out: {same}." if same else ""

    def stitch(number: int) -> Case:
        return side_by_side(vit, *(_photograph(vit, source, labels, i) for i in both[number]))

    return Cases(ids, stitch, source.unreadable, note)


def composed_case(vit: ViT, data: DataConfig, case: Case, other: int) -> Case:
    """A scene of a creature of the case's class and one of class `other`, drawn together.

    Raises:
        ValueError: the same class twice.
    """
    labels = [creatures.CLASS_NAMES.index(vit.class_names[t]) for t in (case.targets[0], other)]
    number = int(case.id.rpartition("-")[2])
    scene = creatures.pair(data.seed, number, (labels[0], labels[1]))
    return replace(creature_case(vit, scene, f"{case.id}@composed"), targets=case.targets)


def side_by_side(vit: ViT, left: Case, right: Case) -> Case:
    """Two pictures squashed to the halves of the model's input, each half a region."""
    height, width = vit.image_size
    edge = round(vit.grid[1] / 2) * vit.patch_size[1]
    canvas = Image.new("RGB", (width, height))
    canvas.paste(left.picture.resize((edge, height), Image.Resampling.BICUBIC), (0, 0))
    canvas.paste(right.picture.resize((width - edge, height), Image.Resampling.BICUBIC), (edge, 0))
    own = np.zeros((height, width), dtype=bool)
    own[:, :edge] = True
    return Case(
        f"{left.id}+{right.id}",
        canvas,
        (left.targets[0], right.targets[0]),
        (left.names[0], right.names[0]),
        (own, ~own),
        regions="halves",
        as_is=True,
    )


def shown_singles(
    vit: ViT, data: DataConfig, classes: Sequence[str], pictures: Sequence[Mapping[str, Any]] = ()
) -> list[Case]:
    """What a figure shows: the user's pictures if there are any, else one of each class.

    Classes without a picture are named in the log and left out; where none is left, the first
    pictures of the data take their place.

    Args:
        vit: Numbers the classes.
        data: Where pictures of the classes are looked for.
        classes: Names, indices or wnids.
        pictures: As in `check_pictures`.

    Raises:
        ValueError: a class that the model does not know.
    """
    if pictures:
        return picture_cases(vit, pictures)
    wanted = class_indices(vit, classes)
    if is_creatures(data):
        labels = [creatures.CLASS_NAMES.index(vit.class_names[index]) for index in wanted]
        return [_creature(vit, data.seed, range(creatures.NUM_CLASSES), n) for n in labels]
    source = open_source(vit, name=data.name, root=data.root, seed=data.seed)
    known = source.require_labels()
    missing = [name for name, index in zip(classes, wanted, strict=True) if index not in known]
    found = [known.index(index) for index in wanted if index in known]
    if missing:
        log.warning("no picture of %s in %s; not shown", ", ".join(missing), source.form)
    firsts = [known.index(label) for label in dict.fromkeys(known)]
    return [_photograph(vit, source, known, n) for n in found or firsts[: len(wanted)]]


def shown_pairs(
    vit: ViT, data: DataConfig, count: int, pictures: Sequence[Mapping[str, Any]] = ()
) -> list[Case]:
    """What a figure shows of two-class pictures: the user's, else up to `count` known ones.

    Raises:
        ValueError: as `pair_cases` and `picture_cases`.
    """
    if pictures:
        return picture_cases(vit, pictures)
    if is_creatures(data):
        return [_creature_pair(vit, data.seed, range(count), n) for n in range(count)]
    known = known_pairs(vit, data)
    if known:
        return known[:count]
    log.warning("no folder of two-class pictures beside %s; stitching two of it", data.root)
    cases = pair_cases(vit, DataConfig(name=data.name, root=data.root, seed=data.seed))
    step = max(1, len(cases) // count)
    found = (cases[number] for number in range(0, len(cases), step))
    return [case for case in found if case is not None][:count]


def _open(vit: ViT, data: DataConfig, exclude: Sequence[int] = ()) -> ImageSource:
    return open_source(
        vit,
        name=data.name,
        root=data.root,
        on_error=data.on_error,
        seed=data.seed,
        num_images=data.num_images,
        shard=data.shard,
        num_shards=data.num_shards,
        exclude=exclude,
    )


def _share(numbers: Sequence[int], data: DataConfig) -> Sequence[int]:
    """This process's part."""
    cuts = (len(numbers) * part // data.num_shards for part in (data.shard, data.shard + 1))
    return numbers[slice(*cuts)]


def _note(numbers: Sequence[int], kept: Sequence[int]) -> str:
    left = len(numbers) - len(kept)
    return f"Pictures of the guide's class that were left out: {left}." if left else ""


def _creature(vit: ViT, seed: int, numbers: Sequence[int], index: int) -> Case:
    number = numbers[index]
    scene = creatures.single(seed, number, number % creatures.NUM_CLASSES)
    return creature_case(vit, scene, f"creatures-{seed}-{number}")


def _creature_pair(vit: ViT, seed: int, numbers: Sequence[int], index: int) -> Case:
    number = numbers[index]
    return creature_case(vit, creatures.pair(seed, number), f"pair-{seed}-{number}")


def _photograph(vit: ViT, source: ImageSource, labels: Sequence[int], number: int) -> Case:
    label = labels[number]
    return Case(source.ids[number], source.load(number), (label,), (vit.class_names[label],))
