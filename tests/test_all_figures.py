"""All figures from one command: a sweep over them, resumed, past a failing one, on one page."""

import json
import sys

import pytest
from PIL import Image

from attnguide.errors import InputError
from attnguide.runs import lifecycle, program
from attnguide.runs.commandline import figures_folder, prepare

ALL = "experiment=all_figures"
FIGURES = sorted(path.stem for path in (program.CONF / "experiment").glob("fig*.yaml"))


@pytest.fixture
def jobs(monkeypatch):
    """What each job is told, and nothing else: figures come ready made, or fail as asked."""
    seen, fails = [], {}

    def job(config, words, run_dir, *, sweep, stored):
        name = config["experiment"]
        seen.append((name, words, config, run_dir))
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.yaml").write_text(f"experiment: {name}\n")
        if name in fails:
            raise InputError(fails[name])
        told = {"title": f"<{name}>", "claim": "A claim.", "caption": "Seen.", "found": ["It is."]}
        (run_dir / "findings.json").write_text(json.dumps(told))
        cost = {"seconds": 61.4, "peak_memory_mb": 900, "finished": "now"}
        (run_dir / "provenance.json").write_text(json.dumps(cost))
        (run_dir / "summary.csv").write_text("n\n1\n")
        Image.new("RGB", (40, 30), "red").save(run_dir / "figure.png")

    monkeypatch.setattr(lifecycle, "run", job)
    monkeypatch.setattr(program, "failed", {})
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["run.py"])
    job.seen, job.fails = seen, fails
    return job


def all_of(*words):
    program.run_all(["-cp", str(program.CONF), ALL, *words])


def names(jobs):
    return [name for name, *_ in jobs.seen]


def test_figures_run_in_order_and_stand_on_one_page(tmp_path, jobs, capsys):
    all_of(f"run_dir={tmp_path}")
    assert names(jobs) == FIGURES
    assert {f"fig{number:02d}" for number in range(2, 14)} == {name[:5] for name in FIGURES}
    assert [run_dir for *_, run_dir in jobs.seen] == [tmp_path / name for name in FIGURES]
    page = (tmp_path / "index.html").read_text()
    assert 'src="fig02_pipeline/figure.png"' in page
    assert "&lt;fig13_method_comparison&gt;" in page
    assert "<li>It is.</li>" in page
    assert 'data-key="61.4">61<' in page
    assert str(tmp_path / "index.html") in capsys.readouterr().out


def test_a_failing_figure_stops_no_other_and_is_named_on_the_page(tmp_path, jobs, monkeypatch):
    jobs.fails["fig05_multi_class"] = "no pictures"
    with pytest.raises(ValueError, match="no pictures"):
        all_of(f"run_dir={tmp_path}")
    assert names(jobs) == FIGURES
    assert program.failed == {"fig05_multi_class": "no pictures"}
    page = (tmp_path / "index.html").read_text()
    assert "left out: no pictures" in page
    assert "&lt;fig13_method_comparison&gt;" in page
    jobs.fails.clear()
    monkeypatch.setattr(program, "failed", {})
    all_of(f"run_dir={tmp_path}")
    assert "left out" not in (tmp_path / "index.html").read_text()


def test_what_is_asked_for_reaches_every_figure_and_each_figures_own_is_left(tmp_path, jobs):
    all_of(f"run_dir={tmp_path}", "seed=3", "data.num_images=5", "scale=paper", "logger=files")
    for name, words, config, _ in jobs.seen:
        assert (config["seed"], config["data"]["num_images"]) == (3, 5), name
        assert (config["scale"], config["data"]["name"]) == ("paper", "imagenet_val")
        assert config["logger"]["_target_"] == "attnguide.tracking.Files"
        assert set(words) == {
            "experiment", "run_dir", "seed", "data.num_images", "scale", "logger"
        }  # fmt: skip
    by_name = {name: config for name, _, config, _ in jobs.seen}
    assert list(by_name["fig04_encoder_mechanism"]["method"]) == ["absolute", "gae"]
    assert by_name["fig13_method_comparison"]["batch_size"] == 8


def test_where_they_lie_depends_on_the_words_alone(tmp_path):
    for words, folder in (
        ([ALL], "outputs/all_figures"),
        ([ALL, "run_dir='my figures'"], "my figures"),
        ([ALL, "-m", "run_dir=a"], "a"),
    ):
        asked = prepare(words, program.CONF)
        assert str(figures_folder(words, asked)) == folder
        assert f"experiment={','.join(FIGURES)}" in asked
    other = ["-m", "experiment=fig05_multi_class", "seed=1,2"]
    assert figures_folder(other, prepare(other, program.CONF)) is None


def test_one_word_that_no_figure_knows_is_refused_before_any_runs(tmp_path, jobs):
    with pytest.raises(ValueError, match="unknown key 'sed'"):
        all_of("sed=3", f"run_dir={tmp_path}")
    assert not jobs.seen
    assert not list(tmp_path.iterdir())
