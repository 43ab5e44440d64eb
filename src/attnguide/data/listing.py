"""Photographs as they were found: id, class and place of each, before a model is there."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from attnguide.models.reader import SUFFIXES

_VALIDATION = re.compile(r"(ILSVRC2012_val_\d{8})(?:_n\d{8})?\.[A-Za-z]+$")
_WNID = re.compile(r"n\d{8}")


class Photograph(NamedTuple):
    """A picture: what tables call it, its class as the source writes it, and where it is.

    The class is a wnid, a name, or a number in digits; None where there is none. Where the file
    holds several pictures, `row` is the place in `Listing.encoded`.
    """

    id: str
    key: str | None
    file: str
    row: int | None = None


@dataclass(frozen=True)
class Listing:
    """Photographs before the model gives their classes numbers.

    Attributes:
        form: What was found and where, for the log.
        photographs: Of different ids.
        encoded: A `datasets.Dataset` of one column, whose entries have the encoded `bytes`; None
            where every file is a picture.
        are_indices: The classes are numbers in the source, not text: the model's indices.
    """

    form: str
    photographs: Sequence[Photograph]
    encoded: Any = None
    are_indices: bool = False

    def places(self, name: str) -> set[int]:
        """Places of the pictures that a line of a table or list may mean; several are ambiguous.

        A name means, in this order: an id or a path; the same without ending; a file name; that
        without ending; ImageNet's name in another spelling; a longer path that ends with an id.
        """
        path = os.path.abspath(os.path.expanduser(name))
        for text in map(as_name, (name, path, picture_id(as_name(name)), _stem(as_name(name)))):
            if text in self._places:
                return self._places[text]
        parts = as_name(name).split("/")
        for ending in ("/".join(parts[start:]) for start in range(1, len(parts))):
            for text in (ending, _stem(ending)):
                if text in self._ids:
                    return self._ids[text]
        return set()

    @cached_property
    def _ids(self) -> dict[str, set[int]]:
        return _by(_stem(p.id) for p in self.photographs) | _by(p.id for p in self.photographs)

    @cached_property
    def _places(self) -> dict[str, set[int]]:
        short = [Path(picture.id).name for picture in self.photographs]
        paths = [p.file if p.row is None else p.id for p in self.photographs]
        known = _by(map(_stem, short)) | _by(short) | _by(map(_stem, paths)) | _by(paths)
        return known | self._ids


def _by(names: Any) -> dict[str, set[int]]:
    """Places by name."""
    known: dict[str, set[int]] = defaultdict(set)
    for place, name in enumerate(names):
        known[as_name(name)].add(place)
    return dict(known)


def _stem(name: str) -> str:
    """The name without the ending of a picture; other dots belong to it."""
    stem, _, suffix = name.rpartition(".")
    return stem if stem and f".{suffix.lower()}" in SUFFIXES else name


def as_name(name: str) -> str:
    """A picture's name as tables and file systems may both write it."""
    return readable(name.strip().replace("\\", "/")).removeprefix("./")


def is_wnid(name: str) -> bool:
    """Whether this is a WordNet id, such as n02391049."""
    return _WNID.fullmatch(name) is not None


def picture_id(path: str) -> str:
    """What a picture is called in tables.

    Pictures of ImageNet's validation set are called the same in every form they come in; all
    others by their path below the root.
    """
    match = _VALIDATION.search(path)
    return f"{match.group(1)}.JPEG" if match else readable(path)


def readable(name: str) -> str:
    r"""A file name as text: letters composed, bytes of another encoding written as \xe9."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)
