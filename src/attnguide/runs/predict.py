"""Hop 5: items in batches through Lightning's predict loop; rows on disk after each batch."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader, Dataset

from attnguide.data.pictures import Item
from attnguide.errors import InputError
from attnguide.figures.experiment import Experiment, Rows, Study
from attnguide.models.reader import UnreadableImage
from attnguide.runs.objects import trainer_maker
from attnguide.runs.progress import Progress
from attnguide.runs.workers import ended_well, leave_signals_to_parent, readable_workers
from attnguide.runs.world import key_of, origin_for, prints_of
from attnguide.store.identity import Identity
from attnguide.store.maps import store_pictures
from attnguide.store.table import Results

log = logging.getLogger(__name__)
_NEEDLESS = "many workers|`srun`|GPU available|LeafSpec|batch indices|returned None|os.fork"
Entry = tuple[Item, Any]
Prints = dict[str, list[list[Any]]]  # what each item was read from


@dataclass(frozen=True)
class Where:
    """Where and how steps run.

    Attributes:
        devices: One, or several with a process for each.
        trainer: Settings of Lightning's `Trainer`, with `_target_`.
        precision: "fp32", "tf32" or "bf16" (of masked forward passes alone).
        workers: Processes that read pictures.
        on_error: "skip" or "raise" for a picture that cannot be read.
    """

    devices: tuple[torch.device, ...]
    trainer: Mapping[str, Any]
    precision: str = "fp32"
    workers: int = 0
    on_error: str = "skip"


def predict(
    experiment: Experiment,
    study: Study,
    items: Sequence[Item],
    results: Results,
    where: Where,
    progress: Progress,
    identity: Identity,
) -> None:
    """Rows of every item that has none yet, stored batch by batch.

    The batches of a resumed run are those of an uninterrupted one, so the numbers are the same.
    With several devices Lightning gives each process its share of the batches, none twice.
    """
    done, count = results.done(model=study.vit.name), len(where.devices)
    size = max(1, min(study.batch_size, ceil(len(items) / count)))  # work for every device
    batches = [
        [item for item in items[start : start + size] if _name(item) not in done]
        for start in range(0, len(items), size)
    ]
    batches = [batch for batch in batches if batch]
    progress.begin(study.vit.name, len(items), sum(map(len, batches)), count)
    if not batches:
        return
    batches += [[] for _ in range(count - len(batches))]  # Lightning wants one for each
    data = BatchDataset(experiment, study, batches, where.on_error)
    loader = DataLoader(
        data, batch_size=None, num_workers=where.workers, worker_init_fn=leave_signals_to_parent
    )
    writer = TableWriter(results, study.vit.name, identity)
    trainer = make_trainer(where, results.run_dir, [writer, progress])
    with ended_well(trainer), warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"(?s).*({_NEEDLESS})")
        with readable_workers():
            trainer.predict(Explainer(experiment, study), loader, return_predictions=False)
    progress.end()


def unreadable(items: Sequence[Item], results: Results, model: str) -> list[str]:
    """Ids of the items that have no rows after all was tried."""
    done = results.done(model=model)
    return [item.id for item in items if _name(item) not in done]


class BatchDataset(Dataset[Any]):
    """Whole batches of finished inputs; (item, input) of every picture that could be read.

    In place of a batch stands the error that refuses a picture, since a worker's exception would
    come out as another kind.
    """

    def __init__(
        self, experiment: Experiment, study: Study, batches: list[list[Item]], on_error: str
    ) -> None:
        self.experiment, self.study = experiment, study
        self.batches, self.on_error = batches, on_error

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[list[Entry] | UnreadableImage, int, Prints]:
        entries, prints = [], {}
        for item in self.batches[number]:
            try:
                files = prints_of(item)
                sample = item.load()
            except UnreadableImage as error:
                if self.on_error == "raise":
                    return error, len(self.batches[number]), {}
                log.warning("skipped: %s", error)
                continue
            prints[key_of(item)] = files
            entries.append((item, self.experiment.inputs(self.study, item, sample)))
        return entries, len(self.batches[number]), prints


class Explainer(pl.LightningModule):
    """The model; a step turns a batch of inputs into rows."""

    def __init__(self, experiment: Experiment, study: Study) -> None:
        super().__init__()
        self.network = study.vit.module
        self.experiment, self.study = experiment, study

    def predict_step(self, batch: Any, batch_idx: int) -> Rows | None:  # noqa: ARG002
        """Rows of a batch, with what the items say of each."""
        entries, *_ = batch
        if isinstance(entries, UnreadableImage):
            raise entries
        if not entries:
            return None
        with torch.enable_grad():
            found = self.experiment.rows(self.study, entries)
        return Rows(_with_items(found.table, [item for item, _ in entries]), found.pictures)

    def transfer_batch_to_device(self, batch: Any, *_: Any) -> Any:
        """Steps move what they need; Lightning refuses frozen records."""
        return batch


class TableWriter(BasePredictionWriter):
    """Each batch to disk before the next one: pictures first, for rows say that all is there."""

    def __init__(self, results: Results, model: str, identity: Identity) -> None:
        super().__init__("batch")
        self.results, self.model, self.identity = results, model, identity
        self.parent: int | None = None  # of a further device's process

    def setup(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """Remember who started this process, if another one did."""
        if not trainer.is_global_zero:
            self.parent = os.getppid()

    def on_predict_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Wait for the other devices: only then are all rows there.

        Raises:
            OSError: one of them has failed.
        """
        try:
            trainer.strategy.barrier("rows are stored")
        except RuntimeError as error:  # what gloo and NCCL say when nobody answers
            raise OSError(
                0,
                "the process of another device has failed, the lines above say why; what is stored "
                "is complete: the same command goes on from there",
            ) from error

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,  # noqa: ARG002
        pl_module: pl.LightningModule,  # noqa: ARG002
        prediction: Rows | None,
        batch_indices: Any,  # noqa: ARG002
        batch: Any,
        *_: Any,
    ) -> None:
        """Store a batch; nothing in a process whose parent, and with it the lock, is gone."""
        if self.parent is not None and os.getppid() != self.parent:
            os._exit(1)
        if prediction is not None:
            pictures = store_pictures(self.results.run_dir, prediction.pictures)
            origin = origin_for(self.identity, batch[2], pictures)
            self.results.append(prediction.table.assign(model=self.model), origin)


def _with_items(table: Any, items: Sequence[Item]) -> Any:
    """The rows with what is known of their items: unit, part, measured, shown."""
    known = {item.id: item for item in items}
    own = [known[name] for name in table["image_id"]]
    measured = [item.measured for item in own]
    if "measured" in table:
        measured = [a and b for a, b in zip(measured, table["measured"], strict=True)]
    return table.assign(
        unit=[item.unit or item.id for item in own],
        part=[item.part for item in own],
        measured=measured,
        shown=[item.shown for item in own],
    ).astype({"shown": "Int64"})


def _name(item: Item) -> tuple[str, str]:
    return item.part, item.id


def make_trainer(where: Where, run_dir: Path, callbacks: list[Any]) -> pl.Trainer:
    """Lightning's Trainer from `conf/trainer`, for prediction on the chosen devices.

    Raises:
        ValueError: checkpoints in the folder that Lightning would load.
    """
    stale = [path.name for path in Path(run_dir).glob("hpc_ckpt*")]
    if stale:
        raise InputError(f"{run_dir} holds {stale}, which Lightning would load; remove them")
    torch.set_float32_matmul_precision("high" if where.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = where.precision == "tf32"
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    cuda = where.devices[0].type == "cuda"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"(?s).*({_NEEDLESS})")
        trainer: pl.Trainer = trainer_maker(where.trainer)(
            accelerator="gpu" if cuda else "cpu",
            devices=[d.index or 0 for d in where.devices] if cuda else len(where.devices),
            default_root_dir=str(run_dir),
            plugins=_environment(len(where.devices)),
            callbacks=callbacks,
        )
    return trainer


def _environment(count: int) -> list[Any]:
    """Who starts processes: we do, also inside an allocation of SLURM, which counts tasks."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    if count > 1:
        return [LightningEnvironment()]
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
