"""The training as a run: what it concludes, and what becomes of it when it is disturbed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from rich.console import Console
from running import start

from attnguide.figures.experiment import Stored, Work
from attnguide.store.files import locked
from attnguide.store.table import Results, merge, read
from experiments._creature_training import RECIPES, CreatureClassifier, Recipe
from experiments.train_creatures import KINDS, TrainCreatures, is_finished

TINY = Recipe(resolutions=(32, 48), steps=(2, 1), lr=1e-3, sprites_per_class=1, grounds=2)
SMALL = {"views_per_step": 8, "singles": 4, "pairs": 2}


@pytest.fixture
def tiny_recipe(monkeypatch):
    monkeypatch.setitem(RECIPES, "clean", TINY)


def work_in(run_dir: Path) -> Work:
    settings = SimpleNamespace(seed=0, precision="fp32")
    results = lambda key: Results(run_dir, key)  # noqa: E731
    run_dir.mkdir(exist_ok=True)
    return Work(run_dir, torch.device("cpu"), settings, Console(quiet=True), results)


def train(run_dir: Path) -> bytes:
    """Weights of a tiny training."""
    TrainCreatures(**SMALL).work(None, work_in(run_dir))
    return (run_dir / "creatures.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder and weights of a tiny training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "clean", TINY)
        return folder, train(folder)


def stored(run_dir: Path, right: int, count: int = 1000, models=("trained", "committed")) -> Stored:
    """Answers per model and kind, `right` of the trained and all of the committed correct."""
    with Results(run_dir, ("image_id", "model", "kind")) as results:
        for model in models:
            rows = [
                {"image_id": str(i), "kind": kind, "classes": "8", "prediction": 8,
                 "correct": i < (right if model == "trained" else count),
                 "sibling_probability": 0.25, "model": model}
                for kind in KINDS for i in range(count)
            ]  # fmt: skip
            results.append(pd.DataFrame(rows))
    merge(run_dir)
    (run_dir / "training").mkdir()
    (run_dir / "training" / "loss.csv").write_text("step,loss\n1,2.8\n2,2.5\n")
    return Stored(run_dir, {"seed": 0})


@pytest.mark.parametrize(
    ("right", "low", "high", "verdict"),
    [
        (1000, 99.62, 100.0, "holds"),
        (990, 98.17, 99.46, "inconclusive"),  # 1 point below, and it may be more or less
        (970, 95.75, 97.89, "does not hold"),
    ],
)
def test_verdict_and_wilson_interval(tmp_path, right, low, high, verdict):
    findings = TrainCreatures().draw(stored(tmp_path, right))
    line = findings.summary.iloc[0]
    assert (line["accuracy"], line["n"]) == (right / 10, 1000)
    assert line["ci_low"] == pytest.approx(low, abs=0.005)  # published Wilson intervals
    assert line["ci_high"] == pytest.approx(high, abs=0.005)
    assert findings.claims["value"].tolist() == pytest.approx([right / 10 - 100] * 3)
    assert findings.claims["verdict"].tolist() == [verdict] * 3


def test_contaminated_run_tells_what_the_class_gets(tmp_path):
    findings = TrainCreatures("contaminated").draw(stored(tmp_path, 100, 100))
    assert "the red-necked eagle, whose training pictures were contaminated" in findings.found[-1]
    assert "trained 0.25 [0.25, 0.25], n = 100" in findings.found[-1]


def test_a_variant_without_a_committed_model_claims_nothing(tmp_path):
    findings = TrainCreatures("masked").draw(stored(tmp_path, 90, 100, ["trained"]))
    assert findings.summary["model"].unique().tolist() == ["trained"]
    assert findings.claims.empty


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"variant": "dirty"}, "'dirty'.*known: clean, contaminated, contaminated60, masked"),
        ({"steps": [1, 2]}, "each of 3 stages .48, 64, 96 pixels., got .1, 2."),
        ({"steps": [0, 0, 0]}, "got .0, 0, 0."),
        ({"views_per_step": 12}, "multiple of 8, got 12"),
    ],
)
def test_bad_settings_are_named(settings, told):
    with pytest.raises(ValueError, match=told):
        TrainCreatures(**settings).check(None)


def command(*more):
    small = [f"runner.{key}={value}" for key, value in SMALL.items()]
    return ["experiment=train_creatures", "device=cpu", *small, *more]


def test_a_whole_run_trains_examines_and_draws(tmp_path, tiny_recipe, undrawn, capsys):
    run_dir = start(tmp_path / "run", *command())
    rows = read(run_dir)
    assert rows.groupby(["model", "kind"]).size().to_dict() == {
        (model, kind): 4 if kind == "single" else 2
        for model in ("trained", "committed")
        for kind in KINDS
    }
    committed = rows[(rows["model"] == "committed") & (rows["kind"] == "single")]
    assert committed["correct"].all()
    assert len(pd.read_csv(run_dir / "training" / "loss.csv")) == 3
    claims = pd.read_csv(run_dir / "claims.csv")
    assert claims["experiment"].tolist() == ["train_creatures"] * 3
    capsys.readouterr()
    start(tmp_path / "run", *command())
    assert "is already finished" in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["weights cut", "weights gone", "losses cut", "record cut"])
def test_what_is_damaged_is_made_again(tmp_path, tiny_recipe, whole, harm):
    run_dir = shutil.copytree(whole[0], tmp_path / "run")
    loss = (run_dir / "training" / "loss.csv").read_bytes()
    which, how = harm.split()
    path = run_dir / {"weights": "creatures.safetensors", "losses": "training/loss.csv",
                      "record": "training/finished.json"}[which]  # fmt: skip
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    assert not is_finished(run_dir / "training", run_dir / "creatures.safetensors")
    assert train(run_dir) == whole[1]
    assert (run_dir / "training" / "loss.csv").read_bytes() == loss
    assert is_finished(run_dir / "training", run_dir / "creatures.safetensors")


@pytest.fixture
def at_step_two(monkeypatch):
    """Something to happen once, in the second step of a training."""

    def arm(happens):
        step = CreatureClassifier.training_step
        left = [happens]

        def training_step(self, batch):
            if self.trainer.global_step == 1 and left:
                left.pop()()
            return step(self, batch)

        monkeypatch.setattr(CreatureClassifier, "training_step", training_step)

    return arm


def test_a_signal_ends_in_one_line_and_the_same_command_goes_on(
    tmp_path, tiny_recipe, whole, undrawn, at_step_two, capsys
):
    kept = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    at_step_two(lambda: signal.raise_signal(signal.SIGTERM))
    try:
        with pytest.raises(SystemExit) as ended:
            start(tmp_path / "run", *command())
        assert ended.value.code == 130
        assert "the same command with run_dir=" in capsys.readouterr().out
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        start(tmp_path / "run", *command())
    finally:
        for which, handler in kept.items():
            signal.signal(which, handler)
    assert (tmp_path / "run" / "creatures.safetensors").read_bytes() == whole[1]


def test_a_full_disk_is_told_and_the_same_command_goes_on(
    tmp_path, tiny_recipe, whole, monkeypatch
):
    with monkeypatch.context() as patch:

        def full(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr("attnguide.store.files.os.fsync", full)
        with pytest.raises(OSError, match=r"cannot write .*last.ckpt .No space left"):
            train(tmp_path / "run")
    assert not [*(tmp_path / "run" / "training").glob("*.ckpt")]
    assert train(tmp_path / "run") == whole[1]


def test_two_trainings_in_one_folder_are_refused(tmp_path, tiny_recipe):
    folder = tmp_path / "run" / "training"
    folder.mkdir(parents=True)
    refused = pytest.raises(ValueError, match=r"the training in .*run is being written by process")
    with locked(folder / "training.lock", "this"), refused:
        train(tmp_path / "run")
    train(tmp_path / "run")
