"""What people wait for around the work: beside busy processes, checks, starts, redrawing."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from benchmarks.clock import Line

DEMO = ("experiment=fig12_perturbation", "device=cpu", "data.num_images=12")
CHECKED = ("fig12_perturbation", "fig08_guided", "localization")
PICTURES = 48  # of a run that is held against its check
BUSY = 3  # processes beside the demo


def command_lines(rounds: int) -> list[Line]:
    """All of them; wall clock, since people wait by it, and on the machine as it is.

    Args:
        rounds: How often each short command is timed.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        lines = [busy_line(folder, max(1, rounds // 2)), *start_lines(folder, rounds)]
        return lines + [line for name in CHECKED for line in check_lines(folder, name)]


def busy_line(folder: Path, rounds: int) -> Line:
    """The demo with every thread over the demo as it is, beside busy processes."""
    ways = {"all": f"threads={os.cpu_count()}", "auto": "threads=auto"}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    with ExitStack() as stack:
        for _ in range(BUSY):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        for number in range(rounds):
            for name, word in ways.items():
                spent[name].append(
                    _command(*DEMO, word, f"run_dir={folder / f'{name}{number}'}")[0]
                )
    ratios = [a / b for a, b in zip(spent["all"], spent["auto"], strict=True)]
    chosen = json.loads((folder / "auto0" / "provenance.json").read_text())["threads"]
    return Line(
        f"demo beside {BUSY} busy processes, all threads / measured",
        f"{statistics.median(ratios):.2f}",
        f"{statistics.median(spent['all']):.0f} / {statistics.median(spent['auto']):.0f} s",
        f"threads: {chosen}",
    )


def start_lines(folder: Path, rounds: int) -> list[Line]:
    """Seconds of a wrong word, of redrawing, and of a command until its first batch begins."""
    run_dir = folder / "auto0"
    torch = [_timed(sys.executable, "-c", "import torch") for _ in range(rounds)]
    first = [_until_first_batch(folder / f"first{number}") for number in range(rounds)]
    imports, begins = statistics.median(torch), statistics.median(first)
    wrong = [_command("experiment=fig12_perturbation", "nonsense=1")[0] for _ in range(rounds)]
    draws = [_command("stage=draw", f"run_dir={run_dir}")[0] for _ in range(rounds)]
    return [
        Line("a wrong word", "", f"{statistics.median(wrong):.1f} s", "at most 1 s"),
        Line("redrawing the demo", "", f"{statistics.median(draws):.1f} s", "at most 3 s"),
        Line(
            "command to first batch, without torch's import",
            "",
            f"{begins - imports:.1f} s",
            f"at most 4 s; torch alone {imports:.1f} s",
        ),
    ]


def check_lines(folder: Path, name: str) -> list[Line]:
    """Seconds that `stage=check` says over those that the run computes."""
    words = (f"experiment={name}", "device=cpu", f"data.num_images={PICTURES}")
    took, said = _command(*words, "stage=check")
    found = re.search(r"about (?:(\d+) days?, )?(\d+):(\d+):(\d+)", said)
    assert found is not None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    told = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    run_dir = folder / name
    _command(*words, f"run_dir={run_dir}")
    real = json.loads((run_dir / "provenance.json").read_text())["seconds"]
    return [
        Line(
            f"stage=check says / {name} takes, {PICTURES} pictures",
            f"{told / real:.2f}",
            f"{told:.0f} / {real:.0f} s",
            f"0.7 to 1.3; the check took {took:.1f} s, at most 8",
        )
    ]


def _until_first_batch(run_dir: Path) -> float:
    """A run's config is stored when model and pictures are there, just before the first batch."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "run.py", *DEMO, f"run_dir={run_dir}"], stdout=subprocess.DEVNULL
    )
    while not (run_dir / "config.yaml").is_file() and process.poll() is None:
        time.sleep(0.01)
    seconds = time.monotonic() - begun
    process.kill()
    process.wait()
    return seconds


def _command(*words: str) -> tuple[float, str]:
    """Seconds of a command, and what it says; with the threads that a user's would have."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    begun = time.monotonic()
    out = subprocess.run(
        [sys.executable, "run.py", *words], capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    return time.monotonic() - begun, out.stdout


def _timed(*words: str) -> float:
    begun = time.monotonic()
    subprocess.run(words, check=True)
    return time.monotonic() - begun
