"""W&B is a mirror: it never asks, never blocks, and holds what the files hold."""

import json
import sys
import warnings

import fake_study
import pandas as pd
import pytest
import wandb
from matplotlib.figure import Figure
from wandb_file import read_run

from attnguide.config import Config, DataConfig, LoggerConfig, ModelConfig, check
from attnguide.findings import Findings
from attnguide.runs.lifecycle import run
from attnguide.store.table import Results, merge
from attnguide.tracking import wandb as loggers
from attnguide.tracking.wandb import WandB, open_logger
from attnguide.tracking.wandb_payload import curves, sample, scalars

SECRET = "0123456789abcdef0123456789abcdef01234567"
SUMMARY = pd.DataFrame(
    {
        "method": ["complete", "gae"],
        "order": "negative",
        "quantity": "accuracy",
        "auc": [90.0, 60.0],
        "model": "tiny",
    }
)
ROWS = pd.DataFrame(
    [
        (f"i{image}", method, order, fraction, order == "negative" or image == 0, fraction / 2)
        for image in range(30)
        for method in ("complete", "gae")
        for order in ("negative", "positive")
        for fraction in (0.0, 0.5)
    ],
    columns=["image_id", "method", "order", "fraction", "correct", "probability"],
)


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path_factory):
    """No key, no settings of the person who runs the tests, and the fake study."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC", "SLURM_ARRAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    home = str(tmp_path_factory.mktemp("home"))
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, home)
    monkeypatch.setitem(sys.modules, "experiments.fake_study", fake_study)
    monkeypatch.setattr(fake_study.FakeStudy, "__module__", "experiments.fake_study")
    monkeypatch.setattr(fake_study, "computed", [])


def config(**changes):
    common = {"experiment": "fake_study", "method": {"complete": {}}, "device": "cpu"}
    logger = LoggerConfig("wandb", tags=["mine"], mode="offline")
    return check(Config(**{**common, "logger": logger, **changes}))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_offline_run_holds_what_the_files_hold_and_no_secret(tmp_path, monkeypatch, capsys):
    for name in ("WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    model = ModelConfig("creatures")
    logger = LoggerConfig("wandb", tags=["mine", f"of {SECRET}"], mode="offline")
    chosen = config(model=model, data=DataConfig(root=f"of {SECRET}"), logger=logger)
    run(chosen, tmp_path / "sweep", sweep=True)
    found = read_run(tmp_path / "sweep")
    assert found["run"].project == "attnguide"
    assert found["run"].job_type == "fake_study"
    assert found["run"].run_group == "/".join(tmp_path.resolve().parts[-2:])
    assert set(found["run"].tags) == {"mine", "of ***", "embedded", "complete", "creatures"}
    assert found["run"].run_id.startswith("fake_study-")
    assert found["config"]["experiment"] == "fake_study"
    assert found["config"]["data"]["root"] == "of ***"
    stored = json.loads((tmp_path / "sweep" / "provenance.json").read_text())
    assert found["config"]["provenance"] == stored
    progress = [line for line in found["history"] if "progress/images" in line]
    assert progress[-1]["progress/images"] == 12
    assert found["metrics"]["curve/*"].step_metric == "fraction"
    logged = {"/".join(key.split("/")[:2]) for line in found["history"] for key in line}
    assert {"table/summary", "table/images", "figure/figure"} <= logged
    assert found["artifacts"]["results"] == [
        "config.yaml", "provenance.json", "results.parquet", "summary.csv",
    ]  # fmt: skip
    assert found["artifacts"]["figure"] == ["figure.pdf", "figure.png"]
    assert found["exit"] == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 15
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_shard_tells_of_its_progress_in_a_run_of_its_own(tmp_path):
    run(config(data=DataConfig(shard=1, num_shards=2)), tmp_path)
    found = read_run(tmp_path)
    assert found["run"].run_id.endswith("-shard0001")
    assert [line["progress/images"] for line in found["history"]] == [6]
    assert found["artifacts"] == {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_a_key_it_is_offline_with_one_warning_and_has_curves_and_areas(tmp_path):
    with Results(tmp_path, ("image_id", "method", "order", "fraction")) as results:
        results.append(ROWS)
    merge(tmp_path)
    findings = Findings(Figure(), SUMMARY, "A caption.", ("Found.",))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        with open_logger(LoggerConfig("wandb", mode="online"), tmp_path, {}) as logger:
            logger.log(findings)
    [one] = [str(w.message) for w in told if w.category is UserWarning]
    assert "no key here, so this run is logged offline; later: wandb login" in one
    found = read_run(tmp_path)
    steps = [line for line in found["history"] if "fraction" in line]
    assert [line["fraction"] for line in steps] == [0.0, 0.5]
    assert [line["curve/negative_accuracy/gae"] for line in steps] == [100.0, 100.0]
    assert [line["curve/positive_probability/gae"] for line in steps] == [0.0, 25.0]
    assert found["summary"]["auc/negative_accuracy/complete"] == 90.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_out_of_reach_is_offline_with_one_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "PATIENCE", 1)
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        with open_logger(LoggerConfig("wandb"), tmp_path, {}) as logger:
            logger.log(Findings(Figure(), SUMMARY, "", ()))
    [one] = [str(w.message) for w in told if w.category is UserWarning]
    assert "out of reach" in one
    assert "this run is logged offline; later: wandb login" in one
    assert read_run(tmp_path)["summary"]["auc/negative_accuracy/complete"] == 90.0


def test_a_key_is_looked_for_where_wandb_keeps_it(tmp_path, monkeypatch):
    assert not loggers.has_key()
    monkeypatch.setenv("NETRC", str(tmp_path / "keys"))
    (tmp_path / "keys").write_text(f"machine api.wandb.ai login user password {SECRET}\n")
    (tmp_path / "keys").chmod(0o600)
    assert loggers.has_key()
    (tmp_path / "keys").write_text(f"machine elsewhere.org login user password {SECRET}\n")
    assert not loggers.has_key()


def test_whatever_wandb_raises_the_run_is_complete(tmp_path, monkeypatch, capsys):
    def init(**_):
        raise RuntimeError("a fault of W&B")

    monkeypatch.setattr(wandb, "init", init)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        run(config(), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"results.parquet", "summary.csv", "figure.png", "report.html"} <= names
    assert capsys.readouterr().out.count("a fault of W&B") == 1


def test_a_requeued_shard_goes_on_in_its_own_wandb_run(tmp_path, monkeypatch):
    begun = []

    def init(**chosen):
        begun.append(chosen)
        raise RuntimeError

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4711")
    for shard in (0, 1, 1, None):
        with pytest.warns(UserWarning, match="W&B failed"):
            WandB(LoggerConfig("wandb", mode="offline"), tmp_path, {}, shard=shard)
    ids = [chosen["id"] for chosen in begun]
    assert ids[0] != ids[1] == ids[2] != ids[3]
    assert not set("".join(ids)) & set(":;,#?/'")  # W&B refuses these
    assert {chosen["group"] for chosen in begun} == {"array-4711"}
    assert {chosen["resume"] for chosen in begun} == {"allow"}
    assert begun[0]["config"]["slurm"] == {"slurm_array_job_id": "4711"}


def test_names_of_numbers_tell_lines_apart():
    assert scalars(SUMMARY) == {
        "auc/negative_accuracy/complete": 90.0,
        "auc/negative_accuracy/gae": 60.0,
    }
    shares = pd.DataFrame({"model": ["a", "b"], "measure": "sign right", "value": [0.5, 1.0]})
    assert scalars(shares) == {"measure/sign right/a": 0.5, "measure/sign right/b": 1.0}
    assert scalars(pd.DataFrame({"n": [3]})) == {}


def test_curves_keep_models_apart_and_need_a_perturbation_study():
    both = pd.concat([ROWS.assign(model="a"), ROWS.assign(model="b", probability=1.0)])
    first = next(iter(curves(both)))
    assert first["curve/positive_probability/a/gae"] == 0.0
    assert first["curve/positive_probability/b/gae"] == 100.0
    assert first["curve/positive_accuracy/a/gae"] == pytest.approx(100 / 30)
    assert list(curves(ROWS.drop(columns="fraction"))) == []


def test_the_sample_of_rows_is_the_same_in_any_order():
    rows = ROWS.assign(relevance=b"raw")
    chosen = sample(rows)
    assert chosen["image_id"].nunique() == 20
    assert set(chosen["image_id"]) == set(sample(rows[::-1])["image_id"])
    assert "relevance" not in chosen


def test_files_hear_nothing_more(tmp_path):
    with open_logger(LoggerConfig("files"), tmp_path, {}) as logger:
        logger.progress("tiny", 3, 1.0)
        logger.log(Findings(Figure(), SUMMARY, "", ()))
    assert list(tmp_path.iterdir()) == []
