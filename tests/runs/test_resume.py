"""A run that is killed, fills the disk or loses files ends with the rows of one that is not."""

import errno
import io
import multiprocessing
import os
import random
import shutil
import signal
import socket
import time
import warnings
from itertools import cycle

import pyarrow.parquet as pq
import pytest
from conftest import PNG
from fake_study import start_fake
from running import start

from attnguide.store import files
from attnguide.store.table import Results, merge, read


def flipped(data):
    """A table with one wrong bit in its first column."""
    column = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0)
    begins = column.dictionary_page_offset or column.data_page_offset
    at = begins + column.total_compressed_size - 1
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE = {"cut": lambda data: data[: len(data) // 2], "empty": lambda _: b"", "flipped": flipped}
NOT_COMPARED = ("provenance.json", "report.html", "inputs.json", "config.yaml")


@pytest.fixture(autouse=True)
def warnings_are_lines(study, undrawn):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


def parts(run_dir):
    return sorted((run_dir / "parts").glob("*.parquet"))


def same(one, other):
    return (one / "results.parquet").read_bytes() == (other / "results.parquet").read_bytes()


def content(run_dir):
    """Bytes of what is the same in every life of a run, by name."""
    own = [path for path in run_dir.rglob("*") if path.is_file() and path.parent.name != "parts"]
    kept = {str(p.relative_to(run_dir)): p for p in own if p.name not in NOT_COMPARED}
    return {name: b"" if ".npz" in name else path.read_bytes() for name, path in kept.items()}


# Real processes, really killed


def live(command, *calls, words=(), kill_after=None, kill_at=None):
    """Exit code and words of a process that may be killed, by the clock or while it writes."""
    first = [["fake_study:kill_at", [kill_at], {}]] if kill_at else []
    process = command.start(words, calls=[*first, *calls])
    if kill_after is not None:
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    told = "".join(process.communicate())
    return process.returncode, told


def test_killed_at_random_moments(command, tmp_path):
    """By the clock, and in the middle of writing; whenever all is there, some parts are lost."""
    whole, broken = (
        ["fake_study:start_installed", [str(tmp_path / name)], {"count": 60}]
        for name in ("whole", "broken")
    )
    assert live(command, whole)[0] == 0
    dice, kills, runs = random.Random(0), 0, 0
    while kills < 8:
        how = (
            {"kill_at": dice.randint(1, 40)} if runs % 2 else {"kill_after": dice.uniform(0.3, 1.0)}
        )
        code, told = live(command, broken, **how)
        assert code in (0, -signal.SIGKILL), told
        kills, runs = kills + (code != 0), runs + 1
        assert runs < 40
        if len(parts(tmp_path / "broken")) == 20:
            for path in dice.sample(parts(tmp_path / "broken"), 9):
                path.unlink()
    code, told = live(command, broken)
    assert code == 0, told
    assert same(tmp_path / "broken", tmp_path / "whole")
    assert len(read(tmp_path / "broken")) == 60
    assert not list((tmp_path / "broken" / "parts").glob(".*"))


def test_the_whole_command_killed_while_it_writes(command, tmp_path):
    """One shard of Figure 12, written in this order: config, inputs, records, parts."""
    words = [
        "experiment=fig12_perturbation",
        *("data.num_images=10", "data.num_shards=2", "batch_size=1", "device=cpu"),
        *("method=[complete]", "runner.fractions=[0,0.5]", "runner.unguided_every=0"),
    ]
    main, broken = ["run:main", [], {}], [*words, f"run_dir={tmp_path / 'broken'}"]
    for moment in (2, 28, 9, 15):  # each file has six moments to die
        assert live(command, main, words=broken, kill_at=moment)[0] == -signal.SIGKILL
    assert len(parts(tmp_path / "broken")) == 2
    for run_dir in ("broken", "whole"):
        code, told = live(command, main, words=[*words, f"run_dir={tmp_path / run_dir}"])
        assert code == 0, told
        merge(tmp_path / run_dir)
        assert ("2 of 4 images are stored already" in told) == (run_dir == "broken")
    assert same(tmp_path / "broken", tmp_path / "whole")


# Faults at steps of writing, in this process


class Killed(BaseException):
    """Stands for SIGKILL: nothing but `finally` sees it."""


FAULTS = {
    "killed": Killed,
    "no memory": MemoryError,
    "disk error": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "Ctrl-C": KeyboardInterrupt,
}


class Steps:
    """Counts the steps of writing files; one of them fails, or all from one on."""

    def __init__(self, patch, fault=None, at=None, *, lasting=False):
        self.count, self.fault, self.at, self.lasting = 0, fault, at, lasting
        self.fsync = os.fsync
        patch.setattr(files.os, "fsync", self.step)

    def step(self, descriptor):
        self.count += 1
        if self.count == self.at or (self.lasting and self.count > self.at):
            raise self.fault()
        self.fsync(descriptor)


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """An undisturbed run of six images, and how many steps of writing it took."""
    with monkeypatch.context() as patch:
        steps = Steps(patch)
        start_fake(tmp_path / "whole", count=6)
    return tmp_path / "whole", steps.count


def test_a_fault_at_every_step_of_writing(whole, tmp_path, monkeypatch):
    expected, steps = content(whole[0]), whole[1]
    assert steps > 20
    for at, name in zip(range(1, steps + 1), cycle(FAULTS)):
        broken = tmp_path / f"broken {at}"
        with monkeypatch.context() as patch:
            Steps(patch, FAULTS[name], at)
            with pytest.raises((Killed, MemoryError, OSError, SystemExit)):
                start_fake(broken, count=6)
        start_fake(broken, count=6)
        assert content(broken) == expected, (name, at)


def no_space():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_from_any_step_on_loses_nothing(whole, tmp_path, monkeypatch):
    full, told = tmp_path / "full", "earlier results are intact: fix this and run the same command"
    for at in range(1, whole[1] + 1, 3):
        before = parts(full)
        with monkeypatch.context() as patch:
            Steps(patch, no_space, at, lasting=True)
            try:
                start_fake(full, count=6)
            except OSError as error:
                said = str(error)
            else:
                break
        assert told in said
        assert set(before) <= set(parts(full))
        assert not list(full.rglob(".*.tmp"))
    assert at > 10
    assert same(full, whole[0])


# Damage to a finished run


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_part_is_computed_again(tmp_path, study, how, capsys):
    start_fake(tmp_path)
    before, last = (tmp_path / "results.parquet").read_bytes(), parts(tmp_path)[-1]
    last.write_bytes(DAMAGE[how](last.read_bytes()))
    study.computed.clear()
    start_fake(tmp_path)
    assert f"{last} cannot be read: renamed to *.damaged" in capsys.readouterr().out
    assert last.with_suffix(".damaged").exists()
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


# What a finished run consists of; "*" is the first of its kind.
FILES = (
    *("provenance.json", "inputs.json", "findings.json", "summary.csv", "claims.csv"),
    *("figure.png", "figure.pdf", "report.html", "maps.npz", "pictures/*.png", "panels/*.png"),
)


@pytest.mark.usefixtures("small_models")
def test_every_other_file_is_made_again_by_the_same_command(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.explain.render", lambda *_: PNG)
    words = ["experiment=explain", "method=gae", "data.num_images=3", "device=cpu"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    start(whole, *words)
    shutil.copytree(whole, broken)
    for place, name in enumerate(FILES):
        file = sorted(broken.glob(name))[0]
        if place % 2:
            file.unlink()
        else:
            file.write_bytes(DAMAGE["cut"](file.read_bytes()))
    start(broken, *words)
    assert content(broken) == content(whole)


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


# Locks


def test_a_second_run_of_the_same_folder_is_refused_and_leaves_it_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WAIT_S", 0.2)
    start_fake(tmp_path)
    parts(tmp_path)[0].unlink()
    with Results(tmp_path, ("image_id", "model")):
        before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
        here = f"written by process {os.getpid()} on {socket.gethostname()}; wait for it, stop it"
        with pytest.raises(ValueError, match=here):
            start_fake(tmp_path)
        assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before
    start_fake(tmp_path)
    assert len(read(tmp_path)) == 12


def hold(run_dir, pipe):
    with Results(run_dir, ("image_id",)):
        worker = os.fork()
        if worker:
            pipe.send(worker)
            time.sleep(60)
        time.sleep(1)  # as a data worker, which looks now and then whether its parent is there
        os._exit(0)


def test_a_killed_owners_lock_is_taken_once_its_workers_have_noticed(tmp_path):
    processes = multiprocessing.get_context("fork")
    ours, theirs = processes.Pipe()
    owner = processes.Process(target=hold, args=(tmp_path, theirs))
    owner.start()
    worker = ours.recv()
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    os.kill(worker, 0)  # the worker is still there
    with Results(tmp_path, ("image_id",)):
        lock = tmp_path / "parts" / "0000.lock"
        assert lock.read_text() == f"process {os.getpid()} on {socket.gethostname()}"


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(OSError, match=r"cannot lock .*lock .No locks available.; choose a run_dir"):
        start_fake(tmp_path)


def test_a_finished_folder_is_whole_or_what_is_wrong_is_named(tmp_path, capsys):
    run_dir = tmp_path / "run"
    start_fake(run_dir)
    capsys.readouterr()
    start(run_dir, "stage=verify")
    assert "is whole: 4 parts, 12 rows" in capsys.readouterr().out.replace("\n", " ")
    first, second = parts(run_dir)[:2]
    first.write_bytes(flipped(first.read_bytes()))
    second.unlink()
    (run_dir / "summary.csv").write_text("n,mean\n12,0\n")
    with pytest.raises(ValueError, match=r"3 problems: .*") as refused:
        start(run_dir, "stage=verify")
    for wrong in (f"{first} cannot be read", "6 items have no rows", "summary.csv of"):
        assert wrong in str(refused.value)
    with pytest.raises(FileNotFoundError, match="is not a run"):
        start(tmp_path / "none", "stage=verify")
