"""Runs that are stored: shards merged, figures drawn again, from their own folder alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from attnguide.errors import InputError
from attnguide.runs.objects import stored_experiment, stored_logger
from attnguide.runs.world import check_parts
from attnguide.runs.write import write_findings
from attnguide.store.config import load_config
from attnguide.store.files import refuse_links
from attnguide.store.provenance import Provenance
from attnguide.store.table import merge


def draw_again(run_dir: Path, console: Console) -> None:
    """Figure and report from what a run stored (`stage=draw`)."""
    config = load_config(run_dir)
    refuse_links(run_dir)
    if (run_dir / "parts").is_dir():
        check_parts(run_dir)
    write_findings(stored_experiment(config), config, run_dir, console)


def merge_parts(run_dir: Path, console: Console) -> None:
    """One table of the parts, where there are some.

    Raises:
        ValueError: parts of several worlds.
    """
    if any((run_dir / "parts").glob("*.parquet")):
        check_parts(run_dir, console)
        merge(run_dir)


def merge_shards(run_dir: Path, console: Console) -> None:
    """One table of all shards, and what is drawn from it (`stage=merge`).

    Raises:
        ValueError: shards that are not finished; parts of several worlds.
    """
    config = load_config(run_dir)
    refuse_links(run_dir)
    check_parts(run_dir, console)
    count = int(config["data"].get("num_shards", 1))
    shards = [Provenance(run_dir, shard, count) for shard in range(count)]
    missing = [number for number, shard in enumerate(shards) if not shard.finished]
    if missing:
        raise InputError(
            f"{len(missing)} of {count} shards of {run_dir} are not finished: "
            f"{', '.join(map(str, missing))}; run them (data.shard=N) and merge again"
        )
    rows = merge(run_dir)
    console.print(f"Merged {count} shards: {rows['image_id'].nunique()} images, {len(rows)} rows.")
    if count > 1:
        Provenance(run_dir).gather(shards)
    with stored_logger(config).open(run_dir, config) as tracker:
        write_findings(stored_experiment(config), config, run_dir, console, tracker)


@contextmanager
def nothing_left(run_dir: Path) -> Iterator[None]:
    """A command that is refused before anything is computed leaves no folder behind."""
    was_there = os.path.lexists(run_dir)
    try:
        yield
    except InputError:
        if not was_there and not any(run_dir.glob("parts/*.parquet")):
            shutil.rmtree(run_dir, ignore_errors=True)
        raise
