"""Data-set work: a step per batch through Lightning, rows on disk after each."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import BasePredictionWriter, Callback
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Dataset

from attnguide.data.pictures import UnreadableImage
from attnguide.results import Results
from attnguide.runner.job import Job
from attnguide.types import ViT

PRECISIONS: dict[str, Literal["32-true", "bf16-mixed"]] = {
    "fp32": "32-true",
    "tf32": "32-true",
    "bf16": "bf16-mixed",
}
SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal to draw a bar on


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

    Gradients are enabled inside `step`. An item that is None is left out and counted. The batches
    of a resumed run are those of an uninterrupted one, so the numbers are the same.

    Args:
        job: Device, precision, batch size, workers, run folder.
        vit: Its name goes into the column `model`.
        step: Collated batch to rows, all rows of an image together, with a column `image_id`.
        images: Items of any kind, and their ids.
        results: Open table.
        collate: List of items to a batch, run by the data workers.
    """
    done = results.done(model=vit.name)
    size = job.batch_size
    numbers = range(len(images.ids))
    chunks = [
        [i for i in numbers[k : k + size] if images.ids[i] not in done] for k in numbers[::size]
    ]
    chunks = [chunk for chunk in chunks if chunk]
    stored = len(numbers) - sum(map(len, chunks))
    if stored:
        job.console.print(f"{vit.name}: {stored} of {len(numbers)} images are stored already")
    if not chunks:
        return
    skipped: list[str] = []
    batches = DataLoader(
        _Batches(images, chunks, collate), batch_size=None, num_workers=job.data.workers
    )
    callbacks = [_Writer(vit.name, results, skipped), _Bar(job, vit.name, stored, len(numbers))]
    _through_lightning(job, _Step(step), batches, callbacks)
    if skipped:
        job.skipped.extend(skipped)
        job.console.print(f"{vit.name}: skipped {len(skipped)} unreadable of {len(numbers)} images")


class _Batches(Dataset[Any]):
    """Whole batches as items: (collated, number of images, ids of those skipped).

    In place of a batch stands None if all of it was skipped, or the error that refuses a picture.
    """

    def __init__(
        self, images: Images, chunks: list[list[int]], collate: Callable[[list[Any]], Any]
    ) -> None:
        self.images, self.chunks, self.collate = images, chunks, collate

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, number: int) -> tuple[Any, int, list[str]]:
        chunk = self.chunks[number]
        try:
            items = [self.images[index] for index in chunk]
        except UnreadableImage as error:  # a worker's exception would come out as another kind
            return error, len(chunk), []
        skipped = [
            self.images.ids[index] for index, item in zip(chunk, items, strict=True) if item is None
        ]
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

    def __init__(self, model: str, results: Results, skipped: list[str]) -> None:
        super().__init__("batch")
        self.model, self.results, self.skipped = model, results, skipped

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,  # noqa: ARG002
        pl_module: pl.LightningModule,  # noqa: ARG002
        prediction: pd.DataFrame | None,
        batch_indices: Sequence[int] | None,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int,  # noqa: ARG002
    ) -> None:
        self.skipped.extend(batch[2])
        if prediction is not None:
            self.results.append(prediction.assign(model=self.model))


class _Bar(Callback):
    """Images done, images per second, time left; a line now and then where no terminal is."""

    def __init__(self, job: Job, name: str, stored: int, total: int) -> None:
        self.console, self.name, self.stored, self.total = job.console, name, stored, total
        self.done, self.begun, self.told = stored, 0.0, 0.0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} images, {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=job.console,
            disable=not job.console.is_terminal,
        )

    def on_predict_start(self, *_: Any) -> None:
        self.begun = self.told = time.monotonic()
        self.bar.start()
        self.bar.add_task(self.name, total=self.total, completed=self.stored, rate="")

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,  # noqa: ARG002
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        self.done += batch[1]
        now = time.monotonic()
        rate = (self.done - self.stored) / max(now - self.begun, 1e-9)
        self.bar.update(self.bar.task_ids[0], completed=self.done, rate=f"{rate:.1f} per s")
        last = self.done == self.total
        if not self.console.is_terminal and (last or now - self.told >= SECONDS_BETWEEN_LINES):
            self.told = now
            left = f"{(self.total - self.done) / rate:.0f} s left"
            self.console.print(
                f"{self.name}: {self.done} of {self.total} images, {rate:.1f} per s, "
                + (f"{now - self.begun:.0f} s" if last else left)
            )

    def on_predict_end(self, *_: Any) -> None:
        self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        self.bar.stop()


def _through_lightning(
    job: Job, step: _Step, batches: DataLoader[Any], callbacks: list[Callback]
) -> None:
    """`Trainer.predict` with everything switched off that would write, train or requeue."""
    stale = [path.name for path in Path(job.run_dir).glob("hpc_ckpt*")]
    if stale:
        raise ValueError(f"{job.run_dir} holds {stale}, which Lightning would load; remove them")
    if job.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    cuda = job.device.type == "cuda"
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        needless = "many workers|`srun`|GPU available|LeafSpec|batch indices|returned None"
        warnings.filterwarnings("ignore", f"(?s).*({needless})")
        trainer = pl.Trainer(
            accelerator="gpu" if cuda else "cpu",
            devices=[job.device.index or 0] if cuda else 1,
            precision=PRECISIONS[job.precision],
            default_root_dir=job.run_dir,
            plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else [],
            callbacks=callbacks,
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.predict(step, batches, return_predictions=False)
        except SystemExit:
            if trainer.interrupted:  # Lightning turns Ctrl-C into an exit, and itself deaf to it
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise KeyboardInterrupt from None
            raise
