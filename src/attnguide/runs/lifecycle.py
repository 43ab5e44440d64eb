"""The life of a run: check, compute what is missing, merge, draw, print."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from attnguide.data.pictures import share
from attnguide.errors import InputError, command
from attnguide.figures.experiment import CHOICES, Choices, Experiment, Task, Work
from attnguide.runs.console import make_console
from attnguide.runs.memory import device_name, fitting_batch
from attnguide.runs.objects import (
    OWNERS,
    build_choices,
    build_experiment,
    build_logger,
    choose_devices,
    refuse_unused,
    trainer_maker,
)
from attnguide.runs.refusals import Faults, check_allocation
from attnguide.runs.rehearsal import rehearse
from attnguide.runs.secrets import hide
from attnguide.runs.seed import seed_everything
from attnguide.runs.settings import FREE, RANK, Settings, read_settings
from attnguide.runs.stored import draw_again, merge_parts, merge_shards, nothing_left
from attnguide.runs.world import file_stamps, fingerprint, identity_of, is_unchanged, settle
from attnguide.runs.write import write_findings
from attnguide.store.config import open_run
from attnguide.store.files import refuse_links
from attnguide.store.identity import settings_digest
from attnguide.store.provenance import Provenance
from attnguide.store.table import Results

if TYPE_CHECKING:
    from attnguide.runs.progress import Progress


def run(
    config: Mapping[str, Any],
    words: Sequence[str],
    run_dir: Path,
    *,
    sweep: bool = False,
    stored: Mapping[str, Any] | None = None,
) -> None:
    """Do what `stage` says.

    "run" computes what is missing and draws, "check" tries what can fail without the work, "draw"
    draws, "merge" merges the shards and draws, "aggregate" makes one table and page of all runs
    below `run_dir`, "dashboard" defines the panels of W&B.

    Args:
        config: Composed, plain values.
        words: Keys that the command line sets.
        run_dir: Of the run, or above many.
        sweep: Leave a run alone that is finished and drawn.
        stored: The same config for records, without what came from the environment.

    Raises:
        ValueError, TypeError, OSError: what the user asked for cannot be done, and why.
        SystemExit: 130 after Ctrl-C; what is stored is complete.
    """
    settings = read_settings(config)
    console = make_console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Lightning would swallow it
    try:
        if settings.stage in ("run", "check"):
            life = Life(config, words, settings, run_dir, console, sweep=sweep)
            life.keep(config if stored is None else stored)
            with nothing_left(run_dir):
                life.live()
        elif settings.stage == "merge":
            merge_shards(run_dir, console)
        elif settings.stage == "draw":
            draw_again(run_dir, console)
        else:
            from attnguide.runs import aggregate

            getattr(aggregate, settings.stage)(config, run_dir, console)
    except KeyboardInterrupt:
        if not int(os.environ.get(RANK, 0)):  # the first process speaks for all
            console.print(
                f"\nStopped. What is stored is complete; the same command with run_dir={run_dir} "
                "goes on from there.",
                soft_wrap=True,
            )
        raise SystemExit(130) from None


class Life:
    """One run, from its config to its report."""

    def __init__(
        self,
        config: Mapping[str, Any],
        words: Sequence[str],
        settings: Settings,
        run_dir: Path,
        console: Console,
        *,
        sweep: bool,
    ) -> None:
        """Make the objects; everything that can be checked without weights is checked.

        Raises:
            ValueError: what cannot be.
        """
        self.settings, self.run_dir, self.console, self.sweep = settings, run_dir, console, sweep
        self.faults = Faults()
        attempt = self.faults.gathered if settings.stage == "check" else nullcontext
        self.experiment: Experiment = build_experiment(config)
        self.size = 16 if settings.batch_size == "auto" else settings.batch_size
        self.devices: tuple[torch.device, ...] = (torch.device("cpu"),)
        with attempt():
            refuse_unused(words, self.experiment.takes, str(settings.experiment))
        with attempt():
            if isinstance(self.experiment, Task) and max(settings.num_shards, settings.devices) > 1:
                raise InputError(
                    f"{settings.experiment} is one piece of work and cannot be divided; leave out "
                    "data.num_shards and devices"
                )
        with attempt():
            self.devices = choose_devices(settings.device, settings.devices)
        with attempt():
            self.logger = build_logger(config["logger"])
        takes = self.experiment.takes
        choices = build_choices(config, settings, takes, self.size, attempt)
        if choices is not None:
            self.choices: Choices = choices
            with attempt():
                choices.models.check()
            with attempt():
                self.experiment.check(choices)
        self.device = self.devices[int(os.environ.get(RANK, 0)) if len(self.devices) > 1 else 0]
        self.trainer = dict(config["trainer"])
        with attempt():
            trainer_maker(self.trainer)
        self.keep(config)

    def keep(self, stored: Mapping[str, Any]) -> None:
        """Take these settings for records: those that are used."""
        used = {key: value for key, value in stored.items() if self._is_used(key)}
        self.config = dict(hide(used))

    def _is_used(self, key: str) -> bool:
        choice = OWNERS.get(key, key)
        return choice not in CHOICES or choice in self.experiment.takes

    def live(self) -> None:
        """Compute what is missing; merge and draw, if this process does all of it."""
        if self.settings.stage == "check":
            if not hasattr(self, "choices") or not hasattr(self, "logger"):
                self.faults.tell()
            rehearse(self, self.faults)
            return
        check_allocation()
        if int(os.environ.get(RANK, 0)):
            from attnguide.runs.progress import Progress  # Lightning takes seconds

            self._compute(None, Progress(Console(quiet=True), lambda *_: None))
            return
        refuse_links(self.run_dir)
        open_run(self.run_dir, self.config, FREE)
        shards = self.settings.num_shards
        provenance = Provenance(self.run_dir, self.settings.shard, shards)
        finished = self._is_finished(provenance)
        if finished and self.sweep and provenance.is_drawn:
            self.console.print(f"{self.run_dir} is finished already; skipped.", soft_wrap=True)
            return
        group = "/".join(self.run_dir.resolve().parts[-3:-1]) if self.sweep else None
        shard = None if shards == 1 else self.settings.shard
        with self.logger.open(self.run_dir, self.config, shard=shard, group=group) as tracker:
            if finished:
                self.console.print(
                    f"{self.run_dir} is finished already; drawing it again from what it stored.",
                    soft_wrap=True,
                )
            else:
                self._begin(provenance, tracker)
            if shards == 1:
                merge_parts(self.run_dir, self.console)
                write_findings(self.experiment, self.config, self.run_dir, self.console, tracker)
        if shards > 1:
            self.console.print(
                f"Shard {self.settings.shard} of {shards} is stored. When all are: "
                f"{command()} stage=merge run_dir={self.run_dir}",
                soft_wrap=True,
            )

    def _is_finished(self, provenance: Provenance) -> bool:
        """Whether all is computed, from inputs that are as they were."""
        if not provenance.finished or isinstance(self.experiment, Task):
            return provenance.finished
        if provenance.skipped:
            names = ", ".join(provenance.skipped[:3])
            self.console.print(f"trying what could not be read before: {names}", soft_wrap=True)
            return False
        pictures = str(provenance.values.get("pictures"))
        return is_unchanged(self.run_dir, self.settings.shard, self.choices, pictures)

    def _begin(self, provenance: Provenance, tracker: Any) -> None:
        from attnguide.runs.progress import Progress  # drawing does without Lightning

        provenance.begin(
            seed=self.settings.seed,
            device=device_name(self.devices),
            precision=self.settings.precision,
            pictures=fingerprint(self.choices),
        )
        progress = Progress(self.console, tracker.progress)
        finished = False
        try:
            self._compute(provenance, progress)
            finished = True
        finally:
            peak = {"peak_cuda_memory_mb": round(progress.cuda_peak / 2**20)}
            provenance.end(
                finished=finished,
                batch_size=self.size,
                **(peak if progress.cuda_peak else {}),
            )

    def _compute(self, provenance: Provenance | None, progress: Progress) -> None:
        """Rows of all items of all models; in a further device's process, its share."""
        seed_everything(self.settings.seed)
        if isinstance(self.experiment, Task):
            work = Work(self.run_dir, self.device, self.settings, self.console, self.results)
            self.experiment.work(self.choices, work)
            return
        from attnguide.runs.predict import predict

        self.files = file_stamps(self.choices)
        with self.results(self.experiment.key, owner=provenance is not None) as results:
            for vit in self.experiment.models(self.choices, self.device):
                if self.settings.batch_size == "auto":
                    self.size = fitting_batch(vit, self.devices)
                    self.choices = replace(self.choices, batch_size=self.size)
                    self.console.print(f"{vit.name}: {self.size} images at once fit into memory")
                self._study(vit, results, provenance, progress, predict)
            alone = provenance is not None and self.settings.num_shards == 1
            if alone and not results.done():
                raise InputError(
                    "no picture could be read, so there is nothing to draw; the lines above say "
                    "why of each"
                )

    def _study(
        self, vit: Any, results: Results, provenance: Any, progress: Progress, predict: Any
    ) -> None:
        """Rows of this process's share of a model's items; the list is complete before."""
        from attnguide.runs.predict import Where, unreadable

        study = self.choices.of(vit)
        selection = self.experiment.to_study(study)
        items = share(selection.items, self.settings.shard, self.settings.num_shards)
        digest = settings_digest(self.config, FREE)
        identity = identity_of(study, selection.items, digest, self.files)
        if provenance is not None:
            settle(results, identity, selection.items, self.settings, self.console)
        where = Where(
            self.devices,
            self.trainer,
            self.settings.precision,
            self.workers,
            getattr(self.choices.pictures, "on_error", "skip"),
        )
        predict(self.experiment, study, items, results, where, progress, identity)
        if provenance is None:
            return
        skipped = unreadable(items, results, vit.name)
        provenance.note(vit.name, vit.weights_sha256, selection.note, skipped, study.engine_used)
        if selection.note:
            self.console.print(f"{vit.name}: {selection.note}", soft_wrap=True)
        if skipped:
            self.console.print(
                f"{vit.name}: skipped {len(skipped)} unreadable of {len(items)} images"
            )

    @property
    def workers(self) -> int:
        """Processes that read pictures."""
        asked = self.settings.workers
        return asked if isinstance(asked, int) else 0

    def results(self, key: Sequence[str], *, owner: bool = True) -> Results:
        """The table of this shard, for writing."""
        return Results(self.run_dir, key, shard=self.settings.shard, owner=owner)
