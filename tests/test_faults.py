"""A run that is killed, fills the disk or loses files ends with the rows of one that is not."""

import errno
import json
import os
import random
import signal
import socket
import time
import warnings
from itertools import count
from pathlib import Path

import pytest
from fake_study import start_fake
from killable_runs import killable_runs
from running import start

from attnguide.store import provenance
from attnguide.store.table import Results, merge, read

DAMAGE = {
    "cut": lambda data: data[:-20],
    "empty": lambda data: b"",
    "changed": lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:],
}


@pytest.fixture(autouse=True)
def warnings_are_lines(study):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


def parts(run_dir):
    return sorted((run_dir / "parts").glob("*.parquet"))


def same(one, other):
    return (one / "results.parquet").read_bytes() == (other / "results.parquet").read_bytes()


@pytest.fixture(scope="module")
def live():
    with killable_runs() as begin:
        yield begin


def test_killed_at_random_moments_twenty_times_and_more(live, tmp_path):
    """By the clock, and in the middle of writing; whenever all is there, some parts are lost."""
    order = {"settings": {"count": 60}}
    whole, broken, log = tmp_path / "whole", tmp_path / "broken", tmp_path / "log"
    assert live(log, run_dir=str(whole), **order)[0] == 0
    dice, kills, runs = random.Random(0), 0, 0
    while kills < 20:
        how = (
            {"kill_at": dice.randint(1, 40)} if runs % 2 else {"kill_after": dice.uniform(0.1, 0.6)}
        )
        code, told = live(log, run_dir=str(broken), **order, **how)
        assert code in (0, -signal.SIGKILL), told
        kills, runs = kills + (code != 0), runs + 1
        assert runs < 80
        if len(parts(broken)) == 20:
            for path in dice.sample(parts(broken), 9):
                path.unlink()
    code, told = live(log, run_dir=str(broken), **order)
    assert code == 0, told
    assert same(broken, whole)
    assert not read(broken).duplicated(["image_id", "model"]).any()
    assert len(read(broken)) == 60
    assert not list((broken / "parts").glob(".*"))


def test_the_whole_command_killed_while_it_writes(live, tmp_path):
    """One shard of Figure 12, written in this order: config, records, identity, parts."""
    words = [
        "experiment=fig12_perturbation",
        *("data.num_images=10", "data.num_shards=2", "batch_size=1", "device=cpu"),
        *("method=[complete]", "runner.fractions=[0,0.5]", "runner.unguided_every=0"),
    ]
    log, broken = tmp_path / "log", [*words, f"run_dir={tmp_path / 'broken'}"]
    for moment in (2, 22, 9, 15):  # each file has six moments to die
        assert live(log, words=broken, kill_at=moment)[0] == -signal.SIGKILL
    assert len(parts(tmp_path / "broken")) == 2
    for run_dir in ("broken", "whole"):
        code, told = live(log, words=[*words, f"run_dir={tmp_path / run_dir}"])
        assert code == 0, told
        merge(tmp_path / run_dir)
        assert ("2 of 4 images are stored already" in told) == (run_dir == "broken")
    assert same(tmp_path / "broken", tmp_path / "whole")


class FullDisk:
    """ENOSPC at the n-th step that needs space, and from then on."""

    def __init__(self, monkeypatch):
        self.left = 0
        opened = Path.open

        def open_or_full(path, mode="r", *args, **kwargs):
            if mode == "wb" and self.spent():
                path = Path("/dev/full")  # whoever writes to it is told by the kernel
            return opened(path, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", open_or_full)
        monkeypatch.setattr(os, "fsync", self.failing(os.fsync))
        monkeypatch.setattr(Path, "replace", self.failing(Path.replace))

    def spent(self):
        self.left -= 1
        return self.left <= 0

    def failing(self, step):
        def call(*args):
            if self.spent():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return step(*args)

        return call


def attempt(run_dir):
    try:
        start_fake(run_dir, count=6)
    except OSError as error:
        return error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_at_any_step_loses_nothing(tmp_path, monkeypatch, study):
    start_fake(tmp_path / "whole", count=6)
    study.computed.clear()
    with monkeypatch.context() as patch:
        disk = FullDisk(patch)
        for step in count(1):
            disk.left = step
            before = parts(tmp_path / "full")
            error = attempt(tmp_path / "full")
            if error is None:
                break
            assert error.errno == errno.ENOSPC
            assert "what was stored before is complete" in error.strerror
            assert "run the same command again" in error.strerror
            assert set(before) <= set(parts(tmp_path / "full"))
            assert not list(tmp_path.glob("full/**/.*.tmp"))
    assert step > 20
    assert same(tmp_path / "full", tmp_path / "whole")
    assert json.loads((tmp_path / "full" / "provenance.json").read_text())["finished"]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_finished_run_whose_last_part_is_damaged_computes_it_again(tmp_path, study, how, capsys):
    start_fake(tmp_path)
    before, last = (tmp_path / "results.parquet").read_bytes(), parts(tmp_path)[-1]
    last.write_bytes(DAMAGE[how](last.read_bytes()))
    study.computed.clear()
    start_fake(tmp_path)
    assert f"{last} does not match its checksum: set aside" in capsys.readouterr().out
    assert study.computed == ["image 09", "image 10", "image 11"]
    assert (tmp_path / "results.parquet").read_bytes() == before


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_table_is_refused_and_merged_again(tmp_path, study, how):
    start_fake(tmp_path)
    table = tmp_path / "results.parquet"
    before = table.read_bytes()
    table.write_bytes(DAMAGE[how](before))
    with pytest.raises(ValueError, match=r"is damaged .* python run.py stage=merge run_dir="):
        start(tmp_path, "stage=draw")
    study.computed.clear()
    start_fake(tmp_path)
    assert (table.read_bytes(), study.computed) == (before, [])


def test_damaged_records_are_begun_anew(tmp_path, study, capsys):
    start_fake(tmp_path)
    before = (tmp_path / "results.parquet").read_bytes()
    (tmp_path / "provenance.json").write_bytes(b"")
    study.computed.clear()
    start_fake(tmp_path)
    assert "provenance.json is damaged and begun anew" in capsys.readouterr().out
    assert study.computed == []
    assert (tmp_path / "results.parquet").read_bytes() == before
    assert json.loads((tmp_path / "provenance.json").read_text())["finished"]


def test_a_finished_shard_that_lost_a_part_is_not_merged(tmp_path, study):
    start_fake(tmp_path / "whole")
    for shard in range(2):
        start_fake(tmp_path / "two", "data.num_shards=2", f"data.shard={shard}")
    parts(tmp_path / "two")[-1].unlink()
    with pytest.raises(ValueError, match="1 of 2 shards of .* are not finished: 1;"):
        start(tmp_path / "two", "stage=merge")
    study.computed.clear()
    start_fake(tmp_path / "two", "data.num_shards=2", "data.shard=1")
    assert len(study.computed) == 3
    start(tmp_path / "two", "stage=merge")
    columns = ["image_id", "model"]
    assert read(tmp_path / "two")[columns].equals(read(tmp_path / "whole")[columns])


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, monkeypatch, study):
    start_fake(tmp_path / "whole")
    seconds = count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: next(seconds))
    monkeypatch.setattr(
        provenance, "_now", lambda: time.strftime("%FT%TZ", time.gmtime(time.time()))
    )
    for image in ("image 04", "image 10"):
        study.stop[image] = MemoryError()
        with pytest.raises(MemoryError):
            start_fake(tmp_path / "back")
    start_fake(tmp_path / "back")
    stored = json.loads((tmp_path / "back" / "provenance.json").read_text())
    assert stored["finished"] < stored["started"]
    assert same(tmp_path / "back", tmp_path / "whole")


def test_a_second_run_of_the_same_folder_is_refused_and_leaves_it_as_it_is(tmp_path, monkeypatch):
    start_fake(tmp_path)
    parts(tmp_path)[0].unlink()
    with Results(tmp_path, ("image_id", "model")):
        before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
        here = f"written by process {os.getpid()} on {socket.gethostname()}; wait for it"
        with pytest.raises(ValueError, match=here):
            start_fake(tmp_path)
        assert {p: p.read_bytes() for p in tmp_path.glob("*.*") if p.suffix != ".json"} == {
            path: data for path, data in before.items() if path.suffix != ".json"
        }
    monkeypatch.setattr(socket, "gethostname", lambda: "node17")
    with (
        Results(tmp_path, ("image_id",)),
        pytest.raises(ValueError, match=r"written by process \d+ on node17; wait for it, stop it"),
    ):
        Results(tmp_path, ("image_id",)).__enter__()


def test_a_lock_of_a_crashed_owner_is_taken_wherever_it_was(tmp_path):
    start_fake(tmp_path)
    parts(tmp_path)[0].unlink()
    lock = tmp_path / "parts" / "0000.lock"
    lock.write_text("process 1 on node17")  # the words are for people; the kernel knows the owner
    start_fake(tmp_path)
    assert len(read(tmp_path)) == 12
    assert lock.read_text() == f"process {os.getpid()} on {socket.gethostname()}"


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(OSError, match=r"cannot lock .*0000.lock .* with space and locks"):
        start_fake(tmp_path)
