"""A sweep goes on where it was, tells of every job that failed, and ends in one table."""

import json
import sys

import pandas as pd
import pytest
import yaml
from fake_study import start_fake
from running import start

from attnguide.runs import lifecycle, program
from attnguide.runs.aggregate import find_runs, gather
from attnguide.runs.commandline import prepare
from attnguide.runs.settings import read_settings

FIG12 = "experiment=fig12_perturbation"


@pytest.mark.parametrize(
    ("words", "root"),
    [
        (["-m", FIG12, "method=gae,complete"], "outputs/fig12_perturbation/sweep"),
        (["--multirun", FIG12, "run_dir='my runs'"], "'my runs'"),
        (["-m", "experiment=fig12_perturbation,fig08_guided"], "outputs/sweep"),
        (["-m", "experiment=glob(fig*)"], "outputs/sweep"),
    ],
)
def test_where_a_sweep_lies_depends_on_its_words_alone(words, root):
    assert prepare(words, program.CONF)[-1] == f"hydra.sweep.dir={root}"


@pytest.mark.parametrize("words", [[FIG12], ["-m", FIG12, "hydra.sweep.dir=x"]])
def test_one_run_and_a_chosen_folder_are_left_alone(words):
    assert prepare(words, program.CONF) == words


def test_a_job_that_fails_is_told_of_and_the_others_run(tmp_path, monkeypatch, capsys):
    ran = []

    def job(config, words, run_dir, *, sweep, stored):
        assert sweep
        assert words == ["experiment", "method", "run_dir"]
        ran.append((list(config["method"]), run_dir))
        if "complete" in config["method"]:
            read_settings(config | {"seed": -1})

    monkeypatch.setattr(lifecycle, "run", job)
    monkeypatch.setattr(program, "failed", {})
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    words = ["-m", FIG12, "method=gae,complete,absolute", f"run_dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["run.py"])
    with pytest.raises(ValueError, match="seed must be greater than or equal to 0"):
        program.run_all(["-cp", str(program.CONF), *words])
    names = ("gae", "complete", "absolute")
    assert ran == [([name], tmp_path / f"{FIG12},method={name}") for name in names]
    assert program.failed == {
        f"{FIG12},method=complete": "seed must be greater than or equal to 0, got -1"
    }
    told = capsys.readouterr().err
    assert "error: seed must be greater than or equal to 0, got -1\n" in told
    assert f"  in job #1 {FIG12} method=complete" in told


@pytest.mark.usefixtures("study")
def test_the_same_sweep_again_leaves_finished_jobs_alone(tmp_path, study, capsys):
    start_fake(tmp_path, sweep=True)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    start_fake(tmp_path, sweep=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
    assert "is already finished; skipped" in capsys.readouterr().out
    (tmp_path / "report.html").unlink()  # stopped while it drew
    start_fake(tmp_path, sweep=True)
    assert (tmp_path / "report.html").exists()
    assert len(study.computed) == 12


def store(folder, auc, *, finished="2026-11-23T18:00:00+00:00", **settings):
    """A run as it lies on disk."""
    folder.mkdir(parents=True)
    method = {"rollout": {"start_layer": settings.pop("start_layer", 0)}}
    config = {"experiment": "fig12", "method": method, "run_dir": str(folder), **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "provenance.json").write_text(json.dumps({"finished": finished}))
    told = {"title": f"Of {folder.name}", "claim": "A claim.", "caption": "", "found": ["It is."]}
    (folder / "findings.json").write_text(json.dumps(told))
    claim = {"experiment": "fig12", "model": "m", "claim": f"that {folder.name}"}
    claim |= {"value": 0.9, "low": 0.8, "high": 1.0, "n": 20, "verdict": "holds"}
    pd.DataFrame([claim]).to_csv(folder / "claims.csv", index=False)
    line = {"method": "rollout", "order": "negative", "auc": auc, "ci_low": 1.0, "ci_high": 99.0}
    pd.DataFrame([line | {"n": 7}]).to_csv(folder / "summary.csv", index=False)


def test_runs_become_one_table_with_what_differs_as_columns(tmp_path, capsys):
    store(tmp_path / "a", 10.0, loss="logit", seed=0, batch_size=8)
    store(tmp_path / "b" / "c", 20.0, loss="ratio", seed=0, batch_size=16)
    store(tmp_path / "d", 30.0, loss="ratio", seed=0, start_layer=2)
    store(tmp_path / "e", 0.0, finished=None, seed=5)
    store(tmp_path / "a" / "wandb" / "files", 99.0, seed=9)  # what W&B keeps inside a run
    start(tmp_path, "stage=aggregate")
    table = pd.read_csv(tmp_path / "aggregate.csv")
    assert list(table)[:2] == ["loss", "method.rollout.start_layer"]
    assert table["loss"].tolist() == ["logit", "ratio", "ratio"]
    assert table["method.rollout.start_layer"].tolist() == [0, 0, 2]
    assert table["run"].tolist() == ["a", "b/c", "d"]
    assert table["auc"].tolist() == [10.0, 20.0, 30.0]
    assert not {"seed", "batch_size", "run_dir"} & set(table)
    assert "left out: e (not finished)" in capsys.readouterr().out
    assert "e (not finished)" in (tmp_path / "aggregate.html").read_text()
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert claims["claim"].tolist() == ["that a", "that c", "that d"]
    assert claims["run"].tolist() == ["a", "b/c", "d"]
    index = (tmp_path / "index.html").read_text()
    assert index.count("that c") == 1
    assert "Of d" in index
    assert "left out: not finished" in index
    assert {path.suffix for path in tmp_path.glob("aggregate.*")} == {
        ".csv", ".html", ".pdf", ".png",
    }  # fmt: skip


def test_runs_inside_a_run_stand_for_it_and_tell_what_they_found(tmp_path):
    store(tmp_path / "all", 1.0, seed=7)
    store(tmp_path / "all" / "a", 10.0, seed=0)
    store(tmp_path / "all" / "b", 20.0, seed=1)
    runs, _ = find_runs(tmp_path)
    assert [run.name for run in runs] == ["all/a", "all/b"]
    assert [run.found for run in runs] == [("It is.",)] * 2


def test_the_figure_has_a_row_per_setting_and_drops_no_run(tmp_path):
    store(tmp_path / "a", 10.0, seed=0)
    store(tmp_path / "b", 20.0, seed=1)
    store(tmp_path / "again", 21.0, seed=1)
    runs, _ = find_runs(tmp_path)
    [axes] = gather(runs).figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["seed 0", "seed 1", "seed 1 b"]
    drawn = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert drawn == [10.0, 21.0, 20.0]


def test_a_setting_called_like_a_column_keeps_its_own_column(tmp_path):
    store(tmp_path / "a", 10.0, order="x")
    store(tmp_path / "b", 20.0, order="y")
    runs, _ = find_runs(tmp_path)
    table = gather(runs).summary
    assert table["order (setting)"].tolist() == ["x", "y"]
    assert set(table["order"]) == {"negative"}


def test_without_a_finished_run_what_is_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run below .*pass run_dir=FOLDER"):
        find_runs(tmp_path)
    store(tmp_path / "a", 10.0, finished=None)
    store(tmp_path / "b", 10.0)
    (tmp_path / "b" / "summary.csv").unlink()
    (tmp_path / "b" / "provenance.json").unlink()
    (tmp_path / "b" / "parts").mkdir()
    for shard, finished in enumerate(("now", None)):
        text = json.dumps({"finished": finished})
        (tmp_path / "b" / "parts" / f"{shard:04d}.json").write_text(text)
    with pytest.raises(FileNotFoundError, match="a: not finished; b: 1 shards finished, not merg"):
        find_runs(tmp_path)
    assert not list(tmp_path.glob("aggregate*"))
