"""The command line is Hydra's: what it accepts, where it writes, what it says of a wrong word."""

import re
import sys
import textwrap
import warnings
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

import run
from attnguide.errors import InputError
from attnguide.findings import Findings
from attnguide.runs import main
from attnguide.runs.console import make_console, print_summary
from attnguide.runs.main import readable
from attnguide.runs.settings import Settings
from attnguide.store.table import read

FIG12 = "experiment=fig12_perturbation"
SMALL = ("experiment=explain", "data.num_images=1", "device=cpu")


def test_alone_it_lists_the_experiments_with_their_first_line(answer, tmp_path):
    status, out, err = answer()
    assert (status, err) == (0, "")
    assert re.search(r"^  fig12_perturbation +Figure 12", out, re.M)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "b.yaml").write_text("# @package _global_\n# The second\n# more\n")
    (tmp_path / "experiment" / "long_a.yaml").write_text("# The first\n")
    assert main.list_experiments(tmp_path).splitlines()[1:] == [
        "  b       The second",
        "  long_a  The first",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=fig12"], "unknown experiment 'fig12'; did you mean fig12_perturbation"),
        ([FIG12, "method=[gae,complet]"], "unknown method 'complet'; did you mean complete"),
        (["-m", FIG12, "rule=complete,postive"], "unknown rule 'postive'; did you mean positive"),
        ([FIG12, "modle.name=x"], "unknown key 'modle'; did you mean model"),
        ([FIG12, "++sed=1"], "unknown key 'sed'; did you mean seed"),
        ([FIG12, "~sed"], "'sed' does not exist"),
        ([FIG12, "seed"], "cannot read 'seed'"),
        ([FIG12, "seed.x=1"], "unknown setting of seed 'x'"),
        (["seed=3"], "no experiment is named"),
        ([FIG12, "rule=positive", "method=gae"], "pass one of them"),
        ([FIG12, "method=gae,complete"], "add --multirun"),
        ([FIG12, "seed=a", "device=x"], "seed must be a valid integer, got 'a'; device must"),
        ([FIG12, "method=gae", "+method.rollout.start_layer=2"], "rollout needs a `_target_`"),
        ([FIG12, "data.root=a(b"], "cannot read 'data.root=a(b'"),
        ([FIG12, "data=folder", "data.rot=x"], "unknown setting of data 'rot'; did you mean root"),
        ([FIG12, "+runner.fil=zero"], "unknown setting of runner 'fil'; did you mean fill"),
        ([FIG12, "+trainer.max_ime=1"], "unexpected keyword argument 'max_ime'"),
        ([FIG12, "model._target_=my.Model"], "Error locating target 'my.Model'"),
        ([FIG12, "data=folder", "data.root=${nowhere}"], "Interpolation key 'nowhere' not found"),
        (["experiment=fig11_rewrite", "guide=right"], "fig11_rewrite does not take guide"),
        (["-m", FIG12, "hydra/launcher=slrum"], "unknown hydra/launcher 'slrum'"),
        (["stage=draw"], "is not a run"),
        (["--multirun"], "--multirun sweeps over values; add experiment=NAME"),
        (["--experiment=fig12"], "unknown experiment 'fig12'; did you mean fig12_perturbation"),
        ([FIG12, "data.root=Bücher"], """for Hydra: 'data.root="Bücher"'"""),
        ([FIG12, "data.root=a#b"], """for Hydra: 'data.root="a#b"'"""),
        ([FIG12, "data.root=it's"], r'''for Hydra: "data.root=\"it's\""'''),
        ([FIG12, "guide=none", "guide.image=x"], "guide=none has no image; add guide=right"),
        ([FIG12, "data.batch_size=4"], "batch_size is set by itself: batch_size=VALUE"),
        (["view", "."], "has no page; pass the folder of a run"),
    ],
)
def test_what_is_wrong_is_one_message_before_any_weights_are_loaded(
    words, message, answer, tmp_path, monkeypatch, no_models
):
    monkeypatch.chdir(tmp_path)
    status, _, err = answer(*words)
    assert status == 1
    assert message in err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in (
        [],
        ["multirun.yaml"],
    )


def test_the_whole_traceback_is_there_on_demand(answer):
    status, _, err = answer(FIG12, "batch_size=0", HYDRA_FULL_ERROR="1")
    assert status == 1
    assert "Traceback" in err


def test_faults_of_the_program_are_not_dressed_up_as_the_users():
    def fault(kind, *words):
        try:
            raise kind(*words)
        except kind as error:
            return readable(error)

    assert fault(InputError, "pass this") == "pass this"
    assert fault(ValueError, "from a library") is None
    assert fault(FileNotFoundError, 2, "No such file", "x.png") == "[Errno 2] No such file: 'x.png'"
    assert fault(OSError, 28, "cannot write x; fix this") == "cannot write x; fix this"
    assert fault(KeyError, "x") is None


def test_what_repeats_is_one_line_at_the_end(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # make_console sets it
    console = make_console()
    for count, names in ((1, "'a' in images[0]"), (3, "'a' in images[0], 'b' in images[2]")):
        warnings.showwarning(f"{count} of 4 maps of method 'x' are all zero: for {names}")
    warnings.showwarning("method 'lrp' is ill-conditioned; use vit.module.double() and ...")
    findings = Findings(Figure(), pd.DataFrame({"n": [1]}), "Nothing to see.")
    print_summary(findings, Path("figure.png"), Path("report.html"), console)
    out = capsys.readouterr().out
    assert out.count("all zero") == 2
    assert "warning: 1 of 4 maps of method 'x' are all zero: for 'a' in images[0]\n" in out
    assert "warning: 4 of 8 maps of method 'x' are all zero (in batches that had such)" in out
    assert "warning: method 'lrp' is ill-conditioned\n" in out


def test_an_experiment_whose_settings_hydra_would_ignore_is_named(answer, tmp_path):
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "mine.yaml"
    path.write_text("# My figure\n# @package _global_\nseed: 3\n")
    status, _, err = answer("experiment=mine", f"--config-dir={tmp_path}")
    assert status == 1
    assert "must begin with the line `# @package _global_`" in err


def test_flags_of_hydras_do_what_they_do_everywhere(answer, jobs, tmp_path):
    status, out, _ = answer("--cfg", "job", FIG12)
    assert status == 0
    assert yaml.safe_load(out)["runner"]["fill"] == "zero"
    assert answer("--info", "searchpath")[0] == 0
    mine = tmp_path / "other.yaml"
    mine.write_text("defaults: [config, _self_]\nseed: 7\n")
    assert answer("-cd", str(tmp_path), "-cn", "other", FIG12)[0] == 0
    assert jobs.seen[-1][0]["seed"] == 7
    assert not jobs.seen[-1][3]


def test_help_says_what_it_is_and_every_stage(answer):
    status, out, _ = answer("--help")
    assert status == 0
    stages = get_args(get_type_hints(Settings)["stage"])
    assert all(f"stage={stage} " in out for stage in stages)
    assert out.count("python run.py experiment=") == 2
    assert all(word in out for word in ("run_dir=DIR", "docs/settings.md", "fig12_perturbation"))
    assert answer("--version")[1] == f"attnguide {version('attnguide')}\n"


def test_the_page_of_a_run_is_opened(answer, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    (tmp_path / "report.html").write_text("")
    status, out, _ = answer("view", str(tmp_path))
    assert (status, out.strip()) == (0, str(tmp_path / "report.html"))
    assert opened == [(tmp_path / "report.html").as_uri()]


def test_the_shell_completes_names_and_settings(answer):
    line = {"COMP_LINE": "run.py experiment=fig12_", "COMP_POINT": "24"}
    _, out, _ = answer("-sc", "query=bash", **line)
    assert "experiment=fig12_perturbation" in out
    _, out, _ = answer("-sc", "query=bash", **(line | {"COMP_LINE": "run.py method=a"}))
    assert {"method=all", "method=absolute"} <= set(out.split())


def test_hydras_folders_are_the_runs_unless_run_dir_is_given(answer, jobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {
        (): "outputs/fig12_perturbation/20*",
        ("run_dir=a",): "a",
        ("hydra.run.dir=b/${experiment}",): "b/fig12_perturbation",
        ("hydra.run.dir=b", "run_dir=c"): "c",
    }
    for words, folder in folders.items():
        assert answer(FIG12, *words)[0] == 0
        assert Path(jobs.seen[-1][0]["run_dir"]).absolute().match(str(tmp_path / folder)), words
        assert jobs.seen[-1][1] == ["experiment", *["run_dir"] * any("run_dir" in w for w in words)]
    assert not list(tmp_path.rglob(".hydra"))
    assert sys.path[-1] == str(tmp_path)  # modules of one's own shadow no library
    assert not list(tmp_path.rglob("*.log"))


def test_method_all_is_every_method(answer, jobs):
    assert answer(FIG12, "method=all")[0] == 0
    stems = {path.stem for path in (run.CONF / "method").glob("*.yaml")}
    assert set(jobs.seen[0][0]["method"]) == stems - {"corrected_rollout"}


def test_joblib_launches_jobs(answer, jobs, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1", FIG12, "seed=1,2")
    assert answer("-m", *words, f"run_dir={tmp_path}")[0] == 0
    assert [run_dir for _, _, run_dir, _ in jobs.seen] == [
        tmp_path / f"seed={seed}" for seed in (1, 2)
    ]


COUNTED = {
    "conf/experiment/counted.yaml": """
        # @package _global_
        # An experiment without model and figure
        runner: {_target_: counted.Counted, count: 1}
        """,
    "counted.py": """
        from dataclasses import dataclass
        from matplotlib.figure import Figure
        from pandas import DataFrame
        from attnguide.figures.experiment import Task
        from attnguide.findings import Findings


        @dataclass
        class Counted(Task):
            count: int = 1
            title = claim = "Rows are counted."

            def work(self, choices, work):
                with work.results(self.key) as results:
                    results.append(DataFrame({"image_id": range(self.count), "model": "m"}))

            def draw(self, stored):
                return Findings(Figure(), DataFrame({"n": [self.count]}), "Nothing to see.")
        """,
}


def write_files(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text).lstrip())


@pytest.mark.first_lane  # whatever it costs: two processes that begin anew
def test_a_launcher_starts_jobs_in_other_processes(command, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    write_files(tmp_path, COUNTED)
    words = ["--config-dir=conf", "-m", "hydra/launcher=submitit_local", "experiment=counted"]
    code, told = command([*words, "runner.count=2,-1", "run_dir=sweep"], cwd=tmp_path)
    assert code == 1, told
    assert "runner.count must be greater than or equal to 0, got -1" in told
    assert "Traceback" not in told
    [folder] = tmp_path.glob("sweep/*count=2")
    assert len(read(folder)) == 2
    assert (tmp_path / "sweep" / "index.html").is_file()


@pytest.mark.filterwarnings("ignore:.*declarative_base")  # optuna 2 imports SQLAlchemy 2
def test_a_sweeper_gets_the_number_that_it_optimises(answer, jobs, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = ("experiment=fig07_single_class", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=6")
    search = (
        *("hydra.sweeper.direction=maximize", "hydra.sweeper.sampler.seed=1"),
        *("runner.shown=choice(3,8)", "objective=gae.negative.accuracy", f"run_dir={tmp_path}"),
    )
    assert answer("-m", *words, *search)[0] == 0
    results = yaml.safe_load((tmp_path / "optimization_results.yaml").read_text())
    assert results["best_value"] == 8
    assert len(list(tmp_path.glob("*shown=*"))) == 2


def test_the_objective_is_a_number_of_the_summary(tmp_path):
    assert main.objective(tmp_path, None) is None
    table = {"model": ["m", "NA"], "method": ["gae", "tis"], "measure": ["net. positive", None]}
    pd.DataFrame({**table, "value": [0.25, 0.5]}).to_csv(tmp_path / "summary.csv", index=False)
    assert main.objective(tmp_path, None) == 0.25
    assert main.objective(tmp_path, "gae.net. positive") == 0.25
    assert main.objective(tmp_path, "NA.tis") == 0.5
    with pytest.raises(InputError, match=r"objective=rise names no row of .*m\.gae\.net"):
        main.objective(tmp_path, "rise")


OWN = {
    "my_module.py": """
        import json
        import torch
        from contextlib import contextmanager
        from pytorch_lightning import Callback


        def explain(trace, scale=1.0):
            return scale * torch.ones(len(trace.images), *trace.vit.grid)


        class Noted(Callback):
            def __init__(self, file):
                self.file = file

            def on_predict_start(self, trainer, module):
                open(self.file, "w").write("started")


        class Diary:
            def __init__(self, file):
                self.file = file

            @contextmanager
            def open(self, run_dir, config, shard=None, group=None):
                yield self

            def progress(self, model, images, rate):
                pass

            def log(self, findings, viewer=()):
                open(self.file, "w").write(findings.title)
        """,
}


def test_own_code_is_named_by_target(command, tmp_path):
    write_files(tmp_path, OWN)
    words = [
        *(*SMALL, "run_dir=out", "target=predicted"),
        "+method.mine={_target_: my_module.explain, _partial_: true, scale: 2}",
        "+trainer.callbacks=[{_target_: my_module.Noted, file: noted}]",
        "++logger={_target_: my_module.Diary, file: diary}",
    ]
    code, told = command(words, cwd=tmp_path)
    assert code == 0, told
    assert set(read(tmp_path / "out")["method"]) == {"complete", "gae", "mine"}
    assert (tmp_path / "noted").read_text() == "started"
    assert (tmp_path / "diary").read_text()


def test_a_run_without_a_folder_gets_a_new_one(answer, jobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moment = datetime(2026, 1, 2, 3, 4, 5, 678)
    monkeypatch.setattr(main, "datetime", SimpleNamespace(now=lambda: moment))
    for _ in range(2):
        assert answer("experiment=fig12_perturbation")[0] == 0
    names = [str(run_dir) for _, _, run_dir, _ in jobs.seen]
    first = "outputs/fig12_perturbation/2026-01-02_03-04-05-000678"
    assert names == [first, f"{first}-1"]
