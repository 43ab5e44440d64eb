"""Configs, folders and commands that would run code, write elsewhere or give secrets away."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from running import config, start

from attnguide.errors import InputError
from attnguide.runs import program
from attnguide.runs.commandline import folder_name, prepare
from attnguide.runs.compose import storable
from attnguide.runs.objects import HOMES, build, find_target
from attnguide.runs.secrets import hide, hide_in_file

FIG12 = "experiment=fig12_perturbation"
SECRET = "s3cret-of-the-environment"


@pytest.mark.parametrize(
    "words",
    [
        ["--experimental-rerun", "x.pickle"],
        ["--exp", "x.pickle"],
        ["--config-d", "{evil}"],
        ["--config-p", "{evil}"],
        ["-cd", "{evil}"],
        ["-cp", "{evil}"],
        ["-cp={evil}"],
        ["+hydra.callbacks.x={a: 1}"],
        ["hydra.job_logging.handlers={f: {class: logging.FileHandler, filename: x, mode: w}}"],
        ["hydra.hydra_logging.root.handlers=[console]"],
        ["hydra/job_logging=default"],
        ["hydra.output_subdir=.."],
        ["hydra.run.dir=/tmp/elsewhere"],
        ["hydra.job.chdir=true"],
        ["+hydra.launcher={a: 1}"],
        ["hydra.launcher.x=${{oc.env:HOME}}"],
        ["hydra={{a: 1}}"],
        ["+hydra.x.\\_target_=os.system"],
        ["'runner._target_=os.system'"],
        ["+runner.x=[{_target_: torch.hub.load}]"],
        ["+model.arguments={a: {b: [{_target_: torch.hub.load}]}}"],
        ["hydra.searchpath=[pkg://x]"],
        ["hydra.sweeper.x=1"],
    ],
)
def test_words_that_would_run_or_write_something_are_refused(words, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "evil.yaml").write_text("x: [{y: {_target_: torch.hub.load}}]\n")
    with pytest.raises((InputError, SystemExit, Exception)) as refused:
        prepare([FIG12, *(w.replace("{evil}", str(tmp_path)) for w in words)], program.CONF)
    assert type(refused.value).__module__.split(".")[0] in ("attnguide", "hydra"), refused


EVIL = {
    "nested": ("model/a.yaml", "x: {y: [[{_target_: os.system}]]}\n"),
    "escaped": ("model/a.yaml", '"\\x5ftarget_": os.system\n'),
    "anchor": ("model/a.yaml", "a: &a {_target_: os.system}\nb: {<<: *a}\n"),
    "hydra node": ("config.yaml", "hydra: {job_logging: {handlers: {}}}\n"),
    "hydra package": ("model/a.yaml", "# @package hydra.callbacks\nx: {y: 1}\n"),
    "hydra default": ("config.yaml", "defaults: [{override hydra/launcher: x}]\n"),
    "hydra folder": ("hydra/launcher/a.yaml", "a: 1\n"),
    "logging call": ("model/a.yaml", "h: {(): logging.FileHandler}\n"),
    "own code": ("model/a.yaml", "_target_: attnguide.models.Python\ntarget: evil.py:make\n"),
    "no yaml": ("model/a.yaml", "a: [\n"),
    "python tag": ("model/a.yaml", "a: !!python/object/apply:os.system [ls]\n"),
}


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("what", EVIL)
def test_folders_of_configs_from_elsewhere_are_read_before_hydra_reads_them(tmp_path, what, linked):
    name, text = EVIL[what]
    folder, real = tmp_path / "conf", tmp_path / "real"
    (real / name).parent.mkdir(parents=True)
    (real / name).write_text(text)
    if linked:
        folder.mkdir()
        first = Path(name).parts[0]
        (folder / first).symlink_to(real / first)
    else:
        real.rename(folder)
    with pytest.raises(InputError):
        prepare([FIG12, "--config-dir", str(folder)], program.CONF)


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("model", {"_target_": "attnguide.models.load.load_model", "name": "creatures"}),
        ("model", {"_target_": "attnguide.store.files.write_atomic", "path": "x", "data": "y"}),
        ("model", {"_target_": "attnguide.models.sources.import_module", "name": "os"}),
        ("model", {"_target_": "attnguide.models.Timm", "_args_": ["x"]}),
        ("model", {"_target_": "attnguide.models.Timm", "class_names": {"_target_": "os.getcwd"}}),
        ("model", {"_target_": "attnguide.models.Timm", "name": [{"_target_": "os.getcwd"}]}),
        ("model", {"_target_": "torch.hub.load", "repo_or_dir": "x"}),
        ("model", {"_target_": "attnguide.modelsx.Timm"}),
        ("model", {"_target_": "attnguide.models..Timm"}),
        ("model", {"_target_": "attnguide.models.\x00.Timm"}),
        ("model", {"_target_": 7}),
        ("model", {}),
        ("data", {"_target_": "attnguide.data.photographs.os.system"}),
        ("data", {"_target_": "attnguide.data.photographs.Path"}),
        ("method.a", {"_target_": "attnguide.methods.gae.explain"}),
        ("method.a", {"_target_": "attnguide.methods.list_methods"}),
        ("method.a", {"_target_": "attnguide.methods.gae.explain", "_partial_": True,
                      "rule": {"_target_": "os.getcwd", "_partial_": True}}),
        ("rule", {"_target_": "attnguide.losses.logit", "_partial_": True}),
        ("runner", {"_target_": "experiments.explain.chain"}),
        ("runner", {"_target_": "run.report"}),
        ("trainer", {"_target_": "pytorch_lightning.Callback"}),
        ("trainer", {"_target_": "pytorch_lightning.Trainer", "callbacks": [{"_target_": "x.y"}]}),
        ("logger", {"_target_": "attnguide.tracking.wandb_run.partial"}),
    ],
)  # fmt: skip
def test_configs_make_only_what_their_name_says(name, node):
    with pytest.raises(InputError):
        build(node, name)


def test_every_config_of_ours_makes_what_its_name_says():
    made = 0
    for path in program.CONF.glob("*/*.yaml"):
        node = yaml.safe_load(path.read_text())
        node = node.get("runner", node) if isinstance(node, dict) else {}
        name = "runner" if path.parent.name == "experiment" else path.parent.name
        if "_target_" in node and name in HOMES:
            assert callable(find_target({k: v for k, v in node.items() if v != "${rule}"}, name))
            made += 1
        for label, entry in node.items() if name == "method" else ():
            assert callable(find_target({**entry, "rule": None}, f"method.{label}"))
            made += 1
    assert made > 50


@pytest.mark.parametrize(
    "stored",
    [
        {"experiment": "../../x"},
        {"experiment": "name.json", "runner": {"_target_": "experiments.name.json"}},
        {"experiment": "x", "runner": {"_target_": "experiments.x.../../y"}},
        {"experiment": "x", "runner": {"_target_": "experiments.nowhere.Nobody"}},
        {"experiment": "explain", "runner": "text"},
        {"experiment": ["explain"], "runner": {"_target_": "experiments.explain.Explain"}},
        {"experiment": "../x", "runner": {"_target_": "experiments.explain.Explain"}},
        {"experiment": "explain", "runner": {"_target_": "experiments.explain.chain"}},
        {"experiment": "explain", "runner": {"_target_": "experiments.explain.Explain",
                                             "overview": [{"_target_": "os.getcwd"}]}},
        {"experiment": "explain", "runner": {"_target_": "experiments.explain.Explain",
                                             "overview": "${oc.env:HOME}"}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("stage", ["draw", "merge"])
def test_a_foreign_config_is_one_line(tmp_path, stored, stage):
    (tmp_path / "parts").mkdir()
    content = {"data": {"num_shards": 1}, "logger": {"_target_": "attnguide.tracking.Files"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content | stored))
    with pytest.raises((InputError, FileNotFoundError)) as refused:
        start(tmp_path, f"stage={stage}")
    assert "\n" not in str(refused.value)
    assert os.environ["HOME"] not in str(refused.value)


def composed(*words):
    with initialize_config_dir(str(program.CONF), version_base="1.3"):
        cfg = compose("config", [FIG12, *words])
    cfg.experiment, cfg.run_dir = "fig12_perturbation", "x"
    return cfg


def test_the_environment_stays_unresolved_in_what_is_stored(monkeypatch):
    monkeypatch.setenv("ADDRESS", SECRET)
    monkeypatch.delenv("NOWHERE", raising=False)
    cfg = composed(
        "data=folder", "data.root=${oc.env:ADDRESS}/x", "data.list=${data.root}",
        "logger=wandb", "logger.entity=${oc.env:NOWHERE,nobody}",
    )  # fmt: skip
    values, stored = program.plain(cfg), storable(cfg)
    assert values["data"]["list"] == values["data"]["root"] == f"{SECRET}/x"
    assert stored["data"]["list"] == stored["data"]["root"] == "${oc.env:ADDRESS}/x"
    assert (values["logger"]["entity"], stored["logger"]["entity"]) == (
        "nobody",
        "${oc.env:NOWHERE,nobody}",
    )
    assert SECRET not in json.dumps(stored)
    assert program.plain(cfg) == values  # the environment is asked again


@pytest.mark.parametrize("name", ["MY_API_KEY", "HF_TOKEN", "db_password", "Some_Secret_Thing"])
def test_literal_secrets_are_blotted_in_all_records(monkeypatch, name, tmp_path):
    monkeypatch.setenv(name, SECRET)
    cfg = composed("data=folder", f"data.root={SECRET}", "logger=wandb", f"logger.tags=[{SECRET}]")
    assert program.plain(cfg)["data"]["root"] == SECRET
    stored = storable(cfg)
    assert stored["data"]["root"] == "***"
    assert stored["logger"]["tags"] == ["***"]
    assert SECRET not in folder_name([f"data.root={SECRET}", "seed=1"], 0, {"data.root"})
    (tmp_path / "multirun.yaml").write_text(f"a: {SECRET}\n")
    hide_in_file(tmp_path / "multirun.yaml")
    assert (tmp_path / "multirun.yaml").read_text() == "a: ***\n"


def test_short_values_are_ordinary_words(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "zebra")
    monkeypatch.setenv("PLAIN", SECRET)
    assert hide({"a": ["zebra", SECRET, 3, None]}) == {"a": ["zebra", SECRET, 3, None]}


def test_a_sweep_leaves_no_secret(tmp_path):
    words = ["-m", FIG12, f"data.name=a,{SECRET}", "seed=-1", f"run_dir={tmp_path / 'sweep'}"]
    done = subprocess.run(
        [sys.executable, "run.py", *words],
        cwd=program.CONF.parent,
        capture_output=True,
        text=True,
        env=os.environ | {"THE_SECRET": SECRET},
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert (tmp_path / "sweep" / "multirun.yaml").is_file()
    for path in tmp_path.rglob("*"):
        assert SECRET not in path.name
        assert not path.is_file() or SECRET not in path.read_text()


def test_a_config_of_ours_passes():
    assert config(FIG12)["runner"]["fill"] == "zero"
    assert logging.getLogger("attnguide") is not None
