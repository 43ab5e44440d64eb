"""The dashboard is built without key or network, and names what the logger sends."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import wandb
from running import start

from attnguide.tracking import WandB, dashboard
from attnguide.tracking.wandb_payload import curves, scalars

ENTITY = WandB(entity="team", project="study")
METHODS = ["complete", "gae"]


@pytest.fixture
def panels(tmp_path):
    """Each panel of the stored definition by section and title, for one model or several."""
    reason = "the extra dashboard is not installed: pip install 'attnguide[dashboard]'"
    pytest.importorskip("wandb_workspaces", reason=reason, exc_type=ImportError)

    def read(models):
        workspace = dashboard.build(ENTITY, METHODS, models)
        dashboard.publish(workspace, WandB(mode="offline"), tmp_path)
        found = json.loads((tmp_path / "dashboard.json").read_text())
        assert (found["entity"], found["project"]) == ("team", "study")
        return {
            section["name"]: {p.get("title", "claims"): p for p in section["panels"]}
            for section in found["sections"]
        }

    return read


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()


def logged(models):
    """Names under which a perturbation study of these models is logged."""
    keys = [(m, method, order) for m in models for method in METHODS for order in dashboard.ORDERS]
    rows = pd.DataFrame(keys, columns=["model", "method", "order"])
    rows = rows.assign(image_id="i", fraction=0.5, correct=True, probability=0.5)
    rows = pd.concat([rows.assign(guide=guide) for guide in ("right", "none")])
    summary = pd.concat([rows.assign(quantity=q, auc=1.0) for q in dashboard.QUANTITIES])
    columns = ["method", "order", "quantity", "auc", "model"]
    return {*next(iter(curves(rows))), *scalars(summary[columns])}


@pytest.mark.parametrize("models", [["vit_base"], ["vit_base", "vit_large"]])
def test_panels_name_what_is_logged(panels, models):
    found, names = panels(models), logged(models)
    drawn = set()
    for panel in found["Perturbation curves"].values():
        assert panel["x"] == "fraction"
        drawn |= {name for name in names if re.fullmatch(panel["metric_regex"], name)}
    for panel in found["AUC by method and model"].values():
        drawn |= names & set(panel["metrics"])
    assert drawn == names - {"fraction"}
    assert len(found["Perturbation curves"]) == 2 * len(found["AUC by method and model"]) == 8
    claims, report = found["Claims"].values()
    assert (claims["table_name"], report["media_keys"]) == ("table/claims", ["report"])
    [figures] = found["Figures"].values()
    assert figures["media_keys"] == ["figure/figure"]


def test_localisation_has_a_bar_per_measure_and_method_of_the_experiments(panels):
    found = panels(["creatures"])["Localisation"]
    code = [p.read_text() for d in ("src", "experiments") for p in Path(d).rglob("*.py")]
    code = [text for text in code if "LOCALISATION = (" not in text]
    for measure in dashboard.LOCALISATION:
        assert any(f'"{measure}"' in text for text in code), measure
        table = pd.DataFrame({"method": METHODS, "measure": measure, "value": 0.5})
        assert found[measure.capitalize()]["metrics"] == list(scalars(table))


@pytest.mark.usefixtures("nobody", "panels")
def test_without_a_key_the_definition_is_stored_and_told_of(tmp_path, capsys):
    words = ("logger=wandb", "logger.entity=team", "logger.project=study", "method=[gae]")
    start(tmp_path / "nowhere", "stage=dashboard", *words)
    path = tmp_path / "outputs" / "dashboard.json"
    assert json.loads(path.read_text())["name"] == "Attention and gradient"
    told = capsys.readouterr().out
    assert "W&B has no key here, so the dashboard is only defined: outputs/dashboard.json" in told


@pytest.mark.usefixtures("nobody", "panels")
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_with_a_key_it_is_sent_unless_offline(tmp_path, monkeypatch, mode):
    workspace = dashboard.build(ENTITY, METHODS, ["creatures"])
    tried = []

    def save(self):
        tried.append(self)
        raise OSError("no network")

    monkeypatch.setattr(type(workspace), "save", save)
    monkeypatch.setattr(dashboard, "why_offline", str)
    told = dashboard.publish(workspace, WandB(mode=mode), tmp_path)
    assert len(tried) == (mode == "online")
    expected = {"online": "out of reach (no network)", "offline": "W&B is set offline"}[mode]
    assert expected in told
    assert (tmp_path / "dashboard.json").exists()


def test_without_entity_or_extra_one_line_says_what_to_do(monkeypatch):
    with pytest.raises(ValueError, match="pass logger.entity=NAME"):
        dashboard.build(WandB(), METHODS, ["creatures"])
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(ValueError, match=r"pip install 'attnguide\[dashboard\]'$"):
        dashboard.build(ENTITY, METHODS, ["creatures"])
