"""Ctrl-C, SIGTERM and dead workers: a line, a status, and nothing left running."""

import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from torch.utils.data import get_worker_info

from attnguide.runs.predict import DeadWorker
from attnguide.store.table import read

BASE = [
    *("experiment=fig12_perturbation", "method=gae", "device=cpu", "batch_size=2"),
    *("data.num_images=5000", "runner.fractions=[0,0.5]"),
]
CALLS = [["fake_study:fork_devices", [], {}], ["run:main", [], {}]]


def start(command, run_dir, *words):
    """A run in a process group of its own, once it has stored something."""
    process = command.start([*BASE, f"run_dir={run_dir}", *words], calls=CALLS)
    deadline = time.monotonic() + 240
    while len(list(run_dir.glob("parts/*.parquet"))) < 2:
        assert process.poll() is None, process.said()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def children(group):
    """Processes of a group that are still there: pid by pid."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] != "Z" and int(words[2]) == group:
            found.append(int(stat.parent.name))
    return found


def end(process):
    """Status and words of a process that ends within a minute, and who lives on."""
    try:
        out, err = process.communicate(timeout=90)
        time.sleep(0.5)
        left = children(process.pid)
    finally:
        for pid in children(process.pid):
            os.kill(pid, signal.SIGKILL)
    return process.returncode, out, err, left


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc who is left")
@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["data.workers=2"], signal.SIGINT),
        (["devices=2", "data.workers=1"], signal.SIGTERM),
    ],
)
def test_a_signal_to_the_group_is_one_line_and_leaves_nobody(command, tmp_path, words, sent):
    process = start(command, tmp_path / "run", *words)
    os.killpg(process.pid, sent)
    status, out, err, left = end(process)
    assert (status, left) == (130, []), err
    assert out.count(" to resume.") == 1
    assert "Traceback" not in err + out
    assert [line for line in err.splitlines() if line.strip()] == []


@pytest.mark.system
@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_that_died_is_replaced_once_by_fewer(
    tmp_path, study, undrawn, monkeypatch, capsys, deaths
):
    inputs = study.FakeStudy.inputs

    def inputs_or_death(self, chosen, item, sample):
        for death in range(deaths):
            if item.id == "image 05" and get_worker_info() and not (tmp_path / f"{death}").exists():
                (tmp_path / f"{death}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return inputs(self, chosen, item, sample)

    monkeypatch.setattr(study.FakeStudy, "inputs", inputs_or_death)
    again = pytest.raises(
        DeadWorker, match=r"DataLoader worker .*are intact.*data.workers=0 or a smaller"
    )
    with again if deaths > 1 else nullcontext():
        study.start_fake(tmp_path / "run", "data.workers=2")
    assert "died; going on with 1 of them" in capsys.readouterr().out
    study.start_fake(tmp_path / "run")
    assert len(read(tmp_path / "run")) == 12
