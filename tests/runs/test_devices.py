"""Several devices, a found batch size and other precisions: the same rows, each once."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from fake_study import start_fake
from running import assert_same_rows, provenance
from tiny import tiny

from attnguide.errors import InputError
from attnguide.runs import devices
from attnguide.store.table import read

pytestmark = pytest.mark.usefixtures("study")


def test_two_devices_give_the_rows_of_one(tmp_path, study, capsys):
    start_fake(tmp_path / "one", "batch_size=2")
    study.computed.clear()
    start_fake(tmp_path / "two", "batch_size=2", "data.workers=1", "devices=2")
    assert study.computed == []  # the parent computes nothing
    assert capsys.readouterr().out.count("12 of 12 images") == 2
    assert list(read(tmp_path / "two")["image_id"]) == [f"image {i:02d}" for i in range(12)]
    assert_same_rows(tmp_path / "one", tmp_path / "two", rtol=1e-6)
    parts = tmp_path / "two" / "parts"
    assert len(list(parts.glob("*.parquet"))) == 6
    assert {path.name for path in parts.glob("*.lock")} == {"0000.lock", "inputs.lock"}
    assert provenance(tmp_path / "two")["device"].startswith("2 x cpu")
    start_fake(tmp_path / "two", "batch_size=2", "devices=2")
    assert "12 of 12 images are stored already" in capsys.readouterr().out
    assert len(list(parts.glob("*.parquet"))) == 6


def test_more_devices_than_images_and_an_unreadable_one(tmp_path, capsys):
    start_fake(tmp_path, "devices=4", "batch_size=8", count=3, unreadable=[2])
    assert len(read(tmp_path)) == 2
    assert provenance(tmp_path)["skipped"] == ["image 02"]
    assert len(list((tmp_path / "parts").glob("*.parquet"))) == 2  # an image for each device
    assert "3 of 3 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (InputError("picture: is broken"), "picture: is broken"),
        (SystemExit(9), "the process of a device has ended early .process 1 .*exit code 9"),
        (ZeroDivisionError("a fault of ours"), "(?s)Process 1 .*ZeroDivisionError: a fault of our"),
    ],
)
def test_a_device_that_fails_ends_all_and_the_run_goes_on_later(tmp_path, study, trouble, message):
    study.stop["image 08"] = trouble  # in the second process's second batch
    with pytest.raises(Exception, match=message):
        start_fake(tmp_path, "batch_size=2", "devices=2")
    assert provenance(tmp_path)["finished"] is None
    study.stop.clear()
    start_fake(tmp_path, "batch_size=2", "devices=3")  # how many says how fast, not what
    start_fake(tmp_path / "whole", "batch_size=2")
    assert_same_rows(tmp_path / "whole", tmp_path, rtol=1e-6)


STUDY = [
    *("experiment=fig12_perturbation", "batch_size=1", "device=cpu", "method=complete"),
    *("runner.fractions=[0,0.5]", "model.name=[creatures,creatures_contaminated]"),
]
FORKED = [["fake_study:fork_devices", [], {}], ["run:main", [], {}]]


def test_the_command_on_two_devices_gives_the_rows_of_one(command, tmp_path):
    """Two models one after the other, and an uneven number of pictures; processes begin anew."""
    one, two = (
        command.start([*STUDY, "data.num_images=5", f"run_dir={tmp_path / name}", *words])
        for name, words in (("one", []), ("several", ["devices=2"]))
    )
    for process in (one, two):
        out, err = process.communicate()
        assert process.returncode == 0, out + err
        assert "Traceback" not in err
    assert out.count("5 of 5 images") == 2  # of each model, said by one process
    assert_same_rows(tmp_path / "one", tmp_path / "several")
    assert len(list((tmp_path / "several" / "parts").glob("*.parquet"))) == 10


def test_processes_whose_parent_was_killed_store_nothing_more(command, tmp_path):
    words = [*STUDY, f"run_dir={tmp_path / 'run'}", "devices=2", "data.num_images=4000"]
    process = command.start(words, calls=FORKED)
    parts = tmp_path / "run" / "parts"
    wait_for(lambda: len(list(parts.glob("*.parquet"))) > 3 or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    wait_for(lambda: not alive_in(process.pid))
    stored = len(list(parts.glob("*.parquet")))
    assert 3 < stored < 4000
    time.sleep(1)
    assert len(list(parts.glob("*.parquet"))) == stored


def wait_for(happens, seconds=120):
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def alive_in(session):
    """Processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def test_the_batch_size_follows_the_free_memory(monkeypatch):
    vit = tiny()
    one = devices.image_bytes(vit)
    assert one == 4 * 2 * (6 * 2 * 17**2 + 16 * 17 * 24)
    for free, processes, expected in (
        (10 * one, 1, 4),
        (10 * one, 2, 2),
        (one, 1, 1),
        (10**12, 1, devices.CAP["cpu"]),
    ):
        monkeypatch.setattr(devices, "free_memory", lambda free=free: free)
        assert devices.fitting_batch(vit, torch.device("cpu"), processes) == expected


def test_a_found_batch_size_is_recorded(tmp_path, capsys):
    start_fake(tmp_path, "batch_size=auto")
    assert "32 images at once fit into memory" in capsys.readouterr().out
    assert provenance(tmp_path)["batch_size"] == 32


def test_free_memory_is_what_a_cgroup_leaves(tmp_path, monkeypatch):
    assert 2**20 < devices.free_memory() < 2**45
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    assert devices.free_memory() == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.free_memory() > 2**20


def test_precisions_are_named_in_the_records_and_tf32_ends_with_its_run(tmp_path):
    start_fake(tmp_path / "fp32")
    start_fake(tmp_path / "bf16", "precision=bf16")
    start_fake(tmp_path / "tf32", "precision=tf32")
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.backends.cudnn.allow_tf32
    start_fake(tmp_path / "again")
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
    for name in ("fp32", "bf16", "tf32"):
        assert provenance(tmp_path / name)["precision"] == name
    full, half = (read(tmp_path / name)["relevance"] for name in ("fp32", "bf16"))
    assert full.equals(half)  # explanations are never rounded, masked passes are


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["devices=0"], "devices must be greater than or equal to 1, got 0"),
        (["batch_size=many"], "batch_size must be .* or 'auto', got 'many'"),
        (["device=cuda:1", "devices=2"], "cuda:1 is one device; pass device=cuda with dev"),
        (["device=cuda", "devices=99"], "device=cuda devices=99: this machine has"),
    ],
)
def test_impossible_devices_are_refused(tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        start_fake(tmp_path, *words)


@pytest.mark.parametrize(("fast", "expected"), [(1, 1), (4, 4)])
def test_a_run_computes_with_the_faster_number_of_threads_and_keeps_it(
    tmp_path, study, monkeypatch, capsys, fast, expected
):
    used, now = [], [4]
    monkeypatch.setattr(torch, "set_num_threads", lambda count: now.__setitem__(0, count))
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    clock = lambda: sum(0.1 if n == fast else 0.2 for n in used)  # noqa: E731
    monkeypatch.setattr(devices.time, "perf_counter", clock)
    logits = type(tiny()).logits
    monkeypatch.setattr(
        type(tiny()), "logits", lambda vit, x: used.append(now[0]) or logits(vit, x)
    )
    rows, seen = study.FakeStudy.rows, []
    monkeypatch.setattr(study.FakeStudy, "rows", lambda *args: seen.append(now[0]) or rows(*args))
    start_fake(tmp_path, "data.num_shards=2")
    assert {*used} == {1, 4}
    assert f"threads: {expected} (a forward pass takes " in capsys.readouterr().out
    assert now == [4]
    used.clear()
    now[0] = 2
    start_fake(tmp_path, "data.num_shards=2", "data.shard=1", "threads=3")
    assert {*seen} == {expected}
    assert json.loads((tmp_path / "parts" / "0001.json").read_text())["threads"] == expected
    assert "threads=3 is not used" in capsys.readouterr().out
    start_fake(tmp_path / "fixed", "threads=3")
    assert seen[-1] == 3
    assert "threads" not in capsys.readouterr().out
