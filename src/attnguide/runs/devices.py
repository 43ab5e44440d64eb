"""Lightning's `Trainer.predict` on one device, or on several with a process for each."""

from __future__ import annotations

import builtins
import logging
import os
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import Callback
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.utils.data import DataLoader

from attnguide.errors import InputError
from attnguide.runs.job import Job
from attnguide.types import ViT

PRECISIONS: dict[str, Literal["32-true", "bf16-mixed"]] = {
    "fp32": "32-true",
    "tf32": "32-true",
    "bf16": "bf16-mixed",
}
_NEEDLESS = "many workers|`srun`|GPU available|LeafSpec|batch indices|returned None|os.fork"


class _Rank(Callback):
    """What a process of its own needs before its first batch, and asks after each."""

    def __init__(self, vit: ViT) -> None:
        self.vit, self.parent = vit, os.getpid()

    def on_predict_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Leave Ctrl-C to the parent, and take the model to the own device."""
        if os.getpid() == self.parent:
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what is on disk is whole at any moment
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        self.vit.module.to(trainer.strategy.root_device)

    def on_predict_batch_end(self, *_: Any) -> None:
        """Before a batch is stored: an orphan ends, as the lock died with its parent."""
        if os.getpid() != self.parent != os.getppid():
            os._exit(1)


def _error(failure: ProcessRaisedException | ProcessExitedException) -> Exception:
    """What went wrong in the process that failed first, as if it had been ours."""
    if isinstance(failure, ProcessExitedException):
        return OSError(
            f"the process of device {failure.error_index} was killed, perhaps for its memory "
            f"({failure}); what is stored is complete: run the same command again, or with a "
            "smaller batch_size"
        )
    lines = str(failure).rstrip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith("  ")]
    kind, _, message = "\n".join(lines[frames[-1] + 1 :]).partition(": ")
    known = getattr(builtins, kind, ValueError if kind.startswith("attnguide.") else RuntimeError)
    return known(message) if issubclass(known, Exception) else RuntimeError(kind)


def through_lightning(
    job: Job,
    devices: Sequence[torch.device],
    vit: ViT,
    step: pl.LightningModule,
    batches: DataLoader[Any],
    callbacks: list[Callback],
) -> None:
    """`Trainer.predict` with everything switched off that would write, train or requeue.

    Several devices are Lightning's `ddp_fork`: each process inherits step and results, and takes
    its share of the batches, none twice. If one fails, all end.

    Raises:
        Exception: what a step raised, on whichever device.
    """
    stale = [path.name for path in Path(job.run_dir).glob("hpc_ckpt*")]
    if stale:
        raise InputError(f"{job.run_dir} holds {stale}, which Lightning would load; remove them")
    torch.set_float32_matmul_precision("high" if job.precision == "tf32" else "highest")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    several = len(job.devices) > 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"(?s).*({_NEEDLESS})")
        trainer = pl.Trainer(
            **_where(devices, several=several),
            precision=PRECISIONS[job.precision],
            default_root_dir=job.run_dir,
            callbacks=[_Rank(vit), *callbacks],
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
        except (ProcessRaisedException, ProcessExitedException) as failure:
            raise _error(failure) from failure
        finally:
            for process in getattr(trainer.strategy.launcher, "procs", ()):
                if process.is_alive():
                    process.kill()
            if several:
                os.environ.pop("MASTER_PORT", None)  # the next model's processes take a new one


def _where(devices: Sequence[torch.device], *, several: bool) -> dict[str, Any]:
    """Lightning's words for where to run."""
    cuda = devices[0].type == "cuda"
    environment: list[Any] = []
    if several:  # SLURM counts tasks, and these processes are ours
        environment = [LightningEnvironment()]
    elif SLURMEnvironment.detect():
        environment = [SLURMEnvironment(auto_requeue=False)]
    return {
        "accelerator": "gpu" if cuda else "cpu",
        "devices": [device.index or 0 for device in devices] if cuda else len(devices),
        "strategy": "ddp_fork" if several else "auto",
        "plugins": environment,
    }
