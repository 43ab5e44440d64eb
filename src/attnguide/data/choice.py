"""Which photographs are chosen, and the model's numbers of their classes."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from attnguide.data.dataset import Listing, is_wnid, make_listing, picture_id
from attnguide.data.tables import Entry, as_name, read_list
from attnguide.errors import InputError, unknown_name
from attnguide.models.reader import SUFFIXES
from attnguide.types import ViT

log = logging.getLogger(__name__)
_NAMED = 100  # missing pictures in one message


class Labels(NamedTuple):
    """The model's number of each picture's class, and why there is none where the model knows none.

    Attributes:
        numbers: None where the class is not known.
        reason: "" where the model knows the classes.
    """

    numbers: tuple[int | None, ...]
    reason: str = ""


def number_classes(listing: Listing, vit: ViT) -> Labels:
    """The model's number of each picture's class; names come first.

    Classes in digits are the model's numbers, unless the model has a class that is called so.
    Where the model knows none of the classes, the pictures count as unlabelled.

    Raises:
        ValueError: the model knows some classes but not all; they are listed.
    """
    keys = listing.column("key")
    distinct = sorted({key for key in keys if key is not None})
    digits = {key for key in distinct if key.isascii() and key.isdigit()}
    are_indices = listing.are_indices or not digits & set(vit.class_names)
    if digits and are_indices:
        log.info("%s: the label numbers are taken as the model's", listing.form)
    numbers: dict[str, int] = {}
    unknown: dict[str, str] = {}
    for key in distinct:
        try:
            index = int(key) if key in digits and are_indices else None
            numbers[key] = _named(vit, key) if index is None else vit.class_index(index)
        except ValueError as error:
            unknown[key] = str(error)
    if not unknown:
        return Labels(tuple(None if key is None else numbers[key] for key in keys))
    first, reason = next(iter(unknown.items()))
    if numbers:
        raise InputError(
            f"{len(unknown)} classes of the pictures are none of {vit.name}'s: "
            f"{', '.join(list(unknown)[:5])}; {reason} ({listing.form})"
        )
    log.warning("%s knows none of the classes of %s: no labels", vit.name, listing.form)
    return Labels((None,) * len(keys), f"{vit.name} has no class {first}: {reason}")


def _named(vit: ViT, key: str) -> int:
    """Number of the class that is called so.

    Raises:
        ValueError: none, or several.
    """
    if vit.class_names.count(key) == 1:
        return vit.class_names.index(key)
    if key.isdigit():  # here a name, which `class_index` would take for a number
        raise unknown_name("class", key, vit.class_names)
    return vit.class_index(key if is_wnid(key) else key.replace("_", " "))


def require_labels(
    listing: Listing, labels: Labels, places: Sequence[int] | None = None
) -> tuple[int, ...]:
    """The labels of these pictures, or of all, where every one has one.

    Raises:
        ValueError: some have none; says how to give them.
    """
    places = range(len(labels.numbers)) if places is None else places
    bare = [place for place in places if labels.numbers[place] is None]
    if bare:
        reason = f"; {labels.reason}" if labels.reason else ""
        raise InputError(
            f"{len(bare)} of {len(places)} pictures have no label, such as "
            f"{listing.column('id')[bare[0]]} ({listing.form}){reason}; put them into folders "
            "named by class or wnid, or add a csv with the columns filename and label, or use "
            "target=predicted, an index or a class name"
        )
    return tuple(label for place in places if (label := labels.numbers[place]) is not None)


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


def listed(listing: Listing, file: Path) -> Listing:
    """Exactly the pictures of a list, in its order, with its classes where it gives them.

    Args:
        listing: All pictures.
        file: Paths or ids, one per line, or a csv; see `read_list`.

    Raises:
        ValueError: missing pictures, all of them named; a picture that is listed twice.
    """
    known = _by_name(listing)
    entries = read_list(file, lambda name: name in known)
    places = [_find(entry.name, known) for entry in entries]
    missing = [entry.name for entry, found in zip(entries, places, strict=True) if not found]
    if missing:
        more = f", ... ({len(missing)} in all)" if len(missing) > _NAMED else ""
        raise InputError(
            f"{len(missing)} of {len(entries)} pictures of {file} are missing in {listing.form}: "
            f"{', '.join(missing[:_NAMED])}{more}; write ids or paths below data.root"
        )
    ids = listing.column("id")
    for entry, found in zip(entries, places, strict=True):
        if len(found) > 1:
            names = ", ".join(ids[place] for place in sorted(found)[:3])
            raise InputError(f"{file} line {entry.line}: {entry.name} may be {names}; write the id")
    chosen = [next(iter(found)) for found in places]
    _refuse_twice(file, entries, chosen)
    part = Listing("", listing.dataset.select(chosen))
    labelled = entries[0].key is not None
    return make_listing(
        f"{len(entries)} pictures of the list {file} in {listing.form}",
        part.column("id"),
        [entry.key for entry in entries] if labelled else part.column("key"),
        *(part.column(name) for name in ("file", "group", "row")),
        are_indices=listing.are_indices and not labelled,
    )


def _by_name(listing: Listing) -> dict[str, set[int]]:
    """Places of the pictures by all that a list may call them."""
    known: dict[str, set[int]] = defaultdict(set)
    rows = zip(listing.column("id"), listing.column("file"), listing.column("row"), strict=True)
    for place, (name, file, row) in enumerate(rows):
        short = name.rpartition("/")[2]
        paths = {os.fsdecode(file)} if row is None else set()
        for spelled in {name, short, *paths}:
            stem, suffix = os.path.splitext(spelled)
            known[as_name(spelled)].add(place)
            if suffix.lower() in SUFFIXES:
                known[as_name(stem)].add(place)
    for place, name in enumerate(listing.column("id")):  # an id in full means this picture alone
        known[as_name(name)] = {place}
    return known


def _find(name: str, known: dict[str, set[int]]) -> set[int]:
    """Places of the pictures that a line may mean: by its full name, else by ImageNet's."""
    path = as_name(str(Path(name).expanduser()))
    spelled = (as_name(name), path, as_name(os.path.abspath(path)), picture_id(as_name(name)))
    return next((known[text] for text in spelled if text in known), set())


def _refuse_twice(file: Path, entries: Sequence[Entry], chosen: Sequence[int]) -> None:
    lines: dict[int, Entry] = {}
    for entry, place in zip(entries, chosen, strict=True):
        first = lines.setdefault(place, entry)
        if first is not entry:
            raise InputError(
                f"{file} names {entry.name} twice, in lines {first.line} and {entry.line}; remove "
                "one"
            )
