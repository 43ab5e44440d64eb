"""Photographs: single ones, pairs set side by side, and two-class ones with boxes."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image

from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.creatures.world import draw_guide
from attnguide.data.encoded import encoded_bytes
from attnguide.data.find import find_photographs
from attnguide.data.listing import Listing
from attnguide.data.picture_tables import listed
from attnguide.data.pictures import (
    GuideImage,
    Item,
    Pictures,
    Sample,
    Selection,
    class_indices,
    class_name,
    guide_from_file,
    knows,
    numbered,
)
from attnguide.data.user_pictures import boxed_pictures, cut_outs, read_boxes
from attnguide.errors import InputError
from attnguide.models.preprocess import steps_of
from attnguide.models.reader import picture_bytes, read_picture
from attnguide.store.files import Source
from attnguide.types import ViT

log = logging.getLogger(__name__)
GUIDE = "zebra"  # the paper's
SHOWN = ["tusker", "snail", "bald eagle", "bull mastiff", "zebra", "conch"]
REWRITES = [["tusker", "bull mastiff"], ["snail", "zebra"], ["bald eagle", "kite"]]


@dataclass
class Photographs(Pictures):
    """Pictures found in folders, with a csv or ImageNet's devkit, in parquet, or on the hub.

    Attributes:
        name, num_images, seed, on_error, shown, framed, rewrites: As in `Pictures`.
        root: Folder, parquet or tar file, picture, or "hf://owner/dataset"; else the
            environment's IMAGENET_DIR.
        list: File with the pictures to take, exactly these and in this order: ids or paths one
            per line, or a csv, whose column of labels comes before the data's own classes.
        boxes: File with the boxes of the two-class pictures in the folder `pairs` beside the
            data, as in `boxed_pictures`; else `boxes.json` among them.
        cut_outs: How many pictures of two classes to compose of their objects, cut out, on other
            photographs.

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
    cut_outs: int = 0
    shown: Sequence[str] = field(default_factory=SHOWN.copy)
    framed: Sequence[str] = field(default_factory=lambda: ["bald eagle", "kite"])
    rewrites: Sequence[Sequence[str]] = field(
        default_factory=lambda: [pair.copy() for pair in REWRITES]
    )

    def check(self, *, labels: bool) -> None:
        """Refuse pictures, lists and boxes that are not there, before any weights are loaded."""
        listing = self._listing
        count = len(listing.photographs)
        if self.list is not None and self.num_images is not None and self.num_images < count:
            raise InputError(
                f"data.list names {count} pictures and data.num_images={self.num_images} would "
                "leave some out; pass data.num_images=null, or a shorter list"
            )
        if labels:
            require_labels(listing, range(count))
        if self.boxes is not None:
            read_boxes(Path(self.boxes).expanduser())
        if self.cut_outs and not all(place.exists() for place in self._beside):
            raise InputError(
                f"data.cut_outs cuts objects out of pictures with boxes; put them into "
                f"{self._beside[0]}, and pass data.boxes=FILE"
            )

    def singles(self, vit: ViT, *, exclude: Sequence[int] = ()) -> Selection:
        """The chosen pictures, without those of the classes `exclude`, which are counted."""
        labels = number_classes(self._listing, vit, required=True)
        chosen = self._choose(labels)
        kept = [place for place in chosen if labels[place] not in set(exclude)]
        require_labels(self._listing, kept)
        left = len(chosen) - len(kept)
        log.info("%s; using %d, leaving out %d by class", self._listing.form, len(kept), left)
        note = f"Pictures of the guide's class that were left out: {left}." if left else ""
        return Selection(numbered(self._item(vit, labels[place], place) for place in kept), note)

    def all(self, vit: ViT) -> Selection:
        """Every chosen picture, with a label or without."""
        labels = number_classes(self._listing, vit)
        chosen = self._choose(labels)
        log.info("%s; using %d", self._listing.form, len(chosen))
        return Selection(numbered(self._item(vit, labels[place], place) for place in chosen))

    def pairs(self, vit: ViT) -> Selection:
        """Two pictures each, side by side, as `pair_up` pairs the complete choice."""
        paired = pair_up(vit, self.singles(vit).items)
        if not paired.items:
            raise InputError(
                f"no two pictures of different classes in {self._listing.form}; add some"
            )
        return paired

    def boxed(self, vit: ViT) -> Selection:
        """The two-class pictures in the folder `pairs` beside the data, with boxes; cut-outs."""
        folder, boxes = self._beside
        if not folder.is_dir() or not (self.boxes or boxes.is_file()):
            return Selection(())
        found, made = boxed_pictures(vit, folder, boxes), Selection(())
        if self.cut_outs:
            made = cut_outs(vit, folder, boxes, self.singles(vit).items, self.cut_outs, self.seed)
        items = numbered(replace(i, part="boxed") for i in (*found.items, *made.items))
        return Selection(items, " ".join(filter(None, (found.note, made.note))))

    def shown_singles(self, vit: ViT, count: int) -> Selection:
        """The first picture, in the whole data, of each of the first `count` classes of `shown`.

        Classes without a picture are named in the note and in the log; where none has any, the
        first picture of each class that there is takes their place. The default classes are
        ImageNet's: of those that are not there, other classes take the place.
        """
        default = list(self.shown) == SHOWN  # ImageNet's, of which the model may know none
        wanted = [name for name in self.shown if not default or knows(vit, name)][:count]
        indices = class_indices(vit, wanted)
        labels = number_classes(self._listing, vit, required=True)
        require_labels(self._listing, range(len(labels)))
        firsts = {label: labels.index(label) for label in dict.fromkeys(labels)}
        found = [firsts[index] for index in indices if index in firsts]
        missing = [name for name, i in zip(wanted, indices, strict=True) if i not in firsts]
        missing = [] if default else missing
        note = f"Not shown, since there is no picture: {', '.join(missing)}." if missing else ""
        if missing:
            log.warning("no picture of %s in %s; not shown", ", ".join(missing), self._listing.form)
        places = [*dict.fromkeys([*found, *firsts.values()])] if default or not found else found
        return Selection(tuple(self._item(vit, labels[n], n) for n in places[:count]), note)

    def shown_pairs(self, vit: ViT, count: int) -> Selection:
        """Up to `count` pictures with boxes; else as many pairs, from all over the choice."""
        boxed = self.boxed(vit)
        if boxed.items:
            return Selection(boxed.items[:count], boxed.note)
        log.warning("no two-class pictures with boxes beside %s; stitching two of it", self.root)
        pairs = self.pairs(vit)
        step = max(1, len(pairs.items) // max(1, count))
        return Selection(pairs.items[::step][:count], pairs.note)

    def of_class(self, vit: ViT, name: str) -> Item:
        """The first picture of a class in the whole data."""
        return self._first(vit, vit.class_index(name), "name a class that the data has")

    def guide_picture(self, vit: ViT, image: str | None) -> GuideImage:
        """The guide by file, else the first picture of the class; of a zebra by default.

        Where there is no zebra, the default is the first picture of the first class that there is.
        A model of the creatures is given a drawn guide.
        """
        given = guide_from_file(vit, image)
        if given is not None:
            return given
        if vit.class_names == CLASS_NAMES:
            return draw_guide(vit, image)
        try:
            index = None if image is None else vit.class_index(image)
        except ValueError as error:
            raise InputError(f"guide.image {image!r} is no picture file, and {error}") from error
        index = self._default_guide(vit) if index is None else index
        item = self._first(vit, index, "pass guide.image=FILE or a class that the data has")
        found = item.load()
        return GuideImage(found.picture, index, found.id, item.sources)

    def _default_guide(self, vit: ViT) -> int:
        """A zebra's class, or the first class of which there is a picture."""
        known = [label for label in number_classes(self._listing, vit) if label is not None]
        if knows(vit, GUIDE) and vit.class_index(GUIDE) in known:
            return vit.class_index(GUIDE)
        if len(set(known)) < 2:
            raise InputError(
                f"a guide shows another class than the pictures, and in {self._listing.form} there "
                "is none; pass guide.image=FILE"
            )
        log.info("guide: a picture of %s; guide.image= takes another", vit.class_names[known[0]])
        return known[0]

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

    def _choose(self, labels: Sequence[int | None]) -> Sequence[int]:
        """Places of the chosen pictures."""
        self.check(labels=False)
        ids = [picture.id for picture in self._listing.photographs]
        if self.list is not None:
            return range(len(ids))
        if self.num_images is not None and len(ids) < self.num_images:
            log.info("all %d pictures are taken (data.num_images=%d)", len(ids), self.num_images)
        return sample(ids, labels, self.num_images, self.seed)

    def _first(self, vit: ViT, index: int, advice: str) -> Item:
        """The first picture of a class of the model's."""
        labels = number_classes(self._listing, vit)
        if index not in labels:
            wanted = vit.class_names[index]
            raise InputError(f"no picture of {wanted!r} in {self._listing.form}; {advice}")
        return self._item(vit, index, labels.index(index))

    def _item(self, vit: ViT, label: int | None, place: int) -> Item:
        picture = self._listing.photographs[place]
        targets = () if label is None else (label,)
        names = tuple(vit.class_names[target] for target in targets)
        read = partial(picture_bytes, Path(picture.file), picture.id)
        if picture.row is not None:
            read = partial(encoded_bytes, self._listing.encoded, picture.row, picture.id)
        load = partial(_load, picture.id, read, targets, names)
        return Item(picture.id, load, label, sources=(Source(picture.file, read),))


def number_classes(listing: Listing, vit: ViT, *, required: bool = False) -> list[int | None]:
    """The model's number of each picture's class, by its wnid or name, or the number itself.

    Where the model knows none of the classes, the pictures count as unlabelled.

    Args:
        listing: The pictures.
        vit: Knows the classes.
        required: Whether it must know them.

    Raises:
        ValueError: the model does not know some classes; they are listed.
    """
    keys = [picture.key for picture in listing.photographs]
    numbers: dict[str | None, int] = {}
    unknown: dict[str, str] = {}
    for key in sorted({key for key in keys if key is not None}):
        is_number = listing.are_indices and key.isdigit()
        try:
            numbers[key] = vit.class_index(int(key) if is_number else class_name(vit, key))
        except ValueError as error:
            unknown[key] = str(error)
    if any(key and key.isdigit() and key not in vit.class_names for key in numbers):
        log.info("%s: the label numbers are taken as the model's", listing.form)
    if unknown and (numbers or required):
        raise InputError(
            f"{len(unknown)} classes of the pictures are none of {vit.name}'s: "
            f"{', '.join([*unknown][:5])}; {next(iter(unknown.values()))} ({listing.form})"
        )
    if unknown:
        log.warning("%s knows none of the classes of %s: no labels", vit.name, listing.form)
    return [numbers.get(key) for key in keys]


def require_labels(listing: Listing, places: Sequence[int]) -> None:
    """Refuse pictures without a class.

    Raises:
        ValueError: some have none; says how to give them.
    """
    chosen = [listing.photographs[place] for place in places]
    bare = [picture.id for picture in chosen if picture.key is None]
    if bare:
        raise InputError(
            f"{len(bare)} of {len(places)} pictures have no label, such as {bare[0]} "
            f"({listing.form}); put them into folders named by class or wnid, or add a csv with "
            "the columns filename and label, or use target=predicted, an index or a class name"
        )


def sample(
    ids: Sequence[str], labels: Sequence[int | None], count: int | None, seed: int
) -> list[int]:
    """Numbers of `count` pictures, as evenly over classes as they go, in their own order.

    Within a class the pictures with the smallest sha256 of "<seed>:<file name>" come first, so
    the choice depends on names alone, and a larger one contains a smaller one. With fewer
    pictures than classes, the classes too are taken by their hashes.
    """
    if count is None or count >= len(ids):
        return list(range(len(ids)))

    def rank(text: str) -> str:
        return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()

    classes: dict[int | None, list[int]] = defaultdict(list)
    for index in sorted(range(len(ids)), key=lambda i: rank(ids[i].rsplit("/", 1)[-1])):
        classes[labels[index]].append(index)
    order = sorted(
        (turn, rank(f"class {label}"), index)
        for label, members in classes.items()
        for turn, index in enumerate(members)
    )
    return sorted(index for _, _, index in order[:count])


def pair_up(vit: ViT, singles: Sequence[Item]) -> Selection:
    """Every picture beside another, squashed to the halves of the model's input.

    Picture i of the first half and picture i of the second make two pairs, either way round,
    which share a unit. The last picture of an odd number is paired with the first and joins its
    unit, so that units are small: pictures that stand in several pairs are not independent.

    Args:
        vit: Whose input is divided, at a patch border.
        singles: The complete choice, all labelled.

    Returns:
        Pairs of different classes; the others are counted in `note`.
    """
    steps_of(vit)  # a pair is no picture for a function
    half = len(singles) // 2
    both = [(i, i + half) for i in range(half)] + [(i + half, i) for i in range(half)]
    if len(singles) % 2 and half:
        both.append((len(singles) - 1, 0))
    edge = round(vit.grid[1] / 2) * vit.patch_size[1]
    items = []
    for i, j in both:
        left, right, first = singles[i], singles[j], min(i, j)
        if left.label != right.label:
            load = partial(_side_by_side, left, right, vit.image_size, edge)
            unit = "+".join(sorted((singles[first].id, singles[first + half].id)))
            sources, facts = left.sources + right.sources, f"classes {left.label}, {right.label}"
            items.append(
                Item(f"{left.id}+{right.id}", load, unit=unit, sources=sources, facts=facts)
            )
    same = len(both) - len(items)
    note = f"Pairs of one class twice that were left out: {same}." if same else ""
    return Selection(numbered(items), note)


def _side_by_side(first: Item, second: Item, size: tuple[int, int], edge: int) -> Sample:
    """Two pictures squashed to the halves of a canvas, each half a region.

    Args:
        first, second: Left and right.
        size: (height, width) of the canvas in pixels.
        edge: Column where the right one begins.
    """
    left, right = first.load(), second.load()
    height, width = size
    canvas = Image.new("RGB", (width, height))
    for photograph, start, stop in ((left, 0, edge), (right, edge, width)):
        part = photograph.picture.resize((stop - start, height), Image.Resampling.BICUBIC)
        canvas.paste(part, (start, 0))
    own = np.zeros((height, width), dtype=bool)
    own[:, :edge] = True
    return Sample(
        f"{left.id}+{right.id}",
        canvas,
        (left.targets[0], right.targets[0]),
        (left.names[0], right.names[0]),
        (own, ~own),
        regions="halves",
        as_is=True,
    )


def _load(
    name: str, read: Callable[[], bytes], targets: tuple[int, ...], names: tuple[str, ...]
) -> Sample:
    """A photograph from the function that reads its encoded bytes."""
    return Sample(name, read_picture(read(), name), targets, names)
