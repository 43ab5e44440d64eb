"""From stored rows to summary, claims, figure, report and tracker; needs neither model nor data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from attnguide.errors import InputError, command
from attnguide.figures.experiment import Experiment, Stored
from attnguide.figures.shown import viewer_pictures
from attnguide.report.page import write_report
from attnguide.report.table_view import to_paste
from attnguide.runs.console import print_summary
from attnguide.runs.objects import Problems, build_logger, stored_experiment
from attnguide.runs.resume import check_parts, missing
from attnguide.store.files import csv_bytes, write_atomic
from attnguide.store.folder import RunFolder
from attnguide.store.maps import write_maps
from attnguide.store.provenance import Provenance
from attnguide.store.table import fault, merge, read
from attnguide.viz.style import render

DRAWN = (
    *("summary.csv", "claims.csv", "findings.json", "figure.png", "figure.pdf", "report.html"),
    *("maps.npz", "summary.md", "summary.tex", "issues.csv"),
)
NAMED = 8  # shards in a message
# What an experiment meets in a table that another program, or somebody else, has written.
MISFITS = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError)


def draw_again(_: Mapping[str, Any], run_dir: Path, console: Console) -> None:
    """Figure and report from what a run stored (`stage=draw`).

    Raises:
        ValueError: a damaged or foreign config or table.
        FileNotFoundError: no run, or one that is not finished.
    """
    folder = RunFolder(run_dir)
    config = folder.load_config()
    experiment = stored_experiment(config)
    if folder.results.name in Provenance(run_dir).changed():
        raise InputError(
            f"{folder.results} is not the table that this run has stored; make it again from its "
            f"parts: {command()} stage=merge run_dir={run_dir}"
        )
    _draw(experiment, config, folder, console)


def merge_shards(config: Mapping[str, Any], run_dir: Path, console: Console) -> None:
    """One table of all shards, and what is drawn from it (`stage=merge`).

    Args:
        config: Of this command, whose logger is told; that of the folder may be somebody else's.
        run_dir: Of the shards.
        console: Where to print.

    Raises:
        ValueError: shards that are not finished; parts of other inputs.
    """
    folder = RunFolder(run_dir)
    stored = folder.load_config()
    experiment = stored_experiment(stored)
    check_parts(folder)
    count = stored.get("data", {}).get("num_shards", 1)
    begun = {path.stem for path in folder.parts.glob("*.json")}
    unfinished = [n for n in range(count) if count > 1 and f"{n:04d}" not in begun]
    if not unfinished:
        shards, lost = [Provenance(run_dir, n, count) for n in range(count)], missing(folder, count)
        unfinished = [
            n for n, s in enumerate(shards) if not s.finished or lost[n].difference(s.skipped)
        ]
    if unfinished:
        names = ", ".join([*map(str, unfinished[:NAMED]), *["..."] * (len(unfinished) > NAMED)])
        raise InputError(
            f"{len(unfinished)} of {count} shards of {run_dir} are not finished: {names}; run them "
            "(data.shard=N) and merge again"
        )
    rows = merge(run_dir)
    console.print(f"Merged {count} shards: {rows['image_id'].nunique()} images, {len(rows)} rows.")
    if count > 1:
        Provenance(run_dir).gather(shards)
    with build_logger(config["logger"]).open(run_dir, stored) as tracker:
        _draw(experiment, stored, folder, console, tracker)


def _draw(experiment: Experiment, config: Mapping[str, Any], folder: RunFolder, *to: Any) -> None:
    """Draw a table that this process has not made."""
    try:
        write_findings(experiment, config, folder, *to)
    except InputError:
        raise
    except MISFITS as error:
        raise InputError(
            f"{folder.results} does not hold what {config.get('experiment')} draws "
            f"({repr(error)[:200]}), as where another version of the program has computed it; "
            "HYDRA_FULL_ERROR=1 shows where"
        ) from error


def verify(_: Mapping[str, Any], run_dir: Path, console: Console) -> None:
    """Say that a finished run is whole (`stage=verify`); needs neither model nor data.

    Raises:
        ValueError: all that is missing, damaged or changed, and what to do.
        FileNotFoundError: no run.
    """
    folder, problems, again = RunFolder(run_dir), Problems(), "run the same command again"
    folder.load_config()
    provenance, parts = Provenance(run_dir), folder.part_files()
    lost = len(missing(folder)[0].difference(provenance.skipped))
    changed = ", ".join(provenance.changed())
    problems.messages += [f"{path} {why}; {again}" for path in parts if (why := fault(path))]
    problems.attempt(check_parts, folder)
    for message, is_so in (
        (f"{run_dir} is not finished; {again}", not provenance.finished),
        (f"{lost} pictures have no rows; {again}", lost),
        (f"{changed} of {run_dir} are missing or changed; draw them again: stage=draw", changed),
        (f"{run_dir} is not drawn; stage=draw", not changed and not provenance.is_drawn),
    ):
        problems.messages += [message] * bool(is_so)
    problems.raise_all()
    console.print(f"{run_dir} is whole: {len(parts)} parts, {len(read(run_dir))} rows.")


def write_findings(
    experiment: Experiment,
    config: Mapping[str, Any],
    folder: RunFolder,
    console: Console,
    tracker: Any = None,
) -> None:
    """Draw from what is stored, write tables, figures and report, and say where they lie."""
    run_dir, provenance = folder.path, Provenance(folder.path)
    folder.remove_leftovers()
    provenance.drawn()  # killed from here on, it is drawn again
    stored = Stored(run_dir, config, provenance.values)
    findings = experiment.draw(stored)
    findings = replace(findings, title=experiment.title, claim=experiment.claim)
    write_maps(run_dir, stored.all_rows)
    claims = findings.claims.copy()
    claims.insert(0, "experiment", str(config.get("experiment")))
    write_atomic(folder.summary, csv_bytes(findings.summary))
    write_atomic(folder.claims, csv_bytes(claims))
    for kind, text in to_paste(findings.summary).items():
        write_atomic(folder.summary.with_suffix(f".{kind}"), text.encode())
    for kind in ("png", "pdf"):
        write_atomic(folder.figure.with_suffix(f".{kind}"), render(findings.figure, kind))
    words = {key: getattr(findings, key) for key in ("title", "claim", "caption", "found")}
    write_atomic(folder.findings, json.dumps(words, indent=1).encode())
    viewer = viewer_pictures(stored)
    report = write_report(run_dir, findings, dict(config), dict(stored.provenance), viewer)
    provenance.drawn(*(name for name in DRAWN if (run_dir / name).is_file()))
    if tracker is not None:
        tracker.log(findings, viewer)
    print_summary(findings, folder.figure, report, console)
