"""A photograph by its place: a file, or a row of a parquet shard."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from attnguide.data.parquet import cell_bytes, read_row
from attnguide.data.pictures import Sample
from attnguide.models.reader import read_picture
from attnguide.store.sources import Source


def load_photograph(
    name: str,
    file: bytes,
    group: int | None,
    row: int | None,
    targets: tuple[int, ...],
    names: tuple[str, ...],
) -> Sample:
    """The photograph with its classes.

    Raises:
        UnreadableImage: it cannot be read.
    """
    path = Path(os.fsdecode(file))
    if group is None or row is None:
        return Sample(name, read_picture(path, name), targets, names)
    return Sample(name, read_row(path, group, row, name), targets, names)


def source_of(name: str, file: bytes, group: int | None, row: int | None) -> Source:
    """What its pixels come from."""
    path = Path(os.fsdecode(file))
    if group is None or row is None:
        return Source(str(path))
    return Source(str(path), partial(cell_bytes, path, group, row, name))
