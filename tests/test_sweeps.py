"""A sweep goes on where it was, tells of every job that failed, and ends in one table."""

import sys

import pytest
from fake_study import start_fake

from attnguide.runs import lifecycle, program
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
