"""Every figure of the paper, one after the other, on one page."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from PIL import Image, ImageOps

from attnguide.config import Config
from attnguide.data.find import find_pictures
from attnguide.errors import InputError, unknown_name
from attnguide.findings import Findings
from attnguide.report.index import overview_html, read_run
from attnguide.runs.job import Job, Runner
from attnguide.store.files import write_atomic
from attnguide.viz.panels import Panel, draw_panels

ROOT = Path(__file__).resolve().parents[1]
PASSED = ("model", "data", "logger", "seed", "device", "devices", "precision", "batch_size")
COLUMNS, THUMB = 4, (900, 700)


@dataclass
class AllFigures(Runner):
    """Run the figures in processes of their own, each in its folder; go on after a failing one.

    Scale, model, data, logger, seed, device and precision are passed on; methods, losses and
    guides are each figure's own.

    Attributes:
        figures: Which; all by default.
    """

    figures: list[str] = field(default_factory=list)

    title: ClassVar[str] = "All figures"
    claim: ClassVar[str] = (
        "Corrected by its complete gradient, attention shows what speaks for a class and what "
        "against it, when a second class gives it a direction to move to."
    )

    def check(self, job: Job) -> None:
        """Names of figures, and the data, before the first one runs."""
        for name in self.figures:
            if name not in known_figures():
                raise unknown_name("figure in runner.figures", name, known_figures())
        if job.data.num_shards > 1:
            raise InputError("all_figures runs every figure whole; shard single figures instead")
        find_pictures(job.data.name, job.data.root, num_images=job.data.num_images)

    def compute(self, job: Job) -> None:
        """Run what is not finished; the page grows with every figure.

        Raises:
            ValueError: at the end, if figures failed; names them and why.
        """
        chosen = self.figures or known_figures()
        failed: dict[str, str] = {}
        for number, name in enumerate(chosen, 1):
            where = f"{number} of {len(chosen)}  {name}"
            if (job.run_dir / name / "findings.json").is_file():
                job.console.print(f"{where}: finished already")
                continue
            job.console.print(f"{where} ...", highlight=False)
            begun = time.monotonic()
            error = _run(job, name)
            told = f"FAILED: {error}" if error else f"{time.monotonic() - begun:.0f} s"
            job.console.print(f"{where}: {told}", highlight=False, markup=False, soft_wrap=True)
            if error:
                failed[name] = error
            write_atomic(job.run_dir / "failed.json", json.dumps(failed).encode())
            _write_page(job.run_dir)
        if failed:
            raise InputError(
                f"{len(failed)} of {len(chosen)} figures failed: "
                + "; ".join(f"{name} ({why})" for name, why in failed.items())
                + f". The others are on {job.run_dir / 'index.html'}; run the same command with "
                f"run_dir={job.run_dir} to try these again"
            )

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:  # noqa: ARG002
        """A sheet of all figures, a line for each, and the page again."""
        runs = _write_page(run_dir)
        panels = [Panel(_thumb(run_dir, run["name"]), title=run["title"]) for run in runs]
        return Findings(
            figure=draw_panels(
                [panels[i : i + COLUMNS] for i in range(0, len(panels), COLUMNS)], panel_width=1.9
            ),
            summary=pd.DataFrame(
                {
                    "figure": [run["name"] for run in runs],
                    "title": [run["title"] for run in runs],
                    "seconds": [run["seconds"] for run in runs],
                    "peak_memory_mb": [run["peak_memory_mb"] for run in runs],
                }
            ),
            caption=f"{len(runs)} figures; index.html shows them with claims and outcomes.",
            found=tuple(f"{run['title']}. {run['found'][0]}" for run in runs),
        )


def known_figures() -> list[str]:
    """Names of all figures, in order."""
    return sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("fig*.yaml"))


def passed_on(config: dict[str, Any]) -> Iterator[str]:
    """The words of the command line that make a figure run as this run was asked to.

    A value of nothing is each figure's own, as is a batch size that was not given.
    """
    yield f"scale={config['scale']}"
    defaults = Config()
    for key in PASSED:
        value = config[key]
        leaves = value.items() if isinstance(value, dict) else [("", value)]
        for leaf, own in leaves:
            is_own = own is None or (key == "batch_size" and own == defaults.batch_size)
            if not is_own and leaf not in ("shard", "num_shards"):
                yield f"{key}{'.' if leaf else ''}{leaf}={json.dumps(own, ensure_ascii=False)}"


def _run(job: Job, name: str) -> str:
    """Run a figure; what it says goes to its log. Returns what went wrong, empty if nothing."""
    words = [f"experiment={name}", f"run_dir={json.dumps(str(job.run_dir / name))}"]
    command = [sys.executable, str(ROOT / "run.py"), *words, *passed_on(job.config)]
    path = job.run_dir / f"{name}.log"
    with path.open("w") as log:
        status = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT)
    if status == 0:
        return ""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if line.startswith("error: ")), "")
    return told.removeprefix("error: ") or f"exit status {status}, see {path}"


def _write_page(run_dir: Path) -> list[dict[str, Any]]:
    """Write index.html of the figures that are there; returns what these told."""
    folders = [name for name in known_figures() if (run_dir / name / "findings.json").is_file()]
    runs = [read_run(run_dir, name) for name in folders]
    path = run_dir / "failed.json"
    failed = json.loads(path.read_text()) if path.is_file() else {}
    write_atomic(run_dir / "index.html", overview_html(runs, failed).encode())
    return runs


def _thumb(run_dir: Path, name: str) -> Image.Image:
    """The figure, small, on white paper of the same size for all."""
    with Image.open(run_dir / name / "figure.png") as opened:
        return ImageOps.pad(opened.convert("RGB"), THUMB, color="white")
