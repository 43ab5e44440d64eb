"""`stage=check`: everything that can fail, tried without the work; and what the run will cost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console

from attnguide.data.pictures import Item, share
from attnguide.errors import InputError
from attnguide.figures.experiment import Choices, Experiment, Study, Task
from attnguide.models.reader import UnreadableImage
from attnguide.runs.refusals import Faults, check_allocation
from attnguide.runs.settings import Settings

SAMPLE = 16  # pictures that are opened
SPARE = 2.0  # times the expected size that the disk must have free


class Rehearsed(Protocol):
    """What is tried of a run: see `lifecycle.Life`."""

    experiment: Experiment
    choices: Choices
    device: torch.device
    settings: Settings
    size: int
    run_dir: Path
    logger: Any
    console: Console


def rehearse(life: Rehearsed, faults: Faults) -> None:
    """Try models, pictures, one step, disk and tracker; print what the run will cost.

    Raises:
        ValueError: everything that cannot work.
    """
    say = life.console.print
    with faults.gathered():
        check_allocation()
    with faults.gathered():
        check = getattr(life.logger, "check", None)
        say(f"tracker   {check() if check else 'files only'}", markup=False)
    with faults.gathered():
        if not isinstance(life.experiment, Task):
            for vit in life.experiment.models(life.choices, life.device):
                seconds, size = _try_model(life, life.choices.of(vit), say)
                with faults.gathered():
                    check_disk(life.run_dir, size)
                cost = f"about {_duration(seconds)} on {life.device}, {size / 2**20:.0f} MB"
                say(f"cost      {cost}; one step was timed, so expect a third more or less")
    faults.tell()
    say("Everything that could be tried works; nothing was written.")


def _try_model(life: Rehearsed, study: Study, say: Callable[..., None]) -> tuple[float, float]:
    """Seconds and bytes that this process's share will take, from one step."""
    vit = study.vit
    say(f"model     {vit.name}, {len(vit.class_names)} classes, {vit.weights_sha256[:12]}")
    selection = life.experiment.to_study(study)
    mine = share(selection.items, life.settings.shard, life.settings.num_shards)
    counts = f"{len(selection.items)} items, {len(mine)} of them here."
    say(f"pictures  {counts} {selection.note}".strip())
    entries, unreadable = _open(life, study, _spread(mine))
    if unreadable:
        say(f"unreadable {len(unreadable)} of {SAMPLE}, such as {unreadable[0]}", markup=False)
    if not entries:
        raise InputError(f"none of {SAMPLE} pictures can be read, such as {unreadable[:1]}")
    batch = entries[: life.size]
    begun = time.monotonic()
    with torch.enable_grad():
        found = life.experiment.rows(study, batch)
    spent = time.monotonic() - begun
    size = float(found.table.memory_usage(deep=True).sum()) / 4  # parquet is about a quarter
    return spent * len(mine) / len(batch), size * len(mine) / len(batch)


def _open(
    life: Rehearsed, study: Study, items: Sequence[Item]
) -> tuple[list[tuple[Item, Any]], list[str]]:
    entries, unreadable = [], []
    for item in items:
        try:
            sample = item.load()
        except UnreadableImage as error:
            unreadable.append(str(error))
            continue
        entries.append((replace(item, shown=None), life.experiment.inputs(study, item, sample)))
    return entries, unreadable


def _spread(items: Sequence[Item]) -> list[Item]:
    """Some of the items, evenly."""
    step = max(1, len(items) // SAMPLE)
    return list(items[::step])[:SAMPLE]


def check_disk(run_dir: Path, size: float) -> None:
    """Refuse a disk without space.

    Raises:
        OSError: too little is free.
    """
    folder = next(parent for parent in (run_dir, *run_dir.resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if free < SPARE * size:
        raise OSError(
            f"the run needs about {size / 2**30:.1f} GB and {folder} has {free / 2**30:.1f} GB "
            "free; pass another run_dir"
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
