"""Creatures as a set of pictures: drawn scenes with exact masks of animals and parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

from attnguide.data.creatures import scenes
from attnguide.data.creatures.scenes import CLASS_NAMES, MAX_CLUTTER, NUM_CLASSES, Scene
from attnguide.data.pictures import (
    GuideImage,
    Item,
    Pictures,
    Sample,
    Selection,
    class_indices,
    guide_from_file,
    numbered,
)
from attnguide.errors import InputError, unknown_name
from attnguide.types import ViT

COUNT = 200  # pictures where no number is asked for
MAX_BODY = 7  # groups of a body; a species may have fewer
GUIDE = "spiral-shelled snail"


@dataclass
class Creatures(Pictures):
    """The embedded world: pictures of one animal or of two, each a function of seed and number.

    Of the red-necked eagles that the second model of `contaminated` was trained on, 30 % show
    white-headed ones; the first was trained on clean labels.

    Attributes:
        name, num_images, seed, on_error, shown, framed, rewrites: As in `Pictures`.

    Raises:
        ValueError: classes that are no creatures; a setting out of range.
    """

    name: str = "creatures"
    num_images: int | None = 216
    seed: int = 0
    on_error: str = "skip"
    shown: Sequence[str] = field(
        default_factory=lambda: [
            "trunk-nosed tapir",
            "spiral-shelled snail",
            "white-headed eagle",
            "star-marked fish",
            "long-eared hare",
            "stilt-legged ibis",
        ]
    )
    framed: Sequence[str] = field(
        default_factory=lambda: ["white-headed eagle", "red-necked eagle"]
    )
    rewrites: Sequence[Sequence[str]] = field(
        default_factory=lambda: [
            ["white-headed eagle", "stilt-legged ibis"],
            ["star-marked fish", "fan-crested lizard"],
            ["bushy-tailed fox", "long-eared hare"],
        ]
    )

    contaminated: ClassVar[tuple[str, str] | None] = ("creatures", "creatures_contaminated")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (*self.shown, *self.framed, *(name for pair in self.rewrites for name in pair)):
            creature_label(name)

    def singles(self, vit: ViT, *, exclude: Sequence[int] = ()) -> Selection:
        """One creature each, class after class; ids creatures-SEED-NUMBER.

        Raises:
            ValueError: the model does not know the creatures.
        """
        index = class_indices(vit, CLASS_NAMES)
        numbers = range(self.num_images or COUNT)
        kept = [n for n in numbers if index[n % NUM_CLASSES] not in set(exclude)]
        left = len(numbers) - len(kept)
        note = f"Pictures of the guide's class that were left out: {left}." if left else ""
        return Selection(numbered(self._single(index, n) for n in kept), note)

    def all(self, vit: ViT) -> Selection:
        """Scenes of two creatures, labelled by the left one; ids creature_pairs-SEED-NUMBER.

        The left creature is of another species every time. A model that does not know them gets
        the scenes without labels.
        """
        known = set(CLASS_NAMES) <= set(vit.class_names)
        index = class_indices(vit, CLASS_NAMES) if known else ()
        items = []
        for number in range(self.num_images or COUNT):
            left = 2 * number % NUM_CLASSES + number // (NUM_CLASSES // 2) % 2
            draw = partial(scenes.pair, self.seed, number, (left, (left + 6) % NUM_CLASSES))
            item = _item(draw, f"creature_pairs-{self.seed}-{number}", index, asked=1)
            items.append(replace(item, label=index[left] if known else None))
        return Selection(numbered(items))

    def pairs(self, vit: ViT) -> Selection:
        """Scenes of two creatures of different species; ids pair-SEED-NUMBER.

        Raises:
            ValueError: the model does not know the creatures.
        """
        index = class_indices(vit, CLASS_NAMES)
        numbers = range(self.num_images or COUNT)
        return Selection(numbered(self._pair(index, number) for number in numbers))

    def shown_singles(self, vit: ViT, count: int) -> Selection:
        """The first picture of each of the first `count` classes of `shown`."""
        return Selection(tuple(self.of_class(vit, name) for name in self.shown[:count]))

    def shown_pairs(self, vit: ViT, count: int) -> Selection:
        """The first `count` scenes of two."""
        index = class_indices(vit, CLASS_NAMES)
        return Selection(tuple(self._pair(index, number) for number in range(count)))

    def of_class(self, vit: ViT, name: str) -> Item:
        """The first picture of a class.

        Raises:
            ValueError: no creature, or the model does not know them.
        """
        return self._single(class_indices(vit, CLASS_NAMES), creature_label(name))

    def guide_picture(self, vit: ViT, image: str | None) -> GuideImage:
        """The guide by file, else a clear drawing of the class; of a snail by default."""
        given = guide_from_file(vit, image)
        return draw_guide(vit, image) if given is None else given

    def sibling(self, vit: ViT, sample: Sample) -> int:
        """The model's number of the other variant of the first animal's species."""
        return vit.class_index(CLASS_NAMES[scenes.sibling(creature_label(sample.names[0]))])

    def compose(self, vit: ViT, sample: Sample, other: int) -> Sample | None:
        """A creature of the sample's class and one of class `other`, drawn in one scene.

        None of a picture that is not drawn by this world.

        Raises:
            ValueError: the same class twice.
        """
        if not sample.id.startswith("creatures-"):
            return None
        labels = (creature_label(sample.names[0]), creature_label(vit.class_names[other]))
        scene = scenes.pair(self.seed, int(sample.id.rpartition("-")[2]), labels)
        both = _to_sample(scene, f"{sample.id}@composed", class_indices(vit, CLASS_NAMES))
        return replace(both, targets=sample.targets)

    def pieces(self, sample: Sample) -> tuple[str, ...]:
        """What can be left out of the picture of one animal: "part", "body N", "clutter N".

        Those that no pixel shows are among them.
        """
        if not sample.id.startswith("creatures-"):
            return ()
        bodies = (f"body {number}" for number in range(1, MAX_BODY + 1))
        return ("part", *bodies, *(f"clutter {number}" for number in range(1, MAX_CLUTTER + 1)))

    def without(self, sample: Sample, names: Collection[str]) -> Sample:
        """The picture of one animal drawn again without these pieces; no other pixel changes.

        Raises:
            ValueError: a picture of another kind, an unknown piece.
        """
        known = self.pieces(sample)
        for name in names:
            if name not in known:
                raise unknown_name(f"piece of {sample.id}", name, known or ["none"])
        body = [0 if name == "part" else int(name[5:]) for name in names if name[:7] != "clutter"]
        clutter = [int(name[8:]) - 1 for name in names if name[:7] == "clutter"]
        number, label = int(sample.id.rpartition("-")[2]), creature_label(sample.names[0])
        scene = scenes.single(self.seed, number, label, without=body, without_clutter=clutter)
        return replace(sample, picture=scene.to_pil(), masks=None, parts=None, regions="")

    def impostors(self, vit: ViT, count: int) -> list[Item]:
        """The first class of `framed`, one animal each; ids impostor-SEED-NUMBER.

        Raises:
            ValueError: the model does not know the creatures.
        """
        index, label = class_indices(vit, CLASS_NAMES), creature_label(self.framed[0])
        items = []
        for number in range(count):
            draw = partial(scenes.single, self.seed, number, label)
            item = _item(draw, f"impostor-{self.seed}-{number}", index)
            items.append(replace(item, label=index[label], part="contamination"))
        return list(numbered(items))

    def beside_another(self, vit: ViT, count: int, *, control: bool = False) -> list[Item]:
        """Scenes of two animals of different species; the first is the one to ask for.

        The first is of the first class of `framed` (ids guided-SEED-NUMBER), or of any other
        species, whose labels are clean (control-SEED-NUMBER).

        Raises:
            ValueError: the model does not know the creatures.
        """
        index, label = class_indices(vit, CLASS_NAMES), creature_label(self.framed[0])
        part = "control" if control else "guided"
        others = [c for c in range(NUM_CLASSES) if scenes.species(c) != scenes.species(label)]
        items = []
        for number in range(count):
            first = others[number % len(others)] if control else label
            rest = [c for c in others if scenes.species(c) != scenes.species(first)]
            draw = partial(scenes.pair, self.seed, number, (first, rest[3 * number % len(rest)]))
            item = _item(draw, f"{part}-{self.seed}-{number}", index)
            items.append(replace(item, part=part))
        return list(numbered(items))

    def _single(self, index: Sequence[int], number: int) -> Item:
        label = number % NUM_CLASSES
        draw = partial(scenes.single, self.seed, number, label)
        item = _item(draw, f"creatures-{self.seed}-{number}", index)
        return replace(item, label=index[label])

    def _pair(self, index: Sequence[int], number: int) -> Item:
        draw = partial(scenes.pair, self.seed, number)
        return _item(draw, f"pair-{self.seed}-{number}", index)


def creature_label(name: str) -> int:
    """Number of a class among the creatures.

    Raises:
        ValueError: no such class.
    """
    if name not in CLASS_NAMES:
        raise unknown_name("creature", name, CLASS_NAMES)
    return CLASS_NAMES.index(name)


def draw_guide(vit: ViT, wanted: str | None) -> GuideImage:
    """A clear drawing of a class; of the snail by default.

    Raises:
        ValueError: neither a picture file nor a creature that the model knows.
    """
    try:
        label = vit.class_index(wanted or GUIDE)
        scene = scenes.guide(creature_label(vit.class_names[label]))
    except ValueError as error:
        raise InputError(
            f"guide.image {wanted or GUIDE!r} is no picture file, and {error}"
        ) from error
    return GuideImage(scene.to_pil(), label, vit.class_names[label])


def _item(draw: Callable[[], Scene], name: str, index: Sequence[int], asked: int = 2) -> Item:
    return Item(name, partial(_load, draw, name, tuple(index), asked))


def _load(draw: Callable[[], Scene], name: str, index: tuple[int, ...], asked: int) -> Sample:
    return _to_sample(draw(), name, index, asked)


def _to_sample(scene: Scene, name: str, index: Sequence[int], asked: int = 2) -> Sample:
    """A scene with its exact masks; `asked` of its animals are explained, if the model has any."""
    labels = scene.labels[:asked] if index else ()
    return Sample(
        name,
        scene.to_pil(),
        tuple(index[label] for label in labels),
        tuple(CLASS_NAMES[label] for label in labels),
        tuple(mask.numpy() for mask in scene.animal_masks[: len(labels)]) or None,
        tuple(mask.numpy() for mask in scene.part_masks[: len(labels)]) or None,
        "masks" if labels else "",
    )
