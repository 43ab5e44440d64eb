"""Data-set work: a step per batch through Lightning, rows on disk after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader, Dataset

from attnguide.data.pictures import UnreadableImage
from attnguide.runs.devices import through_lightning
from attnguide.runs.job import Job
from attnguide.runs.progress import Bar, Tally
from attnguide.store.table import Results
from attnguide.types import ViT


class Images(Protocol):
    """A map-style data set that knows the ids of its items without opening them."""

    @property
    def ids(self) -> Sequence[str]:
        """One per item."""

    def __getitem__(self, index: int, /) -> Any:
        """The item, or None where the picture cannot be read and is skipped."""


def predict(
    job: Job,
    vit: ViT,
    step: Callable[[Any], pd.DataFrame],
    images: Images,
    results: Results,
    *,
    collate: Callable[[list[Any]], Any] = list,
) -> None:
    """Run `step` on every image that has no rows yet, and store its rows batch by batch.

    With several devices each has a process of its own and takes every n-th batch; the table's lock
    stays with the parent. Gradients are enabled inside `step`. An item that is None is left out and
    counted. The batches of a resumed run are those of an uninterrupted one, so the numbers are the
    same.

    Args:
        job: Devices, precision, batch size, workers, run folder.
        vit: Its name goes into the column `model`; it moves to the device of each process.
        step: Collated batch to rows, all rows of an image together, with a column `image_id`.
        images: Items of any kind, and their ids.
        results: Open table.
        collate: List of items to a batch, run by the data workers.
    """
    done = results.done(model=vit.name)
    numbers = range(len(images.ids))
    size = min(job.batch_size, -(-len(numbers) // len(job.devices)) or 1)  # work for every device
    chunks = [
        [i for i in numbers[k : k + size] if images.ids[i] not in done] for k in numbers[::size]
    ]
    chunks = [chunk for chunk in chunks if chunk]
    stored = len(numbers) - sum(map(len, chunks))
    if stored:
        job.console.print(f"{vit.name}: {stored} of {len(numbers)} images are stored already")
    if not chunks:
        return
    devices = job.devices[: len(chunks)]
    tally = Tally(len(numbers), len(devices))
    batches = DataLoader(
        _Batches(images, chunks, collate), batch_size=None, num_workers=job.data.workers
    )
    bar = Bar(job, vit.name, tally, stored, len(numbers))
    writer = _Writer(vit.name, results, tally)
    through_lightning(job, devices, vit, _Step(step), batches, [writer, bar])
    bar.finish()
    job.cuda_peak = max(job.cuda_peak, int(tally.peak.max()))
    skipped = [images.ids[number] for number in tally.skipped.nonzero().flatten().tolist()]
    if skipped:
        job.skipped.extend(skipped)
        job.console.print(f"{vit.name}: skipped {len(skipped)} unreadable of {len(numbers)} images")


class _Batches(Dataset[Any]):
    """Whole batches as items: (collated, number of images, numbers of those skipped).

    In place of a batch stands None if all of it was skipped, or the error that refuses a picture.
    """

    def __init__(
        self, images: Images, chunks: list[list[int]], collate: Callable[[list[Any]], Any]
    ) -> None:
        self.images, self.chunks, self.collate = images, chunks, collate

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, number: int) -> tuple[Any, int, list[int]]:
        chunk = self.chunks[number]
        try:
            items = [self.images[index] for index in chunk]
        except UnreadableImage as error:  # a worker's exception would come out as another kind
            return error, len(chunk), []
        skipped = [index for index, item in zip(chunk, items, strict=True) if item is None]
        kept = [item for item in items if item is not None]
        return self.collate(kept) if kept else None, len(chunk), skipped


class _Step(pl.LightningModule):
    """A plain function in Lightning's clothes; it holds no weights, so none are moved."""

    def __init__(self, step: Callable[[Any], pd.DataFrame]) -> None:
        super().__init__()
        self.step = step

    def predict_step(self, batch: Any, batch_idx: int) -> pd.DataFrame | None:  # noqa: ARG002
        if batch[0] is None:
            return None
        if isinstance(batch[0], UnreadableImage):
            raise batch[0]
        with torch.enable_grad():
            return self.step(batch[0])

    def transfer_batch_to_device(self, batch: Any, *_: Any) -> Any:
        """Steps move what they need; Lightning refuses frozen records."""
        return batch


class _Writer(BasePredictionWriter):
    """Each batch's rows to disk, before the next batch starts."""

    def __init__(self, model: str, results: Results, tally: Tally) -> None:
        super().__init__("batch")
        self.model, self.results, self.tally = model, results, tally

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        prediction: pd.DataFrame | None,
        batch_indices: Sequence[int] | None,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int,  # noqa: ARG002
    ) -> None:
        self.tally.skipped[batch[2]] = True
        if prediction is not None:
            self.results.append(prediction.assign(model=self.model))
        rank = trainer.global_rank
        self.tally.done[rank] += batch[1]
        if trainer.strategy.root_device.type == "cuda":
            self.tally.peak[rank] = torch.cuda.max_memory_allocated(trainer.strategy.root_device)
