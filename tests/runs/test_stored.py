"""Configs are code, run folders are data: nothing that is stored is called."""

import json
import os

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from running import CONF, start

from attnguide.errors import InputError
from attnguide.figures.experiment import Experiment
from attnguide.runs.main import as_stored, as_values, readable
from attnguide.runs.objects import stored_experiment, stored_logger
from attnguide.tracking import Files, WandB

SECRET = "s3cret-of-the-environment"
EXPLAIN = {"_target_": "experiments.explain.Explain"}


@pytest.mark.parametrize(
    "stored",
    [
        {"experiment": "../../x"},
        {"experiment": ["explain"], "runner": EXPLAIN},
        {"experiment": "nowhere", "runner": {"_target_": "experiments.nowhere.Nobody"}},
        {"experiment": "explain", "runner": EXPLAIN | {"overview": "${oc.env:HOME}"}},
        {"experiment": "explain", "runner": EXPLAIN | {"unknown": 1}},
    ],
)
@pytest.mark.parametrize("stage", ["draw", "merge"])
def test_a_foreign_config_is_one_line(tmp_path, stored, stage):
    (tmp_path / "parts").mkdir()
    content = {"data": {"num_shards": 1}, "logger": {"_target_": "attnguide.tracking.Files"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content | stored))
    with pytest.raises((InputError, HydraException)) as refused:
        start(tmp_path, f"stage={stage}")
    message = readable(refused.value)
    assert message
    assert "\n" not in message
    assert os.environ["HOME"] not in message


def test_an_experiment_is_looked_up_by_name_and_nothing_stored_is_called(tmp_path):
    ran = tmp_path / "ran"
    evil = {"_target_": "pathlib.Path.touch", "self": str(ran)}
    settings = {"_target_": "pathlib.Path.touch", "_args_": [str(ran)], "overview": [evil]}
    made = stored_experiment({"experiment": "explain", "runner": settings})
    assert isinstance(made, Experiment)
    assert type(made).__name__ == "Explain"
    assert made.overview == 8
    plain = stored_experiment({"experiment": "explain", "runner": EXPLAIN | {"overview": 3}})
    assert plain.overview == 3
    assert stored_logger({"logger": evil}) == Files()
    wandb = {"_target_": "attnguide.tracking.WandB", "_args_": [evil], "project": "mine"}
    assert stored_logger({"logger": wandb}) == WandB(project="mine")
    assert stored_logger({"logger": wandb | {"tags": [evil]}}).tags == [evil]
    assert not ran.exists()


def composed(*words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", ["experiment=fig12_perturbation", *words])
    cfg.experiment = "fig12_perturbation"
    return cfg


def test_the_environment_stays_unresolved_in_what_is_stored(monkeypatch):
    monkeypatch.setenv("ADDRESS", SECRET)
    monkeypatch.delenv("NOWHERE", raising=False)
    cfg = composed(
        "data=folder", "data.root=${oc.env:ADDRESS}/x", "data.list=${data.root}",
        "logger=wandb", "logger.entity=${oc.env:NOWHERE,nobody}",
    )  # fmt: skip
    values, stored = as_values(cfg), as_stored(cfg)
    assert values["data"]["list"] == values["data"]["root"] == f"{SECRET}/x"
    assert stored["data"]["list"] == stored["data"]["root"] == "${oc.env:ADDRESS}/x"
    assert values["logger"]["entity"] == "nobody"
    assert stored["logger"]["entity"] == "${oc.env:NOWHERE,nobody}"
    assert SECRET not in json.dumps(stored)
    assert as_values(cfg) == values  # the environment is asked again


@pytest.mark.parametrize("name", ["MY_API_KEY", "HF_TOKEN", "db_password", "Some_Secret_Thing"])
def test_literal_secrets_are_blotted_in_all_records(monkeypatch, name):
    monkeypatch.setenv(name, SECRET)
    cfg = composed("data=folder", f"data.root={SECRET}", "logger=wandb", f"logger.tags=[{SECRET}]")
    assert as_values(cfg)["data"]["root"] == SECRET
    stored = as_stored(cfg)
    assert stored["data"]["root"] == "***"
    assert stored["logger"]["tags"] == ["***"]
