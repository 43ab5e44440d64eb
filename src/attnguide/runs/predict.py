"""Items in batches through Lightning's predict loop; rows on disk after each batch."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader, Dataset

from attnguide.data.pictures import Item
from attnguide.errors import InputError
from attnguide.figures.experiment import Experiment, Rows, Study
from attnguide.models.reader import UnreadableImage
from attnguide.runs.resume import key_of
from attnguide.store.maps import store_picture
from attnguide.store.table import PartInputs, Results

log = logging.getLogger(__name__)


class DeadWorker(InputError):
    """A process that reads pictures died; what was stored before is whole."""


def make_trainer(
    node: Mapping[str, Any], device: torch.device, precision: str, run_dir: Path, writer: Any
) -> pl.Trainer:
    """Lightning's Trainer from `conf/trainer`, for prediction on one device.

    Args:
        node: Of the config; callbacks and loggers in it stand beside ours.
        device: Where it computes; several devices have a process and a trainer each.
        precision: "fp32", "tf32" or "bf16" (of masked forward passes alone).
        run_dir: Where Lightning's loggers write by default.
        writer: Stores the rows.

    Raises:
        ValueError: settings that Lightning does not have, or refuses.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    cuda = device.type == "cuda"
    try:
        make = hydra.utils.instantiate({**node, "_partial_": True, "_convert_": "all"})
        with _quiet():
            trainer: pl.Trainer = make(
                accelerator="gpu" if cuda else "cpu",
                devices=[device.index or 0] if cuda else 1,
                default_root_dir=str(run_dir),
                callbacks=[*(make.keywords.get("callbacks") or ()), writer],
                # whatever starts this process, SLURM too: it is alone, and requeued by others
                plugins=[*(make.keywords.get("plugins") or ()), LightningEnvironment()],
            )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise InputError(f"trainer: {error}; see conf/trainer/default.yaml") from error
    return trainer


def predict(
    trainer: pl.Trainer,
    experiment: Experiment,
    study: Study,
    items: Sequence[Item],
    done: Collection[tuple[str, str]],
    workers: int = 0,
) -> None:
    """Rows of every item that is not done, stored batch by batch.

    The batches of a resumed run are those of an uninterrupted one without what is done, so that the
    rows are the same to the last bit.

    Args:
        trainer: As `make_trainer` gives it.
        experiment, study: Compute the rows.
        items: This process's share of the complete list.
        done: Part and id of the items that have rows.
        workers: Processes that read pictures.

    Raises:
        DeadWorker: a process that reads pictures died.
        ValueError: a picture that cannot be read where `data.on_error` is "raise".
    """
    left = Batches(items, study.batch_size, done)
    if not len(left):
        return
    loader: DataLoader[Any] = DataLoader(
        ItemDataset(experiment, study, items),
        batch_sampler=left,
        collate_fn=list,
        num_workers=workers,
        worker_init_fn=_leave_signals_to_parent,
    )
    try:
        with _quiet():
            trainer.predict(Explainer(experiment, study), loader, return_predictions=False)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):  # torch raises it wherever we are
            raise
        raise DeadWorker(
            "a process that reads pictures died, usually because memory or /dev/shm ran out "
            f"({str(error).splitlines()[0]}); earlier results are intact: run the same command "
            "with data.workers=0 or a smaller batch_size"
        ) from error
    except SystemExit as end:
        if end.code != 1 or not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning has turned deaf to it
        raise KeyboardInterrupt from None  # Lightning makes it an exit


class ItemDataset(Dataset[Any]):
    """Item, finished input, (stamp, checksum) of its files; or why a picture cannot be read.

    A worker's exception would come out as another kind.
    """

    def __init__(self, experiment: Experiment, study: Study, items: Sequence[Item]) -> None:
        self.experiment, self.study, self.items = experiment, study, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> tuple[Item, Any, list[list[str]]] | UnreadableImage:
        item = self.items[number]
        try:  # files first: what is noted of them is never newer than what was read
            files = [[source.stamp, source.content()] for source in item.sources]
            sample = item.load()
        except UnreadableImage as error:
            return error
        return item, self.experiment.inputs(self.study, item, sample), files


class Batches:
    """Batches of the complete list, without what is done: a batch sampler."""

    def __init__(self, items: Sequence[Item], size: int, done: Collection[tuple[str, str]]) -> None:
        left = [(item.part, item.id) not in done for item in items]
        ranges = (range(n, min(n + size, len(items))) for n in range(0, len(items), size))
        batches = ([n for n in numbers if left[n]] for numbers in ranges)
        self.batches = [batch for batch in batches if batch]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Explainer(pl.LightningModule):
    """The model; a step turns a batch of inputs into rows."""

    def __init__(self, experiment: Experiment, study: Study) -> None:
        super().__init__()
        self.network = study.vit.module
        self.experiment, self.study = experiment, study

    def predict_step(self, batch: list[Any], batch_idx: int) -> Rows:  # noqa: ARG002
        """Rows of a batch, with what the items say of each; none of unreadable pictures."""
        for error in (entry for entry in batch if isinstance(entry, UnreadableImage)):
            if getattr(self.study.pictures, "on_error", "skip") == "raise":
                raise error
            log.warning("skipped: %s", error)
        entries = [(item, ready) for item, ready, _ in _readable(batch)]
        if not entries:
            return Rows(pd.DataFrame())
        with torch.enable_grad():
            found = self.experiment.rows(self.study, entries)
        return Rows(_with_items(found.table, [item for item, _ in entries]), found.pictures)

    def transfer_batch_to_device(self, batch: Any, *_: Any) -> Any:
        """Nothing: steps move what they need, and Lightning refuses frozen records."""
        return batch


class TableWriter(BasePredictionWriter):
    """Each batch to disk before the next one: pictures first, for rows say that all is there.

    Args:
        results: Of this process.

    Attributes:
        monitor: Is told how far it is.
        inputs: Checksum of what the model's rows are computed from.
    """

    def __init__(self, results: Results) -> None:
        super().__init__("batch")
        self.results, self.inputs = results, ""
        self.monitor: Any = None

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,  # noqa: ARG002
        pl_module: pl.LightningModule,
        prediction: Rows,
        batch_indices: Any,  # noqa: ARG002
        batch: list[Any],
        *_: Any,
    ) -> None:
        """Store a batch."""
        assert isinstance(pl_module, Explainer)
        model, run_dir = pl_module.study.vit.name, self.results.folder.path
        if not prediction.table.empty:
            pictures = dict(store_picture(run_dir, *named) for named in prediction.pictures.items())
            files = {key_of(item): sources for item, _, sources in _readable(batch)}
            inputs = PartInputs(model, self.inputs, files, pictures)
            self.results.append(prediction.table.assign(model=model), inputs)
        self.monitor.advance(model, len(batch))


def _readable(batch: Sequence[Any]) -> list[Any]:
    return [entry for entry in batch if not isinstance(entry, UnreadableImage)]


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


def _leave_signals_to_parent(_: int) -> None:
    """In a data worker: Ctrl-C and SIGTERM reach the whole group, and the parent ends all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice (more workers, an idle GPU) and its use of old parts of torch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=PossibleUserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")
        yield
