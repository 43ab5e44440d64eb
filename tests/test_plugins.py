"""A folder of the user's own beside the project: its rules, methods, figures and pictures run."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import running
import yaml

import run
from attnguide.runs import objects
from attnguide.runs import plugins as plugins_of_runs
from attnguide.runs.commandline import prepare
from attnguide.store.config import load_config

FILES = {
    "conf/experiment/fig98_count.yaml": (
        "# @package _global_\n# Figure 98: mine\nrunner:\n"
        "  _target_: experiments.fig98_count.Fig98Count\n  shown: 1\n"
    ),
    "experiments/fig98_count.py": (
        "from dataclasses import dataclass\n"
        "from attnguide.evaluation.localisation import positive_share\n"
        "from attnguide.figures.map_figure import MapFigure\n\n\n"
        "@dataclass\nclass Fig98Count(MapFigure):\n"
        '    title = "Figure 98: mine"\n    claim = "Ones are positive."\n'
        '    by = ("model", "method")\n    measures = {"on": positive_share("target")}\n'
    ),
    "conf/method/ones.yaml": (
        "# Ones\nones:\n  _target_: attnguide.methods.ones.explain\n  _partial_: true\n  sign: 1\n"
    ),
    "methods/ones.py": (
        "import torch\n\n\ndef explain(trace, *, sign=1):\n"
        "    return sign * torch.ones(len(trace.images), *trace.vit.grid)\n"
    ),
    "conf/data/two.yaml": "# Two creatures\n_target_: mine.Two\nname: two\nnum_images: 2\n",
    "conf/rule/squared.yaml": "# Squared\n_target_: mine.squared\n_partial_: true\n",
    "mine.py": (
        "from attnguide.data import Creatures\n\n\nclass Two(Creatures):\n    pass\n\n\n"
        "def squared(attention, gradient):\n    return (attention * gradient**2).mean(-3)\n"
    ),
}


@pytest.fixture
def plugins(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "plugins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "plugins"


def command(folder, *words):
    return subprocess.run(
        [sys.executable, run.CONF.parent / "run.py", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(run.CONF.parent / "src")},
        capture_output=True,
        text=True,
    )


def test_its_figure_runs_its_method_on_its_pictures_from_any_folder(plugins, tmp_path):
    words = ["+plugins=plugins", "data=two", "data.seed=3", "device=cpu", "run_dir=out"]
    done = command(tmp_path, "experiment=fig98_count", "method=[ones,gae]", *words)
    assert done.returncode == 0, done.stderr
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert sorted(set(summary["method"])) == ["gae", "ones"]
    assert set(summary["n"]) == {2}
    assert load_config(tmp_path / "out")["plugins"] == str(plugins)


@pytest.fixture
def adopted(plugins, monkeypatch):
    """The folder as a run adopts it, in this process; forgotten afterwards."""
    import experiments
    from attnguide import methods

    before = set(sys.modules)
    monkeypatch.setattr(plugins_of_runs, "adopted", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    for package in (experiments, methods):
        monkeypatch.setattr(package, "__path__", [*package.__path__])
    plugins_of_runs.adopt(run.CONF.parent, plugins)
    yield plugins
    for name in set(sys.modules) - before:
        if name.rpartition(".")[2] in ("fig98_count", "ones", "mine"):
            del sys.modules[name]


def test_its_rule_is_a_method_and_stored_runs_need_the_folder_again(adopted, tmp_path, undrawn):
    search = f"hydra.searchpath=[file://{adopted}/conf]"
    words = ["experiment=fig98_count", "rule=squared", "data=two", "device=cpu"]
    running.start(tmp_path / "out", search, *words, f"++plugins={adopted}")
    assert set(running.table_of(tmp_path / "out")["method"]) == {"squared"}
    running.start(tmp_path / "out", "stage=draw", f"run_dir={tmp_path / 'out'}")
    shutil.rmtree(adopted / "experiments")
    del sys.modules["experiments.fig98_count"]
    with pytest.raises(ValueError, match=r"what is yours needs \+plugins=PATH"):
        running.start(tmp_path / "out", "stage=draw", f"run_dir={tmp_path / 'out'}")


def test_a_module_that_has_another_packages_name_is_named(adopted):
    (adopted / "yaml.py").write_text("class Two: pass\n")
    with pytest.raises(ValueError, match=r"data._target_: yaml.Loader is of another package"):
        objects.find_target({"_target_": "yaml.Loader"}, "data")


def test_its_experiments_are_listed_and_figures_are_among_all(plugins):
    with pytest.raises(ValueError, match="fig98_count +Figure 98: mine"):
        prepare([f"plugins={plugins}"], run.CONF)
    words = prepare([f"+plugins={plugins}", "experiment=all_figures"], run.CONF)
    assert {f"--config-dir={plugins / 'conf'}", f"++plugins='{plugins}'"} <= set(words)
    assert any("fig12_perturbation,fig13_method_comparison,fig98_count" in word for word in words)


def test_a_process_of_another_device_takes_the_prepared_words(plugins):
    words = prepare([f"+plugins={plugins}", "experiment=fig98_count"], run.CONF)
    assert sorted(prepare(words, run.CONF)) == sorted(words)


def change(plugins, file, **content):
    (plugins / "conf" / file).write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data/evil.yaml", {"_target_": "os.system"}, "holds `_target_: os.system`"),
        ("data/evil.yaml", {"hydra": {"verbose": True}}, "sets `hydra`"),
        ("data/creatures.yaml", {"name": "x"}, "has the name of a config of this project"),
    ],
)
def test_configs_name_what_lies_in_the_folder_alone(plugins, name, content, message):
    change(plugins, name, **content)
    with pytest.raises(ValueError, match=message):
        prepare([f"+plugins={plugins}", "experiment=explain"], run.CONF)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+plugins=nowhere"], "nowhere must be a folder with a folder conf in it"),
        (["+plugins={}", "--config-dir=/"], "put them into one folder"),
        (["+plugins={},other", "-m"], "plugins takes one folder"),
        (["+plugins={}", "method=two"], "unknown method 'two'"),
        (["method=ones"], "unknown method 'ones'"),
    ],
)
def test_wrong_words_are_one_line(plugins, words, message):
    words = [word.format(plugins) for word in words]
    with pytest.raises(ValueError, match=message):
        prepare(["experiment=explain", *words], run.CONF)
