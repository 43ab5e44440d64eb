"""A sweep: a folder per job, named by its words; jobs that fail stop no other; one page of all."""

import pytest
from fake_study import start_fake

import run
from attnguide.runs.main import job_dir
from attnguide.runs.settings import hide
from attnguide.store.folder import FAILED

FIG12 = "experiment=fig12_perturbation"
OWN = "outputs/fig12_perturbation/sweep"
ALL = "experiment=all_figures"
FIGURES = sorted(path.stem for path in (run.CONF / "experiment").glob("fig*.yaml"))
SECRET = "s3cret-of-the-environment"


def folders(jobs):
    return [run_dir for _, _, run_dir, _ in jobs.seen]


@pytest.mark.parametrize(
    ("words", "root"),
    [
        ([FIG12, "method=gae,complete"], OWN),
        ([FIG12, "run_dir='my runs'"], "my runs"),
        ([FIG12, "seed=1", "figure.width=5", "rule=choice(positive,complete)"], f"{OWN},seed=1"),
        ([FIG12, "hydra.sweep.dir=there"], "there"),
        (["experiment=glob(fig1*)"], "outputs/sweep"),
    ],
)
def test_where_a_sweep_lies_depends_on_its_words_alone(
    words, root, answer, jobs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert answer("--multirun", *words)[0] == 0
    assert {str(folder.parent) for folder in folders(jobs)} == {root}
    assert (tmp_path / root / "index.html").is_file()
    assert all(sweep for *_, sweep in jobs.seen)


def test_hydras_own_subdir_is_taken(answer, jobs, tmp_path):
    words = ("seed=3,4", "hydra.sweep.subdir=number ${hydra.job.num}", f"run_dir={tmp_path}")
    assert answer("-m", FIG12, *words)[0] == 0
    assert folders(jobs) == [tmp_path / "number 0", tmp_path / "number 1"]


@pytest.mark.parametrize(
    "swept",
    [
        "data.root='/z/a b','/z/a_b'",
        "method=choice([gae,complete],[gae,rollout])",
    ],
)
def test_values_that_differ_in_signs_have_a_job_and_a_folder_each(swept, answer, jobs, tmp_path):
    words = ("data=folder", swept, f"run_dir={tmp_path}")
    assert answer("-m", FIG12, *words)[0] == 0
    assert len(set(folders(jobs))) == len(jobs.seen) == 2


def test_a_job_is_named_by_what_is_swept(answer, jobs, tmp_path):
    words = ("seed=1,2", "data.num_images=5", "++runner.shown=3", "method=[gae,complete]")
    assert answer("-m", "experiment=fig08_guided", *words, f"run_dir={tmp_path}")[0] == 0
    assert folders(jobs) == [tmp_path / "seed=1", tmp_path / "seed=2"]


def test_a_folders_name_is_that_of_its_words():
    assert job_dir(f"{FIG12},rule=positive", 7) == f"{FIG12},rule=positive"
    assert job_dir(FIG12, 0) == "fig12_perturbation"
    assert job_dir("", 7) == "7"
    names = [job_dir(f"guide.image={word}", 0) for word in ("a/b", "a:b", "a b", "a_b", "-1", "1")]
    assert len(set(names)) == len(names)
    long = [job_dir(f"runner.x={'a' * 200}{end}", 0) for end in "bc"]
    assert long[0] != long[1]
    assert max(map(len, long)) <= 120


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "a/../../b", "C:\\x", "x\x00y", ".x"])
def test_no_name_leaves_the_sweep(name, tmp_path):
    for words in (name, f"guide.image={name}"):
        path = (tmp_path / job_dir(words, 0)).resolve()
        assert path.parent == tmp_path.resolve()


def test_a_job_that_fails_is_told_of_and_the_others_run(answer, jobs, tmp_path):
    jobs.fails["method=complete"] = "no pictures"
    words = ("-m", FIG12, "method=gae,complete,absolute", f"run_dir={tmp_path}")
    status, out, err = answer(*words)
    assert status == 1
    names = ("gae", "complete", "absolute")
    assert folders(jobs) == [tmp_path / f"method={name}" for name in names]
    assert "error: no pictures\n  in job #1" in err
    compare, last = out.splitlines()[-2:]
    assert compare == f"Compare python run.py stage=aggregate run_dir={tmp_path}"
    told = "1 of the sweep's jobs failed: method=complete; the same command runs them again"
    assert last == told
    assert "left out: failed: no pictures" in (tmp_path / "index.html").read_text()
    jobs.fails.clear()
    status, out, _ = answer(*words)
    assert status == 0
    assert out.splitlines()[-1].startswith("Compare python run.py stage=aggregate")
    assert "left out" not in (tmp_path / "index.html").read_text()


def test_an_agents_words_are_taken_and_its_failures_kept(answer, jobs, tmp_path):
    jobs.fails["x"] = "no pictures"
    words = [f"--{FIG12}", "--rule=positive", f"--run_dir={tmp_path / 'x'}"]
    status, _, err = answer(*words, WANDB_SWEEP_ID="made-up")
    assert (status, err) == (1, "error: no pictures\n")
    assert (tmp_path / "x" / FAILED).read_text() == "no pictures"
    jobs.fails.clear()
    assert answer(*words, WANDB_SWEEP_ID="made-up")[0] == 0
    assert not (tmp_path / "x" / FAILED).exists()


def test_the_same_sweep_again_leaves_finished_jobs_alone(tmp_path, study, capsys):
    start_fake(tmp_path, sweep=True)
    written = (tmp_path / "report.html").stat().st_mtime_ns
    start_fake(tmp_path, sweep=True)
    assert (tmp_path / "report.html").stat().st_mtime_ns == written
    assert "is already finished; skipped" in capsys.readouterr().out
    (tmp_path / "report.html").unlink()  # stopped while it drew
    start_fake(tmp_path, sweep=True)
    assert (tmp_path / "report.html").exists()
    assert len(study.computed) == 12


def test_all_figures_run_in_order_and_stand_on_one_page(answer, jobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("seed=3", "data.num_images=5", "scale=paper", "logger=files")
    status, out, _ = answer(ALL, *words)
    assert status == 0
    assert {f"fig{number:02d}" for number in range(2, 14)} == {name[:5] for name in FIGURES}
    assert [config["experiment"] for config, *_ in jobs.seen] == FIGURES
    page = (tmp_path / "outputs" / "all_figures" / "index.html").read_text()
    assert "&lt;fig02_pipeline&gt;" in page
    assert "&lt;fig13_method_comparison&gt;" in page
    assert "outputs/all_figures/index.html" in out
    for config, asked, *_ in jobs.seen:
        assert (config["seed"], config["data"]["num_images"]) == (3, 5)
        assert config["data"]["name"] == "imagenet_val"
        assert config["logger"]["_target_"] == "attnguide.tracking.Files"
        assert {"experiment", "seed", "data.num_images", "scale"} <= set(asked)
    by_name = {config["experiment"]: config for config, *_ in jobs.seen}
    assert list(by_name["fig04_encoder_mechanism"]["method"]) == ["absolute", "gae"]
    assert by_name["fig13_method_comparison"]["batch_size"] == 8


def test_a_word_that_no_figure_knows_is_refused_before_any_runs(answer, jobs, tmp_path):
    status, _, err = answer(ALL, "sed=3", f"run_dir={tmp_path}")
    assert status == 1
    assert "unknown key 'sed'; did you mean seed" in err
    assert not jobs.seen


def test_a_sweep_on_slurm_without_a_cluster_is_one_line(answer, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["-m", FIG12, "hydra/launcher=slurm", "method=gae,complete", f"run_dir={tmp_path}"]
    status, _, err = answer(*words, PATH=str(tmp_path))
    assert status == 1
    assert "Traceback" not in err
    assert "slurm" in err


def test_short_values_are_ordinary_words(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "zebra")
    monkeypatch.setenv("PLAIN", SECRET)
    assert hide({"a": ["zebra", SECRET, 3, None]}) == {"a": ["zebra", SECRET, 3, None]}


def test_a_sweep_leaves_no_secret(answer, jobs, tmp_path):
    words = ("-m", FIG12, f"data.name=a,{SECRET}", f"run_dir={tmp_path / 'sweep'}")
    assert answer(*words, THE_SECRET=SECRET)[0] == 0
    assert len(jobs.seen) == 2
    for path in tmp_path.rglob("*"):
        assert SECRET not in path.name
        assert not path.is_file() or SECRET not in path.read_text()
