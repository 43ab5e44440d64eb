"""Hops 7 to 9: from what is stored to summary, claims, figure, report, tracker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from attnguide.figures.experiment import Experiment, read_stored
from attnguide.figures.shown import viewer_pictures
from attnguide.report.page import write_report
from attnguide.runs.console import print_summary
from attnguide.store.files import csv_bytes, write_atomic
from attnguide.store.maps import write_maps
from attnguide.store.provenance import Provenance
from attnguide.viz.style import render

DRAWN = (
    *("summary.csv", "claims.csv", "findings.json", "figure.png", "figure.pdf", "report.html"),
    *("maps.npz", "results.parquet"),
)


def write_findings(
    experiment: Experiment,
    config: Mapping[str, Any],
    run_dir: Path,
    console: Console,
    tracker: Any = None,
) -> None:
    """Draw from what is stored, write tables, figures and report, and say where they lie."""
    provenance = Provenance(run_dir)
    provenance.drawn(None)  # killed from here on, it is drawn again
    stored = read_stored(run_dir, config)
    findings = experiment.draw(stored)
    findings = replace(findings, title=experiment.title, claim=experiment.claim)
    write_maps(run_dir, stored.all_rows)
    name = str(config.get("experiment"))
    claims = findings.claims.copy()
    claims.insert(0, "experiment", name)
    for stem, table in (("summary", findings.summary), ("claims", claims)):
        write_atomic(run_dir / f"{stem}.csv", csv_bytes(table))
    for kind in ("png", "pdf"):
        write_atomic(run_dir / f"figure.{kind}", render(findings.figure, kind))
    words = {key: getattr(findings, key) for key in ("title", "claim", "caption", "found")}
    write_atomic(run_dir / "findings.json", json.dumps(words, indent=1).encode())
    viewer = viewer_pictures(stored)
    report = write_report(run_dir, findings, dict(config), dict(stored.provenance), viewer)
    provenance.drawn([name for name in DRAWN if (run_dir / name).is_file()])
    if tracker is not None:
        tracker.log(findings, viewer)
    print_summary(findings, run_dir / "figure.png", report, console)
