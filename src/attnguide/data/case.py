"""A picture with the classes to explain in it, and where these are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from attnguide.data.pictures import UnreadableImage
from attnguide.errors import InputError
from attnguide.types import ViT

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """A picture and the classes to explain in it.

    Attributes:
        id: Name in tables.
        picture: Upright RGB.
        targets: Class indices of the model, all different.
        names: Of the targets.
        masks: Pixels (height, width) of each target's object, disjoint; None where not known.
        parts: Pixels of each object's distinguishing part; None where not known.
        regions: What the masks are: "masks", "boxes", "halves", or "" without.
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


class Cases(Dataset["Case | None"]):
    """Cases by number, made when asked for; None for an unreadable picture that is skipped.

    Args:
        ids: Of all cases, known without opening a picture.
        load: Number to case; may raise `UnreadableImage`.
        unreadable: Told of a picture that cannot be read; raises to stop the run.
        note: One sentence about what was left out; empty if nothing was.
    """

    def __init__(
        self,
        ids: Sequence[str],
        load: Callable[[int], Case],
        unreadable: Callable[[UnreadableImage], None] | None = None,
        note: str = "",
    ) -> None:
        self.ids, self.load, self.unreadable, self.note = tuple(ids), load, unreadable, note

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> Case | None:
        try:
            return self.load(number)
        except UnreadableImage as error:
            if self.unreadable is None:
                raise
            self.unreadable(error)
            return None


def as_cases(cases: Sequence[Case]) -> Cases:
    """Cases that are there already."""
    return Cases([case.id for case in cases], list(cases).__getitem__)


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
