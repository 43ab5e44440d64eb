"""A run: check, compute what is missing, merge, draw, print."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from attnguide.data.pictures import Item, Selection, share
from attnguide.errors import InputError, command
from attnguide.figures.experiment import CHOICES, Choices, Experiment, Study, Task, Work
from attnguide.models.reader import UnreadableImage
from attnguide.runs.console import Monitor, make_console
from attnguide.runs.devices import (
    choose_devices,
    device_name,
    fitting_batch,
    peak_memory,
    run_on_devices,
    settle,
)
from attnguide.runs.draw import draw_again, merge_shards, verify, write_findings
from attnguide.runs.objects import (
    Problems,
    build_choices,
    build_experiment,
    build_logger,
    is_used,
    refuse_unused,
)
from attnguide.runs.resume import check_inputs, check_parts, open_run, trial_of_run
from attnguide.runs.settings import CHOSEN, Settings, hide, read_settings
from attnguide.store.folder import RunFolder
from attnguide.store.provenance import Provenance
from attnguide.store.table import Results, merge
from attnguide.tracking import Files
from attnguide.viz.style import drawn_with

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from attnguide.runs.predict import TableWriter

    Prepared = tuple[TableWriter, pl.Trainer, Iterator[tuple[Study, Selection]]]

SAMPLE, TIMED = 16, 2  # pictures of a kind that stage=check opens at most, and computes
STORED = {"merge": merge_shards, "draw": draw_again, "verify": verify}  # stages without a model


def run(
    config: Mapping[str, Any],
    overrides: Sequence[str],
    run_dir: Path,
    *,
    sweep: bool = False,
    stored: Mapping[str, Any] | None = None,
) -> None:
    """Do what `stage` says (`runs.settings.Settings`).

    Args:
        config: Composed, plain values.
        overrides: Keys that the command line sets.
        run_dir: Of the run, or above many.
        sweep: Leave a run alone that is finished and drawn.
        stored: The same config for records, without what came from the environment.

    Raises:
        ValueError, TypeError, OSError: what the user asked for cannot be done, and why.
        SystemExit: 130 after Ctrl-C; what is stored is complete.
    """
    stage, console = config["stage"], make_console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Lightning would swallow it
    try:
        if stage in ("run", "check"):
            made = Run(config, overrides, run_dir, console, stored)
            with drawn_with(made.settings.figure):
                made.check() if stage == "check" else made.execute(sweep=sweep)
            return
        with drawn_with(read_settings(config).figure):
            if stage in STORED:
                STORED[stage](config, run_dir, console)
            else:
                from attnguide.runs import aggregate

                getattr(aggregate, stage)(config, run_dir, console)
    except KeyboardInterrupt:
        console.print(
            "\nInterrupted. Results so far are saved; run the same command with "
            f"run_dir={run_dir} to resume."
        )
        raise SystemExit(130) from None


class Run:
    """One run, from its config to its report.

    Args:
        config, overrides, run_dir, stored: As of `run`.
        console: Where to print.

    Attributes:
        given: The config as it came, for the processes of several devices.
        values: The settings that are used, as they count.
        config: The same for records; values of the environment are named, secrets are hidden.

    Raises:
        ValueError: all that can be told to be wrong without loading weights.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        overrides: Sequence[str],
        run_dir: Path,
        console: Console,
        stored: Mapping[str, Any] | None = None,
    ) -> None:
        self.given, self.overrides, self.console = dict(config), list(overrides), console
        self.folder = RunFolder(run_dir)
        problems = Problems()
        self.settings = settings = problems.attempt(read_settings, config) or Settings()
        if not all(isinstance(config.get(node), Mapping) for node in CHOSEN):
            problems.raise_all()
        experiment = problems.attempt(build_experiment, config)
        self.experiment: Experiment = Experiment() if experiment is None else experiment
        chosen = frozenset(name for name in CHOICES if config.get(name)) | {"engine"}
        uses = chosen if experiment is None else experiment.uses
        if experiment is not None:
            problems.attempt(refuse_unused, overrides, uses, str(settings.experiment))
        if isinstance(self.experiment, Task) and max(settings.num_shards, settings.devices) > 1:
            problems.messages.append(
                f"{settings.experiment} cannot be sharded or run on several devices; remove "
                "data.num_shards and devices"
            )
        devices = problems.attempt(choose_devices, settings.device, settings.devices)
        self.logger: Any = problems.attempt(build_logger, config["logger"])
        choices = build_choices(config, settings, uses, problems)
        if choices is not None and experiment is not None:
            problems.attempt(experiment.check, choices)
        problems.raise_all()
        assert choices is not None
        assert devices is not None
        self.choices: Choices = choices
        self.devices: tuple[torch.device, ...] = devices
        self.values, self.config = (
            {key: value for key, value in hide(given).items() if is_used(key, uses)}
            for given in (config, config if stored is None else stored)
        )

    def execute(self, *, sweep: bool = False) -> None:
        """Compute what is missing; merge and draw, if this process does all of it."""
        _check_allocation()
        run_dir, shard, shards = self.folder.path, self.settings.shard, self.settings.num_shards
        results, prepared = Results(run_dir, self.experiment.key, shard), None
        self.folder.refuse_foreign()
        if not self.folder.config.is_file() and self._is_alone:
            prepared = self._prepare(results)  # a command that is refused here leaves no folder
        open_run(self.folder, self.values, self.config, self.console)
        with results:
            provenance = Provenance(run_dir, shard, shards)
            was_finished = provenance.finished
            skips = sweep and was_finished and provenance.is_drawn  # if its inputs are the same
            group = "/".join(run_dir.resolve().parts[-3:-1]) if sweep else None
            logger = Files() if skips else self.logger
            tracked = logger.open(
                run_dir, self.config, shard=None if shards == 1 else shard, group=group
            )
            with tracked as tracker:
                is_new = self._compute(results, provenance, tracker, prepared)
                if was_finished and not is_new:
                    then = "skipped" if skips else "redrawing from stored results"
                    self.console.print(f"{run_dir} is already finished; {then}.")
                    if skips:
                        return
                if shards == 1:
                    check_parts(self.folder)
                    merge(run_dir)
                    write_findings(self.experiment, self.config, self.folder, self.console, tracker)
        if shards > 1:
            self.console.print(
                f"Shard {shard} of {shards} is stored. When all are: {command()} stage=merge "
                f"run_dir={run_dir}" + ("" if isinstance(self.logger, Files) else " logger=NAME")
            )

    def check(self) -> None:
        """Try tracker, models, pictures and one step; print what the run will cost.

        Raises:
            ValueError: everything that cannot work.
        """
        problems, say = Problems(), self.console.print
        check = getattr(self.logger, "check", lambda: "files only")
        say(f"tracker   {problems.attempt(check)}")
        if not isinstance(self.experiment, Task):
            problems.attempt(self._try_models)
        problems.raise_all()
        say("All checks passed; nothing was written.")

    def _try_models(self) -> None:
        """Time one step of every model, and say what its share of the items will take."""
        settings, experiment, say = self.settings, self.experiment, self.console.print
        for vit in experiment.models(self.choices, self.devices[0]):
            say(f"model     {vit.name}, {len(vit.class_names)} classes, {vit.weights_sha256[:12]}")
            study = self.choices.of(vit)
            selection = experiment.to_study(study)
            mine = share(selection.items, settings.shard, settings.num_shards)
            counts = f"{len(selection.items)} items, {len(mine)} of them here."
            say(f"pictures  {counts} {selection.note}".strip())
            if not selection.items:
                raise InputError(f"no item is left to study. {selection.note}".strip())
            if not mine:  # of a shard: another one has them
                continue
            masks = "engine" in experiment.uses
            settle(study, mine, settings.threads, lambda _, timed: timed(), masks=masks)
            kinds: dict[Any, list[Item]] = {}
            for item in mine:
                kinds.setdefault(experiment.kind(study, item), []).append(item)
            cost = np.zeros(2)
            for own in sorted(kinds.values(), key=len, reverse=True):
                cost += self._try_items(study, own, warm=bool(cost.any()))
            seconds, size = cost.tolist()
            if not seconds:
                raise InputError("none of the pictures that were tried can be read; see above")
            took = timedelta(seconds=round(seconds / len(self.devices)))
            whose = f" for each of {settings.num_shards} shards" * (settings.num_shards > 1)
            say(
                f"cost      about {took} (hours:minutes:seconds){whose} on {self.devices[0]}, "
                f"{peak_memory(self.devices[0]) / 2**30:.1f} GB of memory, {size / 2**20:.0f} MB "
                "stored; extrapolated from a picture or two of each kind, accurate to about 30 %"
            )
            _check_disk(self.folder.path, size)

    def _try_items(self, study: Study, items: Sequence[Item], *, warm: bool) -> NDArray[np.float64]:
        """Seconds and bytes of all these items, of a kind, by one of them, or by two of many."""
        entries, unreadable, begun = [], [], time.monotonic()
        first, wanted = len(items) // 2, TIMED if len(items) > SAMPLE else 1
        for item in items[first : first + SAMPLE]:
            try:
                entries.append((item, self.experiment.inputs(study, item, item.load())))
            except UnreadableImage as error:
                unreadable.append(str(error))
            if len(entries) == wanted:
                break
        if unreadable:
            opened = len(unreadable) + len(entries)
            self.console.print(f"unreadable {len(unreadable)} of {opened}, such as {unreadable[0]}")
        if not entries:
            return np.zeros(2)
        seconds = time.monotonic() - begun
        with torch.enable_grad():
            if not warm:
                self.experiment.rows(study, entries[:1])
            begun = time.monotonic()
            rows = self.experiment.rows(study, entries)
        seconds += time.monotonic() - begun
        size = rows.table.memory_usage(deep=True).sum() / 4  # as parquet
        return len(items) / len(entries) * np.array([seconds, size])

    @property
    def _is_alone(self) -> bool:
        """Whether this process computes the rows itself."""
        return len(self.devices) == 1 and not isinstance(self.experiment, Task)

    def _compute(
        self, results: Results, provenance: Provenance, tracker: Any, prepared: Prepared | None
    ) -> bool:
        """Rows of all items of this shard, on one device or several; whether there are new ones."""
        if provenance.finished and isinstance(self.experiment, Task):
            return False
        if provenance.skipped:
            names = ", ".join(provenance.skipped[:3])
            self.console.print(f"retrying pictures that were unreadable last time: {names}")
        facts = {
            "seed": self.settings.seed,
            "device": device_name(self.devices),
            "precision": self.settings.precision,
        }
        count, before = len(self.devices), len(results.parts())
        monitor = Monitor(self.console, provenance, tracker.progress, count, facts)
        finished, threads = False, torch.get_num_threads()
        try:
            if isinstance(self.experiment, Task):
                provenance.begin(**facts)
                self._work(self.experiment, results)
            elif self._is_alone:
                self.compute_rows(prepared or self._prepare(results), monitor)
            else:
                given = (self.given, self.overrides, self.folder.path)
                run_on_devices(compute_on_device, count, monitor, *given)
            finished = True
        finally:
            torch.set_num_threads(threads)
            monitor.close()
            provenance.end(finished=finished)
        if self.settings.num_shards == 1 and not results.done():
            raise InputError("no picture could be read; see the reasons above")
        return len(results.parts()) > before

    def _work(self, task: Task, results: Results) -> None:
        _seed_everything(self.settings.seed)
        if self.settings.threads != "auto":
            torch.set_num_threads(self.settings.threads)
        work = Work(
            self.folder.path, self.devices[0], self.settings, self.console,
            lambda _: nullcontext(results),  # whose lock this process holds already
        )  # fmt: skip
        task.work(self.choices, work)

    def _prepare(self, results: Results, number: int = 0) -> Prepared:
        """Trainer and studies; the first model is loaded, and its pictures are listed."""
        from attnguide.runs.predict import TableWriter, make_trainer  # Lightning takes seconds

        writer, device = TableWriter(results), self.devices[number]
        trainer = make_trainer(
            self.given["trainer"], device, self.settings.precision, self.folder.path, writer
        )
        studies = self._studies(device)
        return writer, trainer, chain([next(studies)], studies)

    def _studies(self, device: torch.device) -> Iterator[tuple[Study, Selection]]:
        """Every model with its complete list."""
        _seed_everything(self.settings.seed)
        for vit in self.experiment.models(self.choices, device):
            choices = self.choices
            if self.settings.batch_size == "auto":
                size = fitting_batch(vit, device, len(self.devices))
                choices = replace(choices, batch_size=size)
                self.console.print(f"{vit.name}: {size} images at once fit into memory")
            study = choices.of(vit)
            yield study, self.experiment.to_study(study)

    def compute_rows(self, prepared: Prepared, monitor: Any, number: int = 0) -> None:
        """Rows of this process's share of every model's items.

        Args:
            prepared: As `_prepare` gives it.
            monitor: As `runs.console.Monitor`.
            number: Of the device among those of this shard.
        """
        from attnguide.runs.predict import DeadWorker, predict

        writer, trainer, studies = prepared
        writer.monitor = monitor
        shard, shards = self.settings.shard, self.settings.num_shards
        workers = self.settings.workers if isinstance(self.settings.workers, int) else 0
        device = self.devices[number]
        for study, selection in studies:
            vit = study.vit
            items = share(share(selection.items, shard, shards), number, len(self.devices))
            writer.inputs = check_inputs(self.folder, study, selection.items)
            done = writer.results.done(model=vit.name)
            monitor.begin(vit.name, len(items), sum((i.part, i.id) in done for i in items))
            left = [item for item in items if (item.part, item.id) not in done]
            trial, masks = partial(trial_of_run, self.folder), "engine" in self.experiment.uses
            settle(study, left, self.settings.threads, trial, masks=masks)
            try:
                predict(trainer, self.experiment, study, items, done, workers)
            except DeadWorker:
                workers //= 2
                self.console.print(
                    f"warning: a process that reads pictures died; going on with {workers} of them"
                )
                done = writer.results.done(model=vit.name)
                predict(trainer, self.experiment, study, items, done, workers)
            done = writer.results.done(model=vit.name)
            of_model = {"weights_sha256": vit.weights_sha256, "notes": selection.note}
            if study.engine_used:
                of_model["engine"] = study.engine_used
            skipped = [item.id for item in items if (item.part, item.id) not in done]
            facts = {"skipped": skipped, "batch_size": study.batch_size}
            if device.type == "cuda":
                facts["peak_cuda_memory_mb"] = round(peak_memory(device) / 2**20)
            else:
                facts["threads"] = torch.get_num_threads()
            monitor.note(vit.name, of_model, facts)


def compute_on_device(
    number: int,
    monitor: Any,
    config: Mapping[str, Any],
    overrides: Sequence[str],
    run_dir: Path,
) -> None:
    """In the process of one of several devices: the run again, but only its share of the rows."""
    run = Run(config, overrides, run_dir, make_console())
    with Results(run_dir, run.experiment.key, run.settings.shard, device=number) as results:
        run.compute_rows(run._prepare(results, number), monitor, number)


def _check_disk(run_dir: Path, size: float) -> None:
    """Refuse a disk without twice the bytes that a run will store."""
    folder = next(parent for parent in run_dir.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise InputError(
            f"the run needs about {size / 2**30:.1f} GB and {folder} has {free / 2**30:.1f} GB "
            "free; pass another run_dir"
        )


def _check_allocation() -> None:
    """Refuse several tasks of SLURM that would all do the same run.

    Raises:
        ValueError: this process is one of several tasks.
    """
    tasks, rank = os.environ.get("SLURM_NTASKS", "1"), os.environ.get("SLURM_PROCID", "0")
    if tasks.isdigit() and int(tasks) > 1 and rank != "0":
        raise InputError(
            f"this is task {rank} of {tasks} in one allocation, and all would do the same run; use "
            "srun -n 1 with devices=N, or slurm/array.sbatch for shards"
        )


def _seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
