"""Photographs as they were found: id, class and place of each, before a model is there."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_VALIDATION = re.compile(r"(ILSVRC2012_val_\d{8})(?:_n\d{8})?\.[A-Za-z]+$")
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Listing:
    """Photographs before the model gives their classes numbers.

    Attributes:
        form: What was found and where, for the log.
        dataset: A `datasets.Dataset` with the columns `id` (unique), `key` (class as the source
            writes it: wnid, name, or a number in digits; None where it has none), `file` (path,
            in bytes, since a name may be in any encoding) and `row` (of the picture in `encoded`;
            None where the file is the picture).
        encoded: A `datasets.Dataset` of one column, whose entries have the encoded `bytes`; None
            where every file is a picture.
        are_indices: The keys are numbers in the source, not text: the model's indices.
    """

    form: str
    dataset: Any
    encoded: Any = None
    are_indices: bool = False

    def column(self, name: str) -> list[Any]:
        """A column as plain values."""
        values: list[Any] = self.dataset[name][:]
        return values


def make_listing(
    form: str,
    ids: Sequence[str],
    keys: Sequence[str | None] | None,
    files: Sequence[str | bytes | Path],
    rows: Sequence[int | None] | None = None,
    *,
    encoded: Any = None,
    are_indices: bool = False,
) -> Listing:
    """A listing of these columns; without keys, of no class; without rows, of picture files.

    Relative files are below the current folder, where workers need not stand.
    """
    from datasets import Dataset, Features, Value  # takes half a second

    none = [None] * len(ids)
    columns = {
        "id": list(ids),
        "key": none if keys is None else list(keys),
        "file": [os.fsencode(os.path.abspath(file)) for file in files],
        "row": none if rows is None else list(rows),
    }
    kinds = ("string", "string", "binary", "int32")
    features = Features({n: Value(kind) for n, kind in zip(columns, kinds, strict=True)})
    return Listing(form, Dataset.from_dict(columns, features), encoded, are_indices)


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
