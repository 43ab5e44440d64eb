"""Configs are code, run folders are data: nothing that is stored is called."""

import json
import os
import random
import resource
import shutil
import time

import fake_study
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import PNG
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from running import CONF, start

from attnguide.errors import InputError
from attnguide.figures.experiment import Experiment
from attnguide.report.index import index_page
from attnguide.runs.aggregate import find_runs, gather
from attnguide.runs.main import as_stored, as_values, readable
from attnguide.runs.objects import stored_experiment
from attnguide.runs.resume import check_parts, missing
from attnguide.store.folder import RunFolder, flat
from attnguide.store.maps import as_columns, write_maps
from attnguide.store.provenance import Provenance
from attnguide.store.table import done, fault, merge, read
from attnguide.tracking import WandB

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
    with pytest.raises((InputError, HydraException, FileNotFoundError)) as refused:
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
    fills = {"fill": "${oc.env:HOME}", "fractions": [0, "${oc.env:HOME}"]}
    drawn = stored_experiment({"experiment": "fig12_perturbation", "runner": fills})
    assert os.environ["HOME"] not in repr(drawn)
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


# Whatever a folder holds: the right value, or one line, soon and in little memory

SECONDS, MEGABYTES = 20, 500  # of all readings of one file
TOKENS = (
    *(b"null", b"[", b"{", b"-1", b"1e999", b"\x00\xff", b"&a [*a]", b"!!python/name:os.system"),
    *(b'"', b"\n", b",", b"9" * 5000, b"${oc.env:HOME}", b"[" * 3000, b'{"a":' * 3000),
)
VALUES = (
    *(None, True, -1, 1e300, float("nan"), 10**18, "text", "${oc.env:HOME}", "../../x"),
    *([], {}, [[1]], {"a": {"b": 5}}, ["x"] * 3),
)


@pytest.fixture
def theirs(whole, tmp_path, study):
    """Changes a copy of a run: its config, and a column of its table."""
    run_dir = shutil.copytree(whole, tmp_path / "theirs")

    def change(config=(), drop=()):
        values, table = RunFolder(run_dir).load_config(), run_dir / "results.parquet"
        (run_dir / "config.yaml").write_text(yaml.safe_dump(values | dict(config)))
        pq.write_table(pq.read_table(table).drop_columns(list(drop)), table)
        return run_dir

    return change


def test_the_logger_of_a_foreign_folder_hears_nothing(theirs, monkeypatch):
    monkeypatch.setattr(WandB, "open", lambda *_, **__: pytest.fail("a logger was opened"))
    wandb = {"_target_": "attnguide.tracking.WandB", "entity": "theirs", "tags": ["${oc.env:HOME}"]}
    start(theirs({"logger": wandb}), "stage=merge")


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("draw", {"drop": ["relevance"]}, r"results.parquet does not hold what fake_study draws"),
        ("draw", {"drop": ["image_id"]}, "results.parquet is damaged"),
        ("merge", {"config": {"data": {"num_shards": 10**6}}}, r"1000000 of .* 6, 7, ...; run"),
        ("merge", {"config": {"data": {"num_shards": 10**7}}}, "config.yaml is damaged .data.num"),
    ],
)
def test_a_foreign_folder_of_another_shape_is_one_line(theirs, stage, change, message):
    with pytest.raises(InputError, match=message):
        start(theirs(**change), f"stage={stage}")


def test_a_config_that_grows_while_it_is_read_is_one_line(theirs):
    run_dir, lines = theirs(), ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with (run_dir / "config.yaml").open("a") as file:
        file.write("\n".join(lines))
    for stage in ("draw", "merge", "verify"):
        with pytest.raises(InputError, match=r"config.yaml is damaged .aliases"):
            start(run_dir, f"stage={stage}")
    with pytest.raises(FileNotFoundError, match="no finished run .*theirs .*cannot be read"):
        start(run_dir.parent, "stage=aggregate")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of two parts, with a map."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        fake_study.install(patch.setitem, patch.setattr)
        for place in ("runs.draw", "report.page"):
            patch.setattr(f"attnguide.{place}.render", lambda *_: PNG)
        fake_study.start_fake(run_dir, count=6)
    row = {"image_id": "a", "target": 1, "model": "m", **as_columns(torch.ones(1, 2))}
    write_maps(run_dir, pd.DataFrame([row]))
    claim = {"experiment": "fake", "model": "m", "id": "a", "source": "paper", "claim": "That."}
    claim |= {"value": 0.9, "low": 0.8, "high": 1.0, "bound": 0.5, "side": ">", "n": 20, "p": 0.1}
    pd.DataFrame([claim | {"verdict": "holds"}]).to_csv(run_dir / "claims.csv", index=False)
    line = {"method": "gae", "order": "negative", "auc": 5.0, "ci_low": 1.0, "ci_high": 9.0}
    pd.DataFrame([line | {"n": 7}]).to_csv(run_dir / "summary.csv", index=False)
    record = json.loads((run_dir / "provenance.json").read_text())
    record.pop("files")  # nothing tells that a file was changed
    (run_dir / "provenance.json").write_text(json.dumps(record))
    return run_dir


def look_at_all(run_dir):
    """What stage=verify asks."""
    provenance, folder = Provenance(run_dir), RunFolder(run_dir)
    check_parts(folder)
    missing(folder)[0].difference(provenance.skipped)
    return [fault(path) for path in folder.part_files()], provenance.changed()


def listed(run_dir):
    """What the page of many runs says of it."""
    index_page(*find_runs(run_dir.parent))


def gathered(run_dir):
    """What stage=aggregate makes of it, but for the pixels."""
    if runs := find_runs(run_dir.parent)[0]:
        gather(runs, run_dir.parent)


READERS = {
    "config.yaml": (lambda run_dir: flat(RunFolder(run_dir).load_config()),),
    "inputs.json": (look_at_all,),
    "provenance.json": (look_at_all, listed),
    "findings.json": (listed,),
    "summary.csv": (listed, gathered),
    "claims.csv": (listed,),
    "results.parquet": (read,),
    "parts/0000-0-000000.parquet": (look_at_all, done, merge),
}


def mutated(data, dice):
    """The bytes with a hurt of a random kind at a random place."""
    at, until = sorted(dice.randrange(len(data)) for _ in range(2))
    return dice.choice((
        data[:at],
        data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :],
        data[:at] + dice.choice(TOKENS) + data[at:],
        data[:at] + dice.choice(TOKENS) + data[until:],
        data[:until] + data[at:],
    ))  # fmt: skip


def retyped(values, dice):
    """The values with one of another kind."""
    node = values
    while True:
        key = dice.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], dict | list) or not node[key] or dice.random() < 0.3:
            node[key] = dice.choice(VALUES)
            return values
        node = node[key]


def variants(path, dice, count=6):
    """Contents that a file might have."""
    data = path.read_bytes()
    yield from (mutated(data, dice) for _ in range(count))
    if path.suffix == ".json":
        yield from (json.dumps(retyped(json.loads(data), dice)).encode() for _ in range(count))
    if path.suffix == ".yaml":
        yield from (
            yaml.safe_dump(retyped(yaml.safe_load(data), dice)).encode() for _ in range(count)
        )
    if path.suffix == ".csv":
        for _ in range(count):
            table = pd.read_csv(path)
            column = dice.choice(list(table))
            kept = table.drop(columns=column) if dice.random() < 0.5 else table
            kept[dice.choice((column, "n", "auc"))] = str(dice.choice(VALUES))
            yield kept.to_csv(index=False).encode()


def answer(reader, run_dir, content):
    """What is refused, in words; empty where nothing is."""
    try:
        reader(run_dir)
    except (InputError, OSError) as error:
        return str(error)
    except Exception as error:
        error.add_note(f"{reader.__name__} of {content[:2000]!r}")
        raise
    return ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_whatever_a_file_holds_its_readers_are_right_or_say_it_in_a_line(whole, tmp_path, name):
    run_dir = shutil.copytree(whole, tmp_path / "runs" / "run")
    file, dice = run_dir / name, random.Random(name)
    begun, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in variants(whole / name, dice):
        for reader in READERS[name]:
            file.write_bytes(content)
            assert "\n" not in answer(reader, run_dir, content)
    assert time.process_time() - begun < SECONDS
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown / 1024 < MEGABYTES
