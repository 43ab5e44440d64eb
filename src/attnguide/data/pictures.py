"""What every set of pictures offers: items known by name, loaded as samples, divided last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnguide.errors import InputError, unknown_name
from attnguide.models.reader import picture_bytes, read_picture
from attnguide.store.files import Source
from attnguide.types import ViT

Mask = NDArray[np.bool_]
T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """A picture with the classes to explain in it.

    Attributes:
        id: Name in tables.
        picture: Upright RGB.
        targets: Class indices of the model, all different; empty where no class is known.
        names: Of the targets.
        masks: Pixels (height, width) of each target's object, disjoint; None where not known.
        parts: Pixels of each object's distinguishing part; None where not known.
        regions: What the masks are: "masks", "boxes", "cut-outs", "halves", or "" without.
        as_is: The picture is the model's input already: neither resize nor crop it.
    """

    id: str
    picture: Image.Image
    targets: tuple[int, ...]
    names: tuple[str, ...]
    masks: tuple[Mask, ...] | None = None
    parts: tuple[Mask, ...] | None = None
    regions: str = ""
    as_is: bool = False

    def __post_init__(self) -> None:
        if len(set(self.targets)) < len(self.targets):
            raise InputError(
                f"the target classes of {self.id} must differ, got {', '.join(self.names)}; "
                "name two different classes"
            )


@dataclass(frozen=True)
class Item:
    """One unit of work, known by name before its picture is opened; it can be pickled.

    What it is: id, load, label, sources, facts. What the study does with it: the others.

    Attributes:
        id: Of the sample.
        load: Makes the sample; may raise `UnreadableImage`.
        label: Class index of the model; None where not known, or where there are two.
        unit: What is independent: items made of the same pictures share it; "" means the id.
        part: Part of the study that it belongs to; "" is the main one.
        shown: Place in the figure; None where it is not shown.
        measured: Whether it counts in the statistics.
        number: Place in the complete list of its part, before division.
        sources: The files that its pixels come from; none where it is drawn.
        facts: What else decides the sample, as text: classes, boxes.
    """

    id: str
    load: Callable[[], Sample]
    label: int | None = None
    unit: str = ""
    part: str = ""
    shown: int | None = None
    measured: bool = True
    number: int = 0
    sources: tuple[Source, ...] = ()
    facts: str = ""


@dataclass(frozen=True)
class Selection:
    """Items in order, and one sentence about what was left out ("" if nothing)."""

    items: tuple[Item, ...]
    note: str = ""


@dataclass(frozen=True)
class GuideImage:
    """A picture of another class, that a guide shows.

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


class Pictures(ABC):
    """A set of pictures: which of them are measured and shown, for any model.

    A new set is a dataclass with these attributes and the abstract methods. The others answer for
    pictures that are not drawn: no boxes, no siblings, nothing to leave out, no wrong labels.

    Attributes:
        name: What records and messages call it.
        num_images: How many pictures are chosen, evenly over classes; None for all.
        seed: Of the choice; of creatures, of the world.
        on_error: What becomes of an unreadable picture: "skip" or "raise".
        shown: Classes whose first pictures figures show.
        framed: (class of a picture, class that such pictures were mixed into).
        rewrites: (class of a picture, class to rewrite it to) of each example.
        contaminated: Names of the models of clean and of contaminated labels, where there are such.
    """

    name: str
    num_images: int | None
    seed: int
    on_error: str
    shown: Sequence[str]
    framed: Sequence[str]
    rewrites: Sequence[Sequence[str]]
    contaminated: ClassVar[tuple[str, str] | None] = None

    def __post_init__(self) -> None:
        """Refuse settings that no set of pictures can have.

        Raises:
            ValueError: the first of them that is wrong.
        """
        if self.on_error not in ("skip", "raise"):
            raise unknown_name("data.on_error", self.on_error, ("skip", "raise"))
        if self.num_images is not None and self.num_images < 1:
            raise InputError(f"data.num_images must be at least 1, got {self.num_images}")
        if self.seed < 0:
            raise InputError(f"data.seed must not be negative, got {self.seed}")
        for name, pairs in (("framed", [self.framed]), ("rewrites", self.rewrites)):
            for pair in pairs:
                if len(pair) != 2 or pair[0] == pair[1]:
                    raise InputError(f"data.{name} takes two different classes, got {list(pair)}")

    def check(self, *, labels: bool) -> None:  # noqa: B027
        """Refuse what cannot work, before any weights are loaded.

        Args:
            labels: Whether every picture must have one.

        Raises:
            ValueError: nothing there, or not what it seems; says what was expected and what to do.
        """

    @abstractmethod
    def singles(self, vit: ViT, *, exclude: Sequence[int] = ()) -> Selection:
        """The chosen pictures, of one class each, without those of the classes `exclude`.

        Raises:
            ValueError: pictures without labels.
        """

    @abstractmethod
    def all(self, vit: ViT) -> Selection:
        """Every chosen picture, with a label or without."""

    @abstractmethod
    def pairs(self, vit: ViT) -> Selection:
        """Pictures of two classes each, made from the complete choice.

        Raises:
            ValueError: no two pictures of different classes; pictures without labels.
        """

    @abstractmethod
    def shown_singles(self, vit: ViT, count: int) -> Selection:
        """The first picture, in the whole data, of each of the first `count` classes of `shown`.

        Raises:
            ValueError: classes that the model does not know.
        """

    @abstractmethod
    def shown_pairs(self, vit: ViT, count: int) -> Selection:
        """Up to `count` pictures of two classes: those with boxes, if there are any."""

    @abstractmethod
    def of_class(self, vit: ViT, name: str) -> Item:
        """The first picture of a class in the whole data.

        Raises:
            ValueError: a class that the model does not know, or without a picture.
        """

    @abstractmethod
    def guide_picture(self, vit: ViT, image: str | None) -> GuideImage:
        """The guide by file, by class, or the default one.

        Args:
            vit: Numbers the classes.
            image: Path of a picture; or a class (name, wnid, index) whose first picture is used.

        Raises:
            ValueError: neither a file nor a class, or a class without pictures.
        """

    def boxed(self, vit: ViT) -> Selection:  # noqa: ARG002
        """Photographs of two classes with boxes around each; empty where there are none."""
        return Selection(())

    def sibling(self, vit: ViT, sample: Sample) -> int | None:  # noqa: ARG002
        """The other variant of the first target's species; None where there are no species."""
        return None

    def compose(self, vit: ViT, sample: Sample, other: int) -> Sample | None:  # noqa: ARG002
        """One scene of the sample's class and of class `other`; None where none can be drawn."""
        return None

    def pieces(self, sample: Sample) -> tuple[str, ...]:  # noqa: ARG002
        """What can be left out of a drawn picture; empty where nothing can."""
        return ()

    def without(self, sample: Sample, names: Collection[str]) -> Sample:
        """The picture drawn again without these pieces.

        Raises:
            ValueError: a picture that is not drawn; unknown pieces.
        """
        raise InputError(f"{sample.id} is no drawing, so {', '.join(names)} cannot be left out")

    def impostors(self, vit: ViT, count: int) -> list[Item]:  # noqa: ARG002
        """Pictures of the class that was mixed into another; empty where none was."""
        return []

    def beside_another(self, vit: ViT, count: int, *, control: bool = False) -> list[Item]:  # noqa: ARG002
        """The same beside another animal; with `control`, animals whose labels are clean."""
        return []


def guide_from_file(vit: ViT, image: str | None) -> GuideImage | None:
    """The picture at this path, of the class that its folder is named by; None if no file.

    Raises:
        UnreadableImage: a file that is no picture.
    """
    path = Path(image).expanduser() if image else None
    if path is None or not path.is_file():
        return None
    folders = (path.absolute().parent.name, path.resolve().parent.name)  # a link and its goal
    known = [class_name(vit, name) for name in folders if not name.isdigit()]
    label = next((vit.class_index(name) for name in known if knows(vit, name)), None)
    source = Source(str(path.absolute()), partial(picture_bytes, path, path.name))
    return GuideImage(read_picture(path, path.name), label, path.name, (source,))


def share(items: Sequence[T], shard: int, num_shards: int) -> Sequence[T]:
    """This process's equal, contiguous part of a complete list.

    The list is divided here and nowhere else, after everything was chosen, paired and limited.

    Args:
        items: The complete list.
        shard: Which part, from 0.
        num_shards: How many parts there are.
    """
    start, stop = (len(items) * part // num_shards for part in (shard, shard + 1))
    return items[start:stop]


def numbered(items: Iterable[Item]) -> tuple[Item, ...]:
    """The items with their places in the complete list."""
    return tuple(replace(item, number=number) for number, item in enumerate(items))


def class_indices(vit: ViT, names: Sequence[str | int]) -> list[int]:
    """The model's number of every class.

    Raises:
        ValueError: unknown or ambiguous ones, all of them.
    """
    indices, wrong = [], {}
    for name in names:
        try:
            indices.append(vit.class_index(name))
        except ValueError as error:
            wrong[str(name)] = str(error)
    if wrong:
        raise InputError("; ".join(wrong.values()))
    return indices


def class_name(vit: ViT, folder: str) -> str:
    """The class that a folder or a label names, with blanks for the underscores of folders."""
    return folder if folder in vit.class_names else folder.replace("_", " ")


def knows(vit: ViT, name: str) -> bool:
    """Whether the model has such a class."""
    try:
        vit.class_index(name)
    except ValueError:
        return False
    return True


def retargeted(load: Callable[[], Sample], vit: ViT, name: str, targets: tuple[int, ...]) -> Sample:
    """A sample under another id, with other classes to explain."""
    names = tuple(vit.class_names[target] for target in targets)
    return replace(load(), id=name, targets=targets, names=names)


def swapped(selection: Selection) -> Selection:
    """The same items, each with its classes in the other order."""
    items = (replace(item, load=partial(_swap, item.load)) for item in selection.items)
    return Selection(tuple(items), selection.note)


def _swap(load: Callable[[], Sample]) -> Sample:
    sample = load()
    masks = None if sample.masks is None else sample.masks[::-1]
    return replace(sample, targets=sample.targets[::-1], names=sample.names[::-1], masks=masks)
