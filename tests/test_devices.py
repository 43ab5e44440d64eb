"""Several devices, a found batch size and other precisions: the same rows, each once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_study
import numpy as np
import pytest
import torch
from tiny import tiny

from attnguide.config import Config, DataConfig, check
from attnguide.runs import memory
from attnguide.runs.lifecycle import run
from attnguide.store.table import read


@pytest.fixture(autouse=True)
def study(monkeypatch):
    monkeypatch.setitem(sys.modules, "experiments.fake_study", fake_study)
    monkeypatch.setattr(fake_study.FakeStudy, "__module__", "experiments.fake_study")
    monkeypatch.setattr(fake_study, "computed", [])
    monkeypatch.setattr(fake_study, "stop", {})
    return fake_study


def config(**changes):
    common = {"experiment": "fake_study", "method": {"complete": {}}, "device": "cpu"}
    return check(Config(**{**common, "batch_size": 2, **changes}))


def provenance(run_dir):
    return json.loads((run_dir / "provenance.json").read_text())


def test_two_devices_give_the_rows_of_one(tmp_path, study, capsys):
    run(config(), tmp_path / "one")
    study.computed.clear()
    run(config(devices=2, data=DataConfig(workers=1)), tmp_path / "two")
    assert study.computed == []  # the parent computes nothing
    one, two = (read(tmp_path / name) for name in ("one", "two"))
    assert list(two["image_id"]) == [f"image {i:02d}" for i in range(12)]  # each once
    np.testing.assert_allclose(two["relevance"], one["relevance"], rtol=1e-6)
    parts = tmp_path / "two" / "parts"
    assert len(list(parts.glob("*.parquet"))) == 6
    assert [path.name for path in parts.glob("*.lock")] == ["0000.lock"]
    assert provenance(tmp_path / "two")["device"].startswith("2 x cpu")
    assert capsys.readouterr().out.count("12 of 12 images") == 2


def test_more_devices_than_images_and_an_unreadable_one(tmp_path):
    run(config(devices=4, batch_size=8, runner={"count": 3, "unreadable": [2]}), tmp_path)
    assert len(read(tmp_path)) == 2
    assert provenance(tmp_path)["skipped"] == ["image 02"]
    assert len(list((tmp_path / "parts").glob("*.parquet"))) == 2  # work for every device


@pytest.mark.parametrize(
    ("trouble", "kind", "message"),
    [
        (ValueError("picture: is broken\nmend it"), ValueError, "^picture: is broken\nmend it$"),
        (SystemExit(9), OSError, "process of device 1 was killed.*what is stored is complete"),
    ],
)
def test_one_device_that_fails_ends_all_and_the_run_goes_on_later(
    tmp_path, study, trouble, kind, message
):
    study.stop["image 06"] = trouble  # in the second process's second batch
    with pytest.raises(kind, match=message):
        run(config(devices=2), tmp_path)
    assert provenance(tmp_path)["finished"] is None
    study.stop.clear()
    run(config(), tmp_path)  # how many devices says how fast, not what
    assert 0 < len(study.computed) < 12
    assert len(read(tmp_path)) == 12


ORPHANS = """
import os, signal, sys, time
import fake_study
from pathlib import Path
from attnguide.config import Config, check
from attnguide.runs.lifecycle import run
sys.modules["experiments.fake_study"] = fake_study
fake_study.FakeStudy.__module__ = "experiments.fake_study"
explain, parent = fake_study.explain, os.getpid()
def kill_the_parent(*words, **settings):
    Path(sys.argv[1], f"{os.getpid()}.pid").touch()
    if os.getppid() == parent:
        os.kill(parent, signal.SIGKILL)
    while os.getppid() == parent:
        time.sleep(0.01)
    return explain(*words, **settings)
fake_study.explain = kill_the_parent
settings = {"experiment": "fake_study", "method": {"complete": {}}, "device": "cpu", "devices": 2}
run(check(Config(batch_size=2, **settings)), Path(sys.argv[1], "run"))
"""


def test_processes_whose_parent_was_killed_store_nothing_more(tmp_path):
    tests = Path(__file__).parent
    path = [str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]
    words = [sys.executable, "-c", ORPHANS, str(tmp_path)]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": os.pathsep.join(path)})
    assert done.returncode == -signal.SIGKILL
    orphans = [int(file.stem) for file in tmp_path.glob("*.pid")]
    deadline = time.monotonic() + 30
    while any(Path("/proc", str(pid)).exists() for pid in orphans):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert orphans
    assert not list((tmp_path / "run" / "parts").glob("*.parquet"))


def test_the_batch_size_follows_the_free_memory(monkeypatch):
    vit = tiny()
    one = memory.image_bytes(vit)
    assert one == 4 * 2 * (6 * 2 * 17**2 + 16 * 17 * 24)
    cpu = torch.device("cpu")
    for free, devices, expected in (
        (10 * one, 1, 4),
        (10 * one, 2, 2),
        (one, 1, 1),
        (10**12, 1, memory.CAP["cpu"]),
    ):
        monkeypatch.setattr(memory, "_available", lambda free=free: free)
        assert memory.fitting_batch(vit, [cpu] * devices) == expected


def test_free_memory_is_what_a_cgroup_leaves(tmp_path, monkeypatch):
    assert 2**20 < memory.free_memory([torch.device("cpu")]) < 2**45
    (tmp_path / "max").write_text("3000\n")
    (tmp_path / "used").write_text("1000\n")
    monkeypatch.setattr(memory, "CGROUPS", ((str(tmp_path / "max"), str(tmp_path / "used")),))
    assert memory.free_memory([torch.device("cpu")]) == 2000
    (tmp_path / "max").write_text("max\n")
    assert memory.free_memory([torch.device("cpu")]) > 2**20


def test_bf16_is_named_in_the_records_and_tf32_ends_with_its_run(tmp_path):
    run(config(), tmp_path / "fp32")
    run(config(precision="bf16"), tmp_path / "bf16")
    run(config(precision="tf32"), tmp_path / "tf32")
    assert torch.get_float32_matmul_precision() == "high"
    run(config(), tmp_path / "again")
    assert torch.get_float32_matmul_precision() == "highest"
    assert provenance(tmp_path / "bf16")["precision"] == "bf16"
    full, half = (read(tmp_path / name)["relevance"] for name in ("fp32", "bf16"))
    assert 1e-5 < (full - half).abs().max() < 0.1 * full.abs().max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 0}, "devices must be at least 1"),
        ({"batch_size": "many"}, "must be a number of images or auto, got 'many'"),
        ({"device": "cuda:1", "devices": 2}, "cuda:1 is one device; pass device=cuda with dev"),
        ({"device": "cuda", "devices": 99}, "device=cuda devices=99: this machine has"),
    ],
)
def test_impossible_devices_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(config(**changes), tmp_path)
