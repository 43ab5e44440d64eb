"""The life of a run: check, compute what is missing, merge, draw, tell."""

from __future__ import annotations

import json
import logging
import signal
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from attnguide.config import Config
from attnguide.errors import InputError
from attnguide.findings import Findings
from attnguide.report.page import write_report
from attnguide.runs.aggregate import aggregate, find_runs, write_aggregate
from attnguide.runs.build import build_job, build_runner, plain, seed_everything
from attnguide.runs.job import Job, Runner
from attnguide.runs.record import Provenance, load_config, open_run
from attnguide.store.files import write_atomic
from attnguide.store.table import merge
from attnguide.tracking.dashboard import build, publish
from attnguide.tracking.wandb import RunLogger, open_logger
from attnguide.viz.style import render

PRINTED_ROWS = 40  # of the summary; summary.csv holds all


def run(config: Config, run_dir: Path, *, sweep: bool = False) -> None:
    """Do what `config.stage` says.

    "run" computes what is missing and draws, "draw" draws, "merge" merges the shards and draws,
    "aggregate" makes one table and figure of all runs below `run_dir`, "dashboard" defines the
    panels of W&B.

    Args:
        config: Checked.
        run_dir: Of the run, or above many.
        sweep: Leave a run alone that is finished and drawn.

    Raises:
        ValueError, TypeError, OSError: what the user asked for cannot be done, and why.
        SystemExit: 130 after Ctrl-C; what is stored is complete.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a log file has no edge
    _speak_through(console)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Lightning would swallow it
    try:
        if config.stage == "run":
            _run(config, run_dir, console, sweep=sweep)
        elif config.stage == "merge":
            _merge(run_dir, console)
        elif config.stage == "aggregate":
            _aggregate(config, run_dir, console)
        elif config.stage == "dashboard":
            _dashboard(config, run_dir, console)
        else:
            _finish(_stored(run_dir), run_dir, console)
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. What is stored is complete; the same command with run_dir={run_dir} "
            "goes on from there.",
            soft_wrap=True,
        )
        raise SystemExit(130) from None


def _run(config: Config, run_dir: Path, console: Console, *, sweep: bool) -> None:
    runner = build_runner(config)
    job = build_job(config, run_dir, console)
    runner.check(job)
    open_run(run_dir, job.config)
    provenance = Provenance(run_dir, job.data.shard, job.data.num_shards)
    if provenance.finished and sweep and (run_dir / "report.html").is_file():
        console.print(f"{run_dir} is finished already; skipped.", soft_wrap=True)
        return
    alone = job.data.num_shards == 1
    group = "/".join(run_dir.resolve().parts[-3:-1]) if sweep else None
    shard = None if alone else job.data.shard
    with open_logger(config.logger, run_dir, job.config, shard=shard, group=group) as logger:
        job.progress = logger.progress
        if provenance.finished:
            console.print(f"{run_dir} is finished already; drawing it again from what it stored.")
        else:
            _compute(runner, job, provenance)
        if alone:
            if any((run_dir / "parts").glob("*.parquet")):
                merge(run_dir)
            _finish(config, run_dir, console, logger)
    if not alone:
        console.print(
            f"Shard {job.data.shard} of {job.data.num_shards} is stored. When all are: "
            f"python run.py stage=merge run_dir={run_dir}",
            soft_wrap=True,
        )


def _compute(runner: Runner, job: Job, provenance: Provenance) -> None:
    provenance.begin(job)
    seed_everything(job.seed)
    finished = False
    try:
        runner.compute(job)
        finished = True
    finally:
        provenance.end(job, finished=finished)


def _merge(run_dir: Path, console: Console) -> None:
    config = _stored(run_dir)
    count = config.data.num_shards
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
    with open_logger(config.logger, run_dir, plain(config)) as logger:
        _finish(config, run_dir, console, logger)


def _stored(run_dir: Path) -> Config:
    """The config that a run was started with."""
    stored = OmegaConf.to_object(OmegaConf.merge(Config, load_config(run_dir)))
    assert isinstance(stored, Config)
    return stored


def _finish(
    config: Config, run_dir: Path, console: Console, logger: RunLogger | None = None
) -> None:
    """Draw from what is stored, write tables, figures and report, and tell where they lie."""
    runner = build_runner(config)
    settings = load_config(run_dir)
    findings = runner.draw(run_dir, settings)
    findings = replace(findings, title=runner.title, claim=runner.claim)
    write_atomic(run_dir / "summary.csv", findings.summary.to_csv(index=False).encode())
    for kind in ("png", "pdf"):
        write_atomic(run_dir / f"figure.{kind}", render(findings.figure, kind))
    told = {name: getattr(findings, name) for name in ("title", "claim", "caption", "found")}
    write_atomic(run_dir / "findings.json", json.dumps(told, indent=1).encode())
    report = write_report(run_dir, findings, settings, Provenance(run_dir).values)
    if logger is not None:
        logger.log(findings)
    _tell(findings, run_dir / "figure.png", report, console)


def _aggregate(config: Config, root: Path, console: Console) -> None:
    """One table, figure and page of all finished runs below a folder."""
    runs, unfinished = find_runs(root)
    for name, why in unfinished:
        console.print(f"left out: {name} ({why})", markup=False, highlight=False, soft_wrap=True)
    write_aggregate(root, runs, findings := aggregate(runs), unfinished)
    with open_logger(config.logger, root, {"experiment": "aggregate"}) as logger:
        logger.log(findings)
    _tell(findings, root / "aggregate.png", root / "aggregate.html", console)


def _dashboard(config: Config, run_dir: Path, console: Console) -> None:
    """Define the panels of W&B for the config's methods and models."""
    workspace = build(config.logger, list(config.method), [name for name, _ in config.models])
    folder = run_dir if run_dir.is_dir() else Path("outputs")
    told = publish(workspace, config.logger, folder)
    console.print(told, markup=False, highlight=False, soft_wrap=True)


def _tell(findings: Findings, figure: Path, report: Path, console: Console) -> None:
    console.print()
    console.print(_table(findings.summary.head(PRINTED_ROWS), findings.title))
    more = len(findings.summary) - PRINTED_ROWS
    if more > 0:
        console.print(f"... and {more} more rows in the csv beside the figure")
    for sentence in findings.found:
        console.print(f"- {sentence}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    for name, path in (("Figure", figure), ("Report", report)):
        console.print(f"{name}  {path}", markup=False, highlight=False, soft_wrap=True)


def _table(summary: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in summary.columns:
        numbers = pd.api.types.is_numeric_dtype(summary[name])
        table.add_column(str(name), justify="right" if numbers else "left")
    for row in summary.itertuples(index=False):
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
    return table


class _Lines(logging.Handler):
    """Log records as plain lines, above a progress bar where there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        bad = record.levelno >= logging.WARNING
        text = f"warning: {record.getMessage()}" if bad else record.getMessage()
        style = "yellow" if bad else None
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _speak_through(console: Console) -> None:
    """Warnings as log records, and ours as plain lines."""
    lines = _Lines(console)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        lines.handle(logging.makeLogRecord({"msg": str(message), "levelno": logging.WARNING}))

    warnings.showwarning = show
    log = logging.getLogger("attnguide")
    log.handlers = [lines]
    log.setLevel(logging.INFO)
