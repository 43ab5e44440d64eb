"""Processes that read pictures or drive further devices: how they end, and what is said of it."""

from __future__ import annotations

import os
import re
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch

from attnguide.errors import InputError
from attnguide.runs.settings import RANK

_WORKER_DIED = re.compile(r"DataLoader worker \(pid|shared memory|torch_shm")
_HANDING_OVER = ("multiprocessing/reductions.py", "multiprocessing/connection.py")


def leave_signals_to_parent(_: int) -> None:
    """In a data worker: Ctrl-C and SIGTERM reach the whole group, and the parent ends all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def readable_workers() -> Iterator[None]:
    """Turn the death of a data worker into what a user can do about it.

    Raises:
        ValueError: a worker died, or found no shared memory.
    """
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        text = str(error)
        if not _WORKER_DIED.search(text) and not _between_processes(error):
            raise
        died = re.search(r"killed by signal: ([A-Z][a-z ]+)", text)
        how = f" ({died[1].strip()})" if died else ""
        raise InputError(
            f"a process that reads pictures died{how}, mostly for want of memory or of space in "
            "/dev/shm; what is stored is complete: run the same command with data.workers=0 or a "
            "smaller batch_size"
        ) from error


def _between_processes(error: BaseException) -> bool:
    """Whether it was raised while something was handed from one process to another."""
    files = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
    return any(file.endswith(_HANDING_OVER) for file in files)


@contextmanager
def ended_well(trainer: pl.Trainer) -> Iterator[None]:
    """Ctrl-C raised as what it is, and no process of a further device left after an error."""
    try:
        yield
    except BaseException as error:
        for process in getattr(trainer.strategy.launcher, "procs", ()):
            process.kill()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if os.environ.get(RANK) == "0":  # Lightning's own, which would take them for alive
            for name in (RANK, "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR"):
                os.environ.pop(name, None)
        if isinstance(error, SystemExit) and trainer.interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None  # Lightning makes it an exit, and turns deaf to it
        raise
    finally:
        os.environ.pop("MASTER_PORT", None)
