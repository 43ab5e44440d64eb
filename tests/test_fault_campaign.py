"""Every family of experiments, stopped at every kind of moment by every kind of fault.

A run that was hit and then asked for again ends with the bytes of one that was not; a finished one
whose files were damaged mends by the same command. The small table runs always, the whole one is
`slow`.
"""

import errno
import os
import shutil
import sys
from collections import Counter
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from conftest import small_model
from running import start

from attnguide.errors import InputError
from attnguide.store import files

pytestmark = pytest.mark.filterwarnings("ignore:.*(set aside|begun anew|is ignored)")
FAMILIES = {
    "perturbation": ["fig12_perturbation", "runner.fractions=[0,0.5]", "runner.unguided_every=2"],
    "map figure": ["fig05_multi_class", "runner.shown=1"],
    "descent": ["fig06_attention_transfer", "runner.steps=1", "runner.shown=1"],
    "detail": ["fig09_detail", "runner.shown=1", "runner.impostors=2"],
    "rewrite": ["fig11_rewrite", "runner.max_steps=1"],
    "explain": ["explain", "method=gae"],
}
COMMON = ["data.num_images=3", "batch_size=2", "device=cpu"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing but `finally` sees it."""


FAULTS = {
    "killed": Killed,
    "no memory": MemoryError,
    "disk full": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "disk error": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "Ctrl-C": KeyboardInterrupt,
}
DAMAGE = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "flipped": lambda data: data[:20] + bytes([data[20] ^ 255]) + data[21:],
    "absent": None,
}
# What a finished run consists of, and what is there only sometimes; "*" is the first of its kind.
PIECES = (
    *("parts/*.parquet", "results.parquet", "provenance.json", "identity.json", "findings.json"),
    *("summary.csv", "claims.csv", "figure.png", "figure.pdf", "report.html", "maps.npz"),
    *("pictures/*.png", "panels/*.png"),
)
NOT_COMPARED = ("provenance.json", "report.html", "identity.json", "config.yaml")


@pytest.fixture(autouse=True)
def small(monkeypatch, undrawn):
    """Small models, and figures that are not turned into pixels."""
    picture = sys.modules["attnguide.runs.write"].render(None, "png")

    def load(name, checkpoint=None, *, device="cpu", label=None, **_):
        vit = small_model(name)
        return replace(vit, name=label or name, weights_sha256=f"of {name}")

    for place in ("models.load", "models.sources"):
        monkeypatch.setattr(f"attnguide.{place}.load_model", load, raising=False)
        monkeypatch.setattr(f"attnguide.{place}.check_model", lambda *_: None, raising=False)
    monkeypatch.setattr("experiments.explain.render", lambda *_: picture)


def go(family, run_dir):
    name, *words = FAMILIES[family]
    start(run_dir, f"experiment={name}", *words, *COMMON)


class Moments:
    """Counts the steps of writing files, and lets one of them fail."""

    def __init__(self, patch):
        self.count, self.last, self.fault = 0, None, None
        self.fsync = os.fsync
        patch.setattr(files.os, "fsync", self.step)

    def step(self, descriptor):
        self.count += 1
        if self.count == self.last:
            raise self.fault()
        self.fsync(descriptor)


def content(run_dir):
    """Bytes of what is the same in every life of a run, by name."""
    kept = {}
    for path in sorted(run_dir.rglob("*")):
        name = str(path.relative_to(run_dir))
        own = path.name not in NOT_COMPARED and path.parent.name not in ("parts",)
        if path.is_file() and own:
            kept[name] = path.read_bytes() if path.suffix != ".npz" else b""
    return kept


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A function: the finished run of a family, and how many steps of writing it took."""

    def make(family):
        with monkeypatch.context() as patch:
            moments = Moments(patch)
            go(family, tmp_path / "whole")
        return tmp_path / "whole", moments.count

    return make


def hit(family, run_dir, moment, fault, monkeypatch):
    """A life of the run that a fault ends; whether it was reached."""
    with monkeypatch.context() as patch:
        moments = Moments(patch)
        moments.last, moments.fault = moment, FAULTS[fault]
        try:
            go(family, run_dir)
        except (Killed, MemoryError, OSError):
            return True
        except SystemExit as end:
            return end.code == 130
        except InputError as error:  # never more than a line
            return "\n" not in str(error)
    return False


def trouble_of(family, run_dir, expected):
    """What is wrong with the run after the same command was given again; "" if nothing."""
    try:
        go(family, run_dir)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    now = content(run_dir)
    leftovers = [path.name for path in run_dir.rglob("*.tmp")]
    if leftovers and any(run_dir.glob("parts/.*.tmp")):
        return f"left behind: {leftovers}"
    now = {name: data for name, data in now.items() if not name.endswith(".tmp")}
    if set(now) != set(expected):
        return f"other files: {sorted(set(now) ^ set(expected))}"
    differ = [name for name in now if now[name] != expected[name]]
    return f"other bytes: {differ}" if differ else ""


def damage(run_dir, piece, how):
    """Damage the first file of a kind; whether there is one."""
    found = sorted(run_dir.glob(piece))
    if not found:
        return False
    change = DAMAGE[how]
    data = found[0].read_bytes()
    if change is None:
        found[0].unlink()
    else:
        found[0].write_bytes(change(data + bytes(21 - min(len(data), 21))))
    return True


def campaign(family, whole, moments, damages, tmp_path, monkeypatch):
    """Counts by outcome, and what did not end as it should."""
    run_dir, steps = whole(family)
    expected, counts, wrong = content(run_dir), Counter(), []
    for number, (moment, fault) in enumerate(moments(steps)):
        broken = tmp_path / f"broken{number}"
        if not hit(family, broken, moment, fault, monkeypatch):
            counts["not reached"] += 1
            continue
        trouble = trouble_of(family, broken, expected)
        counts["stopped, wrong" if trouble else "stopped, right"] += 1
        wrong += [f"{family}, {fault} at step {moment} of {steps}: {trouble}"] if trouble else []
        shutil.rmtree(broken)
    for piece, how in damages:
        broken = tmp_path / "damaged"
        shutil.copytree(run_dir, broken)
        if damage(broken, piece, how):
            trouble = trouble_of(family, broken, expected)
            counts["damaged, wrong" if trouble else "damaged, right"] += 1
            wrong += [f"{family}, {piece} {how}: {trouble}"] if trouble else []
        shutil.rmtree(broken)
    return counts, wrong


_faults = cycle(FAULTS)
_hows, _pieces = cycle(DAMAGE), cycle(PIECES)


def few(steps):
    """A moment of computing and a moment of drawing."""
    return [(max(1, round(part * steps)), next(_faults)) for part in (0.3, 0.85)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_was_hit_ends_as_one_that_was_not(family, whole, tmp_path, monkeypatch):
    pieces = [next(_pieces) for _ in range(3)]
    damages = [(piece, next(_hows)) for piece in pieces]
    counts, wrong = campaign(family, whole, few, damages, tmp_path, monkeypatch)
    assert wrong == []
    assert counts["stopped, right"] == 2
    assert counts["damaged, right"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_moment_and_every_damage(family, whole, tmp_path, monkeypatch, capsys):
    def all_moments(steps):
        return [(step, fault) for step, fault in zip(range(1, steps + 1), cycle(FAULTS))]

    damages = [(piece, how) for piece in PIECES for how in DAMAGE]
    counts, wrong = campaign(family, whole, all_moments, damages, tmp_path, monkeypatch)
    with capsys.disabled():
        sys.stdout.write(f"\n{family}: {dict(counts)}\n")
    assert wrong == []


WRECKS = {
    "damaged findings": lambda run: (run / "findings.json").write_text("{"),
    "empty summary": lambda run: (run / "summary.csv").write_text(""),
    "no summary": lambda run: (run / "summary.csv").unlink(),
    "half drawn": lambda run: (run / "figure.png").write_bytes(b""),
    "damaged provenance": lambda run: (run / "provenance.json").write_text("["),
    "damaged config": lambda run: (run / "config.yaml").write_text("a: ["),
    "config of a list": lambda run: (run / "config.yaml").write_text("- 1"),
    "other claims": lambda run: (run / "claims.csv").write_bytes(b"\xff\xfe\x00"),
}


def test_a_page_of_runs_is_made_beside_wrecks_and_names_them(tmp_path, capsys, monkeypatch):
    root = tmp_path / "runs"
    go("explain", root / "good")
    for name, wreck in WRECKS.items():
        shutil.copytree(root / "good", root / name)
        wreck(root / name)
    with monkeypatch.context() as patch:
        moments = Moments(patch)
        start(root, "stage=aggregate")
    said = capsys.readouterr().out
    for name in WRECKS:
        assert f"left out: {name} (" in said, said
    page = (root / "aggregate.csv").read_bytes()
    for fault in FAULTS:
        with monkeypatch.context() as patch:
            again = Moments(patch)
            again.last, again.fault = moments.count // 2, FAULTS[fault]
            with pytest.raises((Killed, MemoryError, OSError, SystemExit)):
                start(root, "stage=aggregate")
        start(root, "stage=aggregate")
        assert (root / "aggregate.csv").read_bytes() == page


def test_there_is_a_family_for_every_kind_of_experiment():
    assert Path(files.__file__).is_file()
    assert len(FAMILIES) * len(FAULTS) == 30
