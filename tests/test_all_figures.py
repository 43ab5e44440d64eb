"""All figures from one command: in order, resumed, past a failing one, on one page."""

import json
from functools import partial

import pytest
from PIL import Image
from test_config import config

from attnguide.runs.lifecycle import run
from experiments import all_figures
from experiments.all_figures import known_figures, passed_on

THREE = ["fig02_pipeline", "fig05_multi_class", "fig12_perturbation"]


@pytest.fixture
def commands(monkeypatch):
    """Commands that were run, and nothing else: figures come ready made, or fail as told."""
    seen, fails = [], {}

    def start(command, *, stdout, stderr):
        words = dict(word.split("=", 1) for word in command[2:])
        name = words["experiment"]
        seen.append(words)
        if name in fails:
            stdout.write(f"a line\n{fails[name]}\n")
            return 1
        folder = all_figures.Path(json.loads(words["run_dir"]))
        folder.mkdir()
        told = {"title": f"<{name}>", "claim": "A claim.", "caption": "Seen.", "found": ["It is."]}
        (folder / "findings.json").write_text(json.dumps(told))
        (folder / "provenance.json").write_text('{"seconds": 61.4, "peak_memory_mb": 900}')
        Image.new("RGB", (40, 30), "red").save(folder / "figure.png")
        return 0

    monkeypatch.setattr(all_figures.subprocess, "call", start)
    start.seen, start.fails = seen, fails
    return start


def all_of(run_dir, *words, figures=THREE):
    made = config("experiment=all_figures", "device=cpu", *words)
    made.runner["figures"] = figures
    run(made, run_dir)


def names(commands):
    return [words["experiment"] for words in commands.seen]


def test_figures_run_in_order_and_stand_on_one_page(tmp_path, commands, capsys):
    all_of(tmp_path, figures=[])
    assert names(commands) == known_figures()
    assert {f"fig{number:02d}" for number in range(2, 14)} == {n[:5] for n in known_figures()}
    page = (tmp_path / "index.html").read_text()
    assert "src='fig02_pipeline/figure.png'" in page
    assert "&lt;fig13_method_comparison&gt;" in page
    assert "<li>It is.</li>" in page
    assert "61 s" in page
    assert "3 of 12  fig04_encoder_mechanism" in capsys.readouterr().out


def test_a_failing_figure_stops_no_other_and_runs_again(tmp_path, commands):
    commands.fails["fig05_multi_class"] = "error: no pictures"
    again = partial(all_of, tmp_path)
    with pytest.raises(
        ValueError, match=r"1 of 3 figures failed: fig05_multi_class \(no pictures\)"
    ):
        again()
    assert names(commands) == THREE
    assert "failed: no pictures" in (tmp_path / "index.html").read_text()
    commands.fails.clear()
    commands.seen.clear()
    again()
    assert names(commands) == ["fig05_multi_class"]
    assert "failed" not in (tmp_path / "index.html").read_text()
    (tmp_path / "index.html").unlink()
    commands.seen.clear()
    run(config("experiment=all_figures", "stage=draw"), tmp_path)
    assert (tmp_path / "index.html").is_file()
    assert not commands.seen


def test_a_figure_that_dies_without_a_word_is_named_with_its_log(tmp_path, commands):
    commands.fails["fig02_pipeline"] = "Killed"
    with pytest.raises(ValueError, match=r"exit status 1, see .*fig02_pipeline\.log"):
        all_of(tmp_path)


def test_what_is_asked_for_is_passed_on_and_each_figures_own_is_left(tmp_path, commands):
    all_of(tmp_path, "seed=3", "data.num_images=5", figures=THREE[:1])
    (words,) = commands.seen
    assert words["experiment"] == "fig02_pipeline"
    assert (words["seed"], words["data.num_images"], words["scale"]) == ("3", "5", "embedded")
    assert not {"method", "loss", "batch_size", "guide.layout", "data.shard", "stage"} & set(words)
    sample = ["scale=sample", "model.checkpoint=a b.safetensors", "data.root='/x=y'"]
    told = list(passed_on(vars_of(config("experiment=all_figures", "batch_size=2", *sample))))
    assert {'model.checkpoint="a b.safetensors"', 'data.root="/x=y"', "batch_size=2"} <= set(told)
    assert not [word for word in told if word.startswith("data.num_images")]


def test_what_is_passed_on_is_read_as_it_was_given():
    first = config("experiment=all_figures", "scale=paper", "logger=files", "data.root='/a b'")
    second = config("experiment=fig05_multi_class", *passed_on(vars_of(first)))
    assert (second.model, second.data.root) == (first.model, "/a b")
    assert (second.scale, second.logger, second.data.num_images) == ("paper", first.logger, 120)


def vars_of(made):
    from attnguide.runs.build import plain

    return plain(made)


def test_wrong_names_and_shards_are_refused(tmp_path, commands):
    with pytest.raises(ValueError, match="fig05_multi_class"):
        all_of(tmp_path / "a", figures=["fig05_multiclass"])
    with pytest.raises(ValueError, match="shard single figures"):
        all_of(tmp_path / "b", "data.num_shards=2")
    assert not commands.seen
