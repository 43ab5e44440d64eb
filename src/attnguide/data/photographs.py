"""Photographs: single ones, pairs set side by side, and two-class ones with boxes."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

from attnguide.data.choice import Labels, listed, number_classes, require_labels, sample
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.creatures.world import draw_guide
from attnguide.data.dataset import Listing
from attnguide.data.find import find_photographs
from attnguide.data.given import boxed_pictures, read_boxes
from attnguide.data.guide_image import GuideImage, guide_from_file
from attnguide.data.pairs import pair_up
from attnguide.data.pictures import (
    Item,
    Sample,
    Selection,
    check_choice,
    class_indices,
    knows,
    numbered,
)
from attnguide.data.places import load_photograph, source_of
from attnguide.errors import InputError
from attnguide.store.sources import checksum, stamp
from attnguide.types import ViT

log = logging.getLogger(__name__)
GUIDE = "zebra"  # the paper's
SHOWN = ["tusker", "snail", "bald eagle", "bull mastiff", "zebra", "conch"]
Items = list[Item]  # `list` is a field of the class


@dataclass
class Photographs:
    """Pictures found in folders, with a csv or ImageNet's devkit, in parquet, or on the hub.

    Attributes:
        name, num_images, seed, on_error, shown, framed, rewrites: As in `Pictures`.
        root: Folder, parquet file, picture, or "hf://owner/dataset"; else the environment's
            IMAGENET_DIR.
        list: File with the pictures to take, exactly these and in this order: ids or paths one
            per line, or a csv, whose column of labels comes before the data's own classes.
        boxes: File with the boxes of the two-class pictures in the folder `pairs` beside the
            data, as in `boxed_pictures`; else `boxes.json` among them.

    Raises:
        ValueError: a setting out of range.
    """

    name: str = "folder"
    root: str | None = None
    num_images: int | None = None
    seed: int = 0
    on_error: str = "skip"
    list: str | None = None
    boxes: str | None = None
    shown: Sequence[str] = field(default_factory=SHOWN.copy)
    framed: Sequence[str] = field(default_factory=lambda: ["bald eagle", "kite"])
    rewrites: Sequence[Sequence[str]] = field(
        default_factory=lambda: [
            ["tusker", "bull mastiff"],
            ["snail", "zebra"],
            ["bald eagle", "kite"],
        ]
    )

    contaminated: ClassVar[tuple[str, str] | None] = None

    def __post_init__(self) -> None:
        check_choice(self)

    def check(self, *, labels: bool) -> None:
        """Refuse pictures, lists and boxes that are not there, before any weights are loaded.

        Args:
            labels: Whether every picture must have a class.

        Raises:
            ValueError: what was expected, what came, what to do.
        """
        listing = self._listing
        count = len(listing.dataset)
        if self.list is not None and self.num_images is not None and self.num_images < count:
            raise InputError(
                f"data.list names {count} pictures and data.num_images={self.num_images} would "
                "leave some out; pass data.num_images=null, or a shorter list"
            )
        if labels:
            require_labels(
                listing, Labels(tuple(None if key is None else 0 for key in listing.column("key")))
            )
        if self.boxes is not None:
            read_boxes(Path(self.boxes).expanduser())

    def fingerprint(self) -> str:
        """Checksum of names, classes and places of all pictures, and of the boxes' file."""
        columns = [self._listing.column(name) for name in ("id", "key", "file", "group", "row")]
        folder, boxes = self._beside
        return checksum(repr((columns, str(folder), stamp(boxes))))

    def singles(self, vit: ViT, *, exclude: Sequence[int] = ()) -> Selection:
        """The chosen pictures, without those of the classes `exclude`, which are counted.

        Raises:
            ValueError: as `check`; pictures without labels.
        """
        labels = number_classes(self._listing, vit)
        chosen = self._choose(labels)
        kept = [place for place in chosen if labels.numbers[place] not in set(exclude)]
        require_labels(self._listing, labels, kept)
        left = len(chosen) - len(kept)
        log.info("%s; using %d, leaving out %d by class", self._listing.form, len(kept), left)
        note = f"Pictures of the guide's class that were left out: {left}." if left else ""
        return Selection(numbered(self._item(vit, labels, place) for place in kept), note)

    def all(self, vit: ViT) -> Selection:
        """Every chosen picture, with a label or without."""
        labels = number_classes(self._listing, vit)
        chosen = self._choose(labels)
        log.info("%s; using %d", self._listing.form, len(chosen))
        return Selection(numbered(self._item(vit, labels, place) for place in chosen))

    def pairs(self, vit: ViT) -> Selection:
        """Two pictures each, side by side, as `pair_up` pairs the complete choice.

        Raises:
            ValueError: no two pictures of different classes; pictures without labels.
        """
        paired = pair_up(vit, self.singles(vit).items)
        if not paired.items:
            raise InputError(
                f"no two pictures of different classes in {self._listing.form}; add some"
            )
        return paired

    def boxed(self, vit: ViT) -> Selection:
        """The two-class pictures in the folder `pairs` beside the data, with boxes.

        Raises:
            ValueError: boxes that are none.
        """
        folder, boxes = self._beside
        if not folder.is_dir() or not (self.boxes or boxes.is_file()):
            return Selection(())
        found = boxed_pictures(vit, folder, boxes)
        return replace(found, items=tuple(replace(item, part="boxed") for item in found.items))

    def shown_singles(self, vit: ViT, count: int) -> Selection:
        """The first picture, in the whole data, of each of the first `count` classes of `shown`.

        Classes without a picture are named in the note and in the log; where none has any, the
        first picture of each class that there is takes their place.

        Raises:
            ValueError: classes that the model does not know.
        """
        default = list(self.shown) == SHOWN  # ImageNet's, of which the model may know none
        wanted = [name for name in self.shown if not default or knows(vit, name)][:count]
        indices = class_indices(vit, wanted)
        labels = number_classes(self._listing, vit)
        firsts = _firsts(require_labels(self._listing, labels))
        found = [firsts[index] for index in indices if index in firsts]
        missing = [name for name, i in zip(wanted, indices, strict=True) if i not in firsts]
        note = f"Not shown, since there is no picture: {', '.join(missing)}." if missing else ""
        if missing:
            log.warning("no picture of %s in %s; not shown", ", ".join(missing), self._listing.form)
        places = found or [*firsts.values()][:count]
        return Selection(tuple(self._item(vit, labels, place) for place in places), note)

    def shown_pairs(self, vit: ViT, count: int) -> Selection:
        """Up to `count` pictures with boxes; else as many pairs, from all over the choice.

        Raises:
            ValueError: as `pairs` and `boxed`.
        """
        boxed = self.boxed(vit)
        if boxed.items:
            return Selection(boxed.items[:count], boxed.note)
        log.warning("no two-class pictures with boxes beside %s; stitching two of it", self.root)
        pairs = self.pairs(vit)
        step = max(1, len(pairs.items) // max(1, count))
        return Selection(pairs.items[::step][:count], pairs.note)

    def of_class(self, vit: ViT, name: str) -> Item:
        """The first picture of a class in the whole data.

        Raises:
            ValueError: a class that the model does not know, or without a picture.
        """
        return self._first(vit, vit.class_index(name), "name a class that the data has")

    def guide_picture(self, vit: ViT, image: str | None) -> GuideImage:
        """The guide by file, else the first picture of the class; of a zebra by default.

        A model of the creatures is given a drawn guide.

        Raises:
            ValueError: neither a file nor a class, or a class without pictures.
        """
        given = guide_from_file(vit, image)
        if given is not None:
            return given
        if vit.class_names == CLASS_NAMES:
            return draw_guide(vit, image)
        wanted = image or GUIDE
        try:
            index = vit.class_index(wanted)
        except ValueError as error:
            raise InputError(f"guide.image {wanted!r} is no picture file, and {error}") from error
        item = self._first(vit, index, "pass guide.image=FILE or a class that the data has")
        found = item.load()
        return GuideImage(found.picture, index, found.id, item.sources)

    def sibling(self, vit: ViT, sample: Sample) -> None:
        """None: photographs have no species."""

    def compose(self, vit: ViT, sample: Sample, other: int) -> None:
        """None: photographs are not drawn."""

    def pieces(self, sample: Sample) -> tuple[str, ...]:  # noqa: ARG002
        """None are known."""
        return ()

    def without(self, sample: Sample, names: Collection[str]) -> Sample:
        """Refused: photographs are not drawn.

        Raises:
            ValueError: always.
        """
        raise InputError(f"{sample.id} is no drawing, so {', '.join(names)} cannot be left out")

    def impostors(self, vit: ViT, count: int) -> Items:  # noqa: ARG002
        """None are known."""
        return []

    def beside_another(self, vit: ViT, count: int, *, control: bool = False) -> Items:  # noqa: ARG002
        """None are known."""
        return []

    @property
    def _beside(self) -> tuple[Path, Path]:
        """The folder of two-class pictures, and the file of their boxes."""
        place = Path(self.root or os.environ.get("IMAGENET_DIR") or "/nowhere/data")
        folder = place.expanduser().resolve().parent / "pairs"
        return folder, Path(self.boxes).expanduser() if self.boxes else folder / "boxes.json"

    @cached_property
    def _listing(self) -> Listing:
        """All pictures, or exactly those of the list."""
        found = find_photographs(self.name, self.root)
        return listed(found, Path(self.list).expanduser()) if self.list else found

    @cached_property
    def _rows(self) -> Sequence[tuple[str, bytes, int | None, int | None]]:
        """Id of each picture, and where it is."""
        columns = [self._listing.column(name) for name in ("id", "file", "group", "row")]
        return [*zip(*columns, strict=True)]

    def _choose(self, labels: Labels) -> Sequence[int]:
        """Places of the chosen pictures."""
        self.check(labels=False)
        ids = self._listing.column("id")
        if self.list is not None:
            return range(len(ids))
        if self.num_images is not None and len(ids) < self.num_images:
            log.warning("asked for %d pictures, found %d", self.num_images, len(ids))
        return sample(ids, labels.numbers, self.num_images, self.seed)

    def _first(self, vit: ViT, index: int, advice: str) -> Item:
        """The first picture of a class of the model's."""
        labels = number_classes(self._listing, vit)
        if index not in labels.numbers:
            wanted = vit.class_names[index]
            raise InputError(f"no picture of {wanted!r} in {self._listing.form}; {advice}")
        return self._item(vit, labels, labels.numbers.index(index))

    def _item(self, vit: ViT, labels: Labels, place: int) -> Item:
        row, label = self._rows[place], labels.numbers[place]
        targets = () if label is None else (label,)
        names = tuple(vit.class_names[target] for target in targets)
        load = partial(load_photograph, *row, targets, names)
        return Item(row[0], load, label, sources=(source_of(*row),))


def _firsts(labels: Sequence[int]) -> dict[int, int]:
    """Place of the first picture of each class, in the order of the data."""
    return {label: labels.index(label) for label in dict.fromkeys(labels)}
