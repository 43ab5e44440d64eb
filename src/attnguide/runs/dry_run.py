"""`stage=check`: everything that can fail, tried without the work; and what the run will cost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attnguide.data.pictures import Item, share
from attnguide.errors import InputError
from attnguide.figures.experiment import Experiment, Study, Task
from attnguide.models.reader import UnreadableImage
from attnguide.runs.lifecycle import ErrorCollector, Run

SAMPLE = 16  # pictures that are opened
SPARE = 2.0  # times the expected size that the disk must have free


def dry_run(run: Run, errors: ErrorCollector) -> None:
    """Try models, pictures, one step, disk and tracker; print what the run will cost.

    Args:
        run: As it would be executed.
        errors: What its making has found to be wrong.

    Raises:
        ValueError: everything that cannot work.
    """
    with errors.collect():
        check = getattr(run.logger, "check", None)
        _print(run, f"tracker   {check() if check else 'files only'}")
    with errors.collect():
        if not isinstance(run.experiment, Task):
            for vit in run.experiment.models(run.choices, run.devices[0]):
                seconds, size = _try_model(run, run.choices.of(vit))
                with errors.collect():
                    check_disk(run.folder.path, size)
                cost = f"about {_duration(seconds)} on {run.devices[0]}, {size / 2**20:.0f} MB"
                _print(run, f"cost      {cost}; extrapolated from one step, accurate to about 30 %")
    errors.raise_all()
    _print(run, "All checks passed; nothing was written.")


def _try_model(run: Run, study: Study) -> tuple[float, float]:
    """Seconds and bytes that this process's share will take, from one step."""
    vit = study.vit
    _print(run, f"model     {vit.name}, {len(vit.class_names)} classes, {vit.weights_sha256[:12]}")
    selection = run.experiment.to_study(study)
    mine = share(selection.items, run.settings.shard, run.settings.num_shards)
    counts = f"{len(selection.items)} items, {len(mine)} of them here."
    _print(run, f"pictures  {counts} {selection.note}".strip())
    entries, unreadable = _open(run.experiment, study, _spread(mine))
    if unreadable:
        _print(run, f"unreadable {len(unreadable)} of {SAMPLE}, such as {unreadable[0]}")
    if not entries:
        raise InputError(f"none of {SAMPLE} pictures can be read, such as {unreadable[:1]}")
    batch = entries[: study.batch_size]
    begun = time.monotonic()
    with torch.enable_grad():
        rows = run.experiment.rows(study, batch)
    spent = time.monotonic() - begun
    size = float(rows.table.memory_usage(deep=True).sum()) / 4  # parquet is about a quarter
    return spent * len(mine) / len(batch), size * len(mine) / len(batch)


def _open(
    experiment: Experiment, study: Study, items: Sequence[Item]
) -> tuple[list[tuple[Item, Any]], list[str]]:
    """Inputs of the pictures that can be read, and why the others cannot."""
    entries, unreadable = [], []
    for item in items:
        try:
            sample = item.load()
        except UnreadableImage as error:
            unreadable.append(str(error))
            continue
        entries.append((replace(item, shown=None), experiment.inputs(study, item, sample)))
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


def _print(run: Run, text: str) -> None:
    run.console.print(text, markup=False)
