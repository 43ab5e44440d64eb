"""A run: check, compute what is missing, merge, draw, print."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console

from attnguide.data.pictures import Selection, share
from attnguide.errors import InputError, command
from attnguide.figures.experiment import Choices, Experiment, Study, Task, Work
from attnguide.runs.console import make_console
from attnguide.runs.devices import device_name, fitting_batch, run_on_devices
from attnguide.runs.objects import (
    build,
    build_choices,
    build_experiment,
    choose_devices,
    refuse_unused,
)
from attnguide.runs.progress import Monitor
from attnguide.runs.resume import check_inputs, check_settings, open_run
from attnguide.runs.secrets import hide
from attnguide.runs.settings import Settings, read_settings
from attnguide.runs.write import draw_again, merge_parts, merge_shards, write_findings
from attnguide.store.folder import RunFolder
from attnguide.store.provenance import Provenance
from attnguide.store.table import Results
from attnguide.tracking import Files

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from attnguide.runs.predict import TableWriter

    Prepared = tuple[TableWriter, pl.Trainer, Iterator[tuple[Study, Selection]]]


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
        if settings.stage == "run":
            Run(config, words, settings, run_dir, console, stored).execute(sweep=sweep)
        elif settings.stage == "check":
            from attnguide.runs.dry_run import dry_run

            errors = ErrorCollector()
            dry_run(Run(config, words, settings, run_dir, console, errors=errors), errors)
        elif settings.stage == "merge":
            merge_shards(run_dir, console)
        elif settings.stage == "draw":
            draw_again(run_dir, console)
        else:
            from attnguide.runs import aggregate

            getattr(aggregate, settings.stage)(config, run_dir, console)
    except KeyboardInterrupt:
        console.print(
            "\nInterrupted. Results so far are saved; run the same command with "
            f"run_dir={run_dir} to resume.",
            soft_wrap=True,
        )
        raise SystemExit(130) from None


class ErrorCollector:
    """Errors that a user can fix, collected so that all are told at once."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep errors that a user can fix; others are raised."""
        try:
            yield
        except (InputError, OSError) as error:
            self.messages.append(str(error))

    def raise_all(self) -> None:
        """Raise them all as one.

        Raises:
            ValueError: there are some.
        """
        if len(self.messages) == 1:
            raise InputError(self.messages[0])
        if self.messages:
            lines = "".join(f"\n  {number}. {why}" for number, why in enumerate(self.messages, 1))
            raise InputError(f"{len(self.messages)} problems found:{lines}")


class Run:
    """One run, from its config to its report.

    Args:
        config, overrides, stored: As `config`, `words` and `stored` of `run`.
        settings: The plain settings of the config.
        run_dir: Of the run.
        console: Where to print.
        errors: Collects what is wrong; without it the first error is raised.

    Attributes:
        given: The config as it came, for the processes of several devices.
        values: The settings that are used, as they count.
        config: The same for records; values of the environment are named, secrets are hidden.

    Raises:
        ValueError: what can be told to be wrong without loading weights.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        overrides: Sequence[str],
        settings: Settings,
        run_dir: Path,
        console: Console,
        stored: Mapping[str, Any] | None = None,
        errors: ErrorCollector | None = None,
    ) -> None:
        attempt = nullcontext if errors is None else errors.collect
        self.settings, self.console, self.folder = settings, console, RunFolder(run_dir)
        self.given, self.overrides = dict(config), list(overrides)
        self.experiment: Experiment = build_experiment(config)
        uses, name = self.experiment.takes, str(settings.experiment)
        self.devices: tuple[torch.device, ...] = (torch.device("cpu"),)
        self.logger: Any = None
        with attempt():
            refuse_unused(overrides, uses, name)
        with attempt():
            if isinstance(self.experiment, Task) and max(settings.num_shards, settings.devices) > 1:
                raise InputError(
                    f"{name} cannot be sharded or run on several devices; remove data.num_shards "
                    "and devices"
                )
        with attempt():
            self.devices = choose_devices(settings.device, settings.devices)
        with attempt():
            self.logger = build(hide(config["logger"]), "logger")
        size = settings.batch_size if isinstance(settings.batch_size, int) else 16
        choices = build_choices(config, settings, uses, size, attempt)
        if errors is not None and (choices is None or self.logger is None):
            errors.raise_all()
        assert choices is not None
        self.choices: Choices = choices
        with attempt():
            choices.models.check()
        with attempt():
            self.experiment.check(choices)
        self.values, self.config = (
            {key: value for key, value in hide(given).items() if _is_used(key, uses, name)}
            for given in (config, config if stored is None else stored)
        )

    def execute(self, *, sweep: bool = False) -> None:
        """Compute what is missing; merge and draw, if this process does all of it."""
        _check_allocation()
        check_settings(self.folder, self.values, self.config)
        run_dir, shard, shards = self.folder.path, self.settings.shard, self.settings.num_shards
        results, prepared = Results(run_dir, self.experiment.key, shard), None
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
                    self._print(f"{run_dir} is already finished; {then}.")
                    if skips:
                        return
                if shards == 1:
                    merge_parts(run_dir, self.console)
                    write_findings(self.experiment, self.config, run_dir, self.console, tracker)
        if shards > 1:
            self._print(
                f"Shard {shard} of {shards} is stored. When all are: {command()} stage=merge "
                f"run_dir={run_dir}"
            )

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
            self._print(f"retrying pictures that were unreadable last time: {names}")
        stored, before, finished = provenance.values, len(results.parts()), False
        provenance.begin(
            seed=self.settings.seed,
            device=device_name(self.devices),
            precision=self.settings.precision,
        )
        monitor = Monitor(self.console, provenance, tracker.progress, len(self.devices))
        try:
            if isinstance(self.experiment, Task):
                self._work(self.experiment, results)
            elif self._is_alone:
                self.compute_rows(prepared or self._prepare(results), monitor)
            else:
                run_on_devices(
                    compute_on_device, len(self.devices), monitor,
                    self.given, self.overrides, self.folder.path,
                )  # fmt: skip
            finished = True
        finally:
            monitor.close()
            if finished or len(results.parts()) > before or not stored:
                provenance.end(finished=finished, **monitor.facts())
            else:  # a command that is refused changes no record
                provenance.restore(stored)
        if self.settings.num_shards == 1 and not results.done():
            raise InputError("no picture could be read; see the reasons above")
        return len(results.parts()) > before

    def _work(self, task: Task, results: Results) -> None:
        _seed_everything(self.settings.seed)
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
                self._print(f"{vit.name}: {size} images at once fit into memory")
            study = choices.of(vit)
            yield study, self.experiment.to_study(study)

    def compute_rows(self, prepared: Prepared, monitor: Any, number: int = 0) -> None:
        """Rows of this process's share of every model's items.

        Args:
            prepared: As `_prepare` gives it.
            monitor: As `runs.progress.Monitor`.
            number: Of the device among those of this shard.
        """
        from attnguide.runs.predict import predict

        writer, trainer, studies = prepared
        writer.monitor = monitor
        shard, shards = self.settings.shard, self.settings.num_shards
        workers = self.settings.workers if isinstance(self.settings.workers, int) else 0
        for study, selection in studies:
            vit = study.vit
            items = share(share(selection.items, shard, shards), number, len(self.devices))
            writer.inputs = check_inputs(self.folder, shard, study, selection.items)
            done = writer.results.done(model=vit.name)
            stored = sum((item.part, item.id) in done for item in items)
            monitor.begin(vit.name, len(items), stored, study.batch_size)
            predict(trainer, self.experiment, study, items, done, workers)
            done = writer.results.done(model=vit.name)
            skipped = [item.id for item in items if (item.part, item.id) not in done]
            cuda = self.devices[number].type == "cuda"
            peak = torch.cuda.max_memory_allocated(self.devices[number]) if cuda else 0
            monitor.note(
                vit.name, vit.weights_sha256, selection.note, skipped, study.engine_used, peak
            )

    def compute_share(self, monitor: Any, number: int) -> None:
        """Rows of the share of one of several devices, in a process of its own."""
        results = Results(self.folder.path, self.experiment.key, self.settings.shard, device=number)
        with results:
            self.compute_rows(self._prepare(results, number), monitor, number)

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)


def compute_on_device(
    number: int,
    monitor: Any,
    config: Mapping[str, Any],
    overrides: Sequence[str],
    run_dir: Path,
) -> None:
    """In the process of one of several devices: the run again, but only its share of the rows."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = read_settings(config)
    Run(config, overrides, settings, run_dir, make_console()).compute_share(monitor, number)


def _is_used(key: str, uses: frozenset[str], experiment: str) -> bool:
    """Whether a setting changes something; the others are not recorded."""
    try:
        refuse_unused([key], uses, experiment)
    except InputError:
        return False
    return True


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
