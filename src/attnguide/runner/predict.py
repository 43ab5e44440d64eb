"""Data-set work: a step per batch through Lightning, rows on disk after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pandas as pd

from attnguide.results import Results
from attnguide.runner.job import Job
from attnguide.types import ViT


class Images(Protocol):
    """A map-style data set that knows the ids of its items without opening them."""

    ids: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


def predict(
    job: Job,
    vit: ViT,
    step: Callable[[Any], pd.DataFrame],
    images: Images,
    results: Results,
    *,
    collate: Callable[[list[Any]], Any] = list,
    description: str = "",
) -> None:
    """Run `step` on every image that has no rows yet, and store its rows batch by batch.

    Gradients are enabled inside `step`. An item that is None (an unreadable picture that the data
    set skipped) is left out.

    Args:
        job: Device, precision, batch size, workers, run folder.
        vit: Moved to the device by Lightning.
        step: Collated batch to rows, all rows of an image together, with column `image_id`; a
            column `model` is set to the model's name.
        images: Items of any kind, and their ids.
        results: Open table.
        collate: List of items to a batch, run by the data workers.
        description: In front of the progress bar; the model's name by default.
    """
