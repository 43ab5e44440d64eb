"""Which items a study has: joined, shown, in parts and groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from attnguide.data.grids import grids
from attnguide.data.pictures import Item, Selection, class_indices, retargeted
from attnguide.data.user_pictures import given_pictures
from attnguide.errors import InputError
from attnguide.figures.experiment import Study
from attnguide.viz.panels import short_name


def in_part(selection: Selection, part: str) -> Selection:
    """The same items in a part of the study."""
    return Selection(tuple(replace(i, part=part) for i in selection.items), selection.note)


def join(*parts: Selection) -> Selection:
    """One list of items: numbered within their part, each id once.

    An item that is both measured and shown is one item.
    """
    found: dict[tuple[str, str], Item] = {}
    counts: dict[str, int] = {}
    for item in (item for selection in parts for item in selection.items):
        known = found.get((item.part, item.id))
        if known is None:
            found[item.part, item.id] = replace(item, number=counts.setdefault(item.part, 0))
            counts[item.part] += item.measured
        else:
            found[item.part, item.id] = replace(
                known,
                shown=item.shown if known.shown is None else known.shown,
                measured=known.measured or item.measured,
            )
    notes = dict.fromkeys(selection.note for selection in parts if selection.note)
    return Selection(tuple(found.values()), " ".join(notes))


def to_show(selection: Selection, *, measured: bool = False) -> Selection:
    """The items as those that are shown, in order; they count in no statistics, unless measured."""
    items = (
        replace(item, shown=place, measured=measured) for place, item in enumerate(selection.items)
    )
    return Selection(tuple(items), selection.note)


def in_groups(
    batch: Iterable[tuple[Item, Any]], key: Any
) -> Iterator[tuple[Any, list[tuple[Item, Any]]]]:
    """The entries of a batch by what `key` says of their item."""
    groups: dict[Any, list[tuple[Item, Any]]] = {}
    for entry in batch:
        groups.setdefault(key(entry[0]), []).append(entry)
    yield from groups.items()


def labelled_or_not(study: Study, count: int, shown: int) -> Selection:
    """Singles, pairs and up to `count` grids; the first grids, or else pairs, are shown.

    Without labels that the model knows, pictures are what the model says they are.
    """
    vit, data = study.vit, study.pictures
    try:
        singles = data.singles(vit, exclude=study.guide_classes)
        pairs = in_part(data.pairs(vit), "pairs")
    except InputError as error:
        reason = str(error).split(";")[0]
        note = f"Every picture is explained for the model's answer: {reason}."
        singles, pairs = replace(data.all(vit), note=note), Selection(())
    made = grids(vit, singles.items, count, data.seed)
    return join(singles, pairs, made, to_show(Selection((made.items or pairs.items)[:shown])))


def rewrite_examples(study: Study, pictures: Sequence[Mapping[str, Any]]) -> Selection:
    """The user's own pictures, else the data's examples, each with the class to rewrite it to."""
    if pictures:
        return given_pictures(study.vit, pictures)
    vit, pairs = study.vit, study.pictures.rewrites
    class_indices(vit, [name for pair in pairs for name in pair])  # names all unknown ones
    items = []
    for source, goal in pairs:
        item, targets = study.pictures.of_class(vit, source), class_indices(vit, [source, goal])
        name = f"{item.id} to {short_name(vit.class_names[targets[1]])}"
        load = partial(retargeted, item.load, vit, name, tuple(targets))
        items.append(replace(item, id=name, load=load))
    return Selection(tuple(items))
