"""What a person at the command line is told."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import run
from attnguide.errors import InputError, unknown_name
from attnguide.runs import commandline
from attnguide.runs.commandline import (
    folder_name,
    list_experiments,
    prepare,
)
from attnguide.runs.messages import JobError, readable

FIG12 = "experiment=fig12_perturbation"


def start(*words, **settings):
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return subprocess.Popen(
        [sys.executable, "run.py", *words],
        cwd=run.CONF.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | settings,
        # a shell's background job ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def answer(*words, **settings):
    """Exit status, what was said, and what was complained about."""
    process = start(*words, **settings)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_alone_it_lists_the_experiments_with_their_first_line(tmp_path):
    status, out, err = answer()
    assert (status, err) == (0, "")
    assert re.search(r"^  fig12_perturbation +Figure 12", out, re.M)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "b.yaml").write_text("# @package _global_\n# The second\n# more\n")
    (tmp_path / "experiment" / "long_a.yaml").write_text("# The first\n")
    assert list_experiments(tmp_path).splitlines()[1:] == [
        "  b       The second",
        "  long_a  The first",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=fig12"], "unknown experiment 'fig12'; did you mean fig12_perturbation"),
        ([FIG12, "method=compleet"], "unknown method 'compleet'; did you mean complete"),
        ([FIG12, "method=[gae,complet]"], "unknown method 'complet'; did you mean complete"),
        ([FIG12, "-m", "rule=complete,postive"], "unknown rule 'postive'; did you mean positive"),
        ([FIG12, "loss=logits"], "unknown loss 'logits'; did you mean logit"),
        ([FIG12, "guide=rigt"], "unknown guide 'rigt'; did you mean right"),
        ([FIG12, "scale=papre"], "unknown scale 'papre'; did you mean paper"),
        ([FIG12, "modle.name=x"], "unknown key 'modle'; did you mean model"),
        ([FIG12, "+foo=1"], "unknown key 'foo'"),
        ([FIG12, "~sed"], "unknown key 'sed'; did you mean seed"),
        ([FIG12, "seed.x=1"], "unknown key 'seed.x'; seed has no settings"),
        ([FIG12, "seed"], "expected key=value, got 'seed'"),
        (["seed=3"], "no experiment is named"),
        ([FIG12, "rule=positive", "method=gae"], "pass one of them"),
        ([FIG12, "+runner._target_=os.system"], "`_target_` is not accepted"),
        ([FIG12, "runner={_target_: os.system}"], "`_target_` is not accepted"),
        ([FIG12, "+hydra.x._target_=os.system"], "`_target_` is not accepted"),
        ([FIG12, "data.shrad=1", "sed=3"], "unknown key 'sed'; did you mean seed"),
        (["experiment=all_figure"], "unknown experiment 'all_figure'; did you mean all_figures"),
    ],
)
def test_wrong_words_are_refused_with_the_closest_right_ones(words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        prepare(words, run.CONF)


@pytest.mark.parametrize(
    "words",
    [
        ["--cfg", "job", FIG12],
        ["-m", FIG12, "rule=positive,complete,absolute"],
        [FIG12, "method=[gae,rollout]", "method.rollout.normalize=true", "runner.fill=mean"],
        [FIG12, "hydra/launcher=local", "+hydra.verbose=true"],
        [FIG12, "method=glob(*)", "data.root='a=b'", "rule=null"],
        ["stage=draw", "run_dir=outputs/x"],
        ["--help"],
    ],
)
def test_right_words_pass(words):
    assert prepare(words, run.CONF)
    assert prepare([], run.CONF) is None


def test_settings_that_stand_in_no_yaml_can_be_set_all_the_same():
    asked = prepare([FIG12, "runner.fill=mean", "seed=1", "+data.root=x"], run.CONF)
    assert asked == [FIG12, "++runner.fill=mean", "seed=1", "+data.root=x"]


def test_flags_may_stand_anywhere():
    asked = prepare([FIG12, "-m", "seed=1,2", "run_dir=a"], run.CONF)
    assert asked == ["-m", FIG12, "seed=1,2", "run_dir=a", "hydra.sweep.dir=a"]


def test_an_experiment_whose_settings_hydra_would_ignore_is_named(tmp_path):
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "mine.yaml"
    path.write_text("# My figure\n# @package _global_\nseed: 3\n")
    with pytest.raises(ValueError, match=r"mine.yaml must begin with .*@package _global_.*My fig"):
        prepare(["experiment=mine", f"--config-dir={tmp_path}"], run.CONF)
    path.write_text("# @package _global_\n# My figure\nseed: 3\n")
    assert prepare(["experiment=mine", f"--config-dir={tmp_path}"], run.CONF)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([FIG12, "batch_size=0"], "error: batch_size must be greater than or equal to 1"),
        ([FIG12, "seed=a"], "error: seed must be a valid integer, got 'a'\n"),
        ([FIG12, "method=gae,complete"], "add --multirun"),
        (
            [FIG12, "method=gae", "method.rollout.start_layer=2"],
            "method.rollout needs a `_target_`",
        ),
        ([FIG12, "data.root=a(b"], "error: cannot read 'data.root=a(b'"),
        (
            [FIG12, "data=folder", "data.rot=x"],
            "error: unknown setting of data 'rot'; did you mean root",
        ),
        ([FIG12, "runner.fil=zero"], "error: unknown setting of runner 'fil'; did you mean fill"),
        (["experiment=fig11_rewrite", "guide=right"], "error: fig11_rewrite does not take guide"),
        (["experiment=fig11_rewrite", "loss=ratio"], "error: fig11_rewrite does not take loss"),
        (["experiment=fig11_rewrite", "rule=positive"], "error: fig11_rewrite does not take rule"),
        (["-m", FIG12, "rule=positive,complete", "seed=-1"], "2 of the sweep's jobs failed"),
        ([FIG12, "hydra/launcher=slrum"], "Could not find 'hydra/launcher/slrum'"),
    ],
)
def test_what_is_wrong_is_one_message_without_traceback(words, message, tmp_path):
    if "-m" in words:
        words = [*words, f"hydra.sweep.dir={tmp_path}"]
    status, _, err = answer(*words, f"run_dir={tmp_path / 'run'}")
    assert status == 1
    assert message in err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_sweep_on_slurm_without_a_cluster_is_one_line(tmp_path):
    words = [FIG12, "hydra/launcher=slurm", "method=gae,complete", f"run_dir={tmp_path / 'run'}"]
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    status, out, err = answer("--multirun", *words, PATH=str(tmp_path))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: hydra/launcher=slurm finds no SLURM here (no sbatch on PATH)")
    assert not (tmp_path / "run").exists()


def test_slurm_is_for_sweeps_and_needs_its_plugin(monkeypatch):
    with pytest.raises(ValueError, match="submits a sweep; add --multirun"):
        prepare([FIG12, "hydra/launcher=slurm"], run.CONF)
    monkeypatch.setattr(commandline, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"needs a plugin; run pip install '.\[slurm\]'"):
        prepare(["-m", FIG12, "hydra/launcher=slurm"], run.CONF)
    prepare(["-m", FIG12, "hydra/launcher=local"], run.CONF)
    assert readable(JobError("seed must be at least 0")) == "seed must be at least 0"


def test_the_whole_traceback_is_there_on_demand():
    status, out, err = answer(FIG12, "batch_size=0", HYDRA_FULL_ERROR="1")
    assert (status, out) == (1, "")
    assert "Traceback" in err
    assert "batch_size must be greater than or equal to 1" in err


def test_faults_of_the_program_are_not_dressed_up_as_the_users():
    def fault(kind, *words):
        try:
            raise kind(*words)
        except kind as error:
            return readable(error)

    def deep():
        try:
            import json

            json.loads("{")
        except ValueError as error:
            return readable(error)

    assert fault(InputError, "pass this") == "pass this"
    assert fault(ValueError, "from a library") is None
    assert fault(FileNotFoundError, 2, "No such file", "x.png") == "[Errno 2] No such file: 'x.png'"
    assert fault(OSError, 28, "cannot write x; mend this") == "cannot write x; mend this"
    assert fault(KeyError, "x") is None
    assert fault(RuntimeError, "x") is None
    assert deep() is None


def test_a_sweep_names_its_folders_by_settings():
    words = ["rule=positive", FIG12, "run_dir=a/b", "data.workers=3", "guide.image=../zebra.jpg"]
    name = folder_name(words, 7, {"rule"})
    assert name == f"{FIG12},guide.image=_zebra.jpg,rule=positive"
    assert folder_name(list(reversed(words)), 2, {"rule"}) == name
    assert folder_name([f"++{word}" for word in words], 2, {"rule"}) == name
    assert folder_name(["run_dir=x"], 7, set()) == "7"
    assert folder_name([FIG12], 0, {"experiment"}) == "fig12_perturbation"
    long = [folder_name([f"runner.x={'a' * 200}{end}"], 0, set()) for end in "bc"]
    assert long[0] != long[1]
    assert max(map(len, long)) < 120


def test_how_fast_a_job_runs_is_no_part_of_its_folder_unless_it_is_swept():
    words = [FIG12, "devices=2", "batch_size=4", "seed=1", "++trainer.strategy=ddp"]
    assert folder_name(words, 0, {"seed"}) == f"{FIG12},seed=1"
    assert folder_name(words, 0, {"seed", "batch_size"}) == f"batch_size=4,{FIG12},seed=1"


def test_an_interrupt_ends_with_130_and_says_how_to_go_on(tmp_path):
    process = start(FIG12, f"run_dir={tmp_path / 'run'}", "device=cpu", "data.num_images=5000")
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "provenance.json").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert f"run_dir={tmp_path / 'run'} to resume" in out
    assert "Traceback" not in err


def test_close_names_come_first():
    text = str(unknown_name("layout", "rihgt", ["left", "right"]))
    assert text == "unknown layout 'rihgt'; did you mean right? known: left, right"
