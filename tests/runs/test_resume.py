"""A run that is killed, fills the disk or loses files ends with the rows of one that is not."""

import errno
import io
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import sys
import time
from itertools import count, cycle
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import PNG
from fake_study import start_fake
from running import start

from attnguide.errors import InputError
from attnguide.store import files
from attnguide.store.folder import RunFolder
from attnguide.store.table import Results, read


def flipped(data):
    """A table with one wrong bit in its first column."""
    column = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0)
    begins = column.dictionary_page_offset or column.data_page_offset
    at = begins + column.total_compressed_size - 1
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def edited(data):
    """The table with other numbers."""
    return pd.read_parquet(io.BytesIO(data)).assign(relevance=0.0).to_parquet()


DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "flipped": flipped,
    "edited": edited,
}
pytestmark = [pytest.mark.usefixtures("study", "undrawn"), pytest.mark.filterwarnings("always")]
NOT_COMPARED = ("provenance.json", "report.html", "inputs.json", "config.yaml")


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


@pytest.mark.system
@pytest.mark.parametrize("seeds", [(0, 1, 2), (0, 0, 0)])
def test_of_commands_that_start_together_one_runs(command, tmp_path, seeds):
    run_dir, moment = tmp_path / "run", time.time() + 6
    begin = ("fake_study:start_together", str(run_dir), moment)
    processes = [
        command.start(calls=[[begin[0], [*begin[1:], f"seed={seed}"], {}]]) for seed in seeds
    ]
    told = ["".join(process.communicate()) for process in processes]
    ran = [seed for seed, process in zip(seeds, processes, strict=True) if not process.returncode]
    assert set(ran) == {RunFolder(run_dir).load_config()["seed"]}, told
    start(run_dir, "stage=verify")
    if len(set(seeds)) > 1:
        assert len(ran) == 1
        assert sum("run with different settings: seed" in words for words in told) == 2


# Faults at every step of reading and writing, in this process


class Killed(BaseException):
    """Stands for SIGKILL: nothing but `finally` sees it."""


def failing(number):
    return lambda: OSError(number, os.strerror(number))


FAULTS = {
    "killed": Killed,
    "no memory": MemoryError,
    "disk error": failing(errno.EIO),
    "Ctrl-C": KeyboardInterrupt,
}


class Steps:
    """Counts the steps of writing files; one of them fails, or all from one on.

    Args:
        patch: A monkeypatch.
        fault: What is raised.
        at: Number of the step.
        lasting: All later steps fail too.
        lost: What becomes of the file that was renamed last, as where power fails before the disk
            has it: it is as before ("undone"), or empty ("emptied").
    """

    def __init__(self, patch, fault=None, at=None, *, lasting=False, lost=None):
        self.count, self.fault, self.at, self.lasting, self.lost = 0, fault, at, lasting, lost
        self.renamed = self.before = None
        for home, name in ((os, "fsync"), (Path, "replace")):
            patch.setattr(home, name, self.watched(getattr(home, name)))
        life = next(LIVES)  # is a process of its own, and finds what another one has left
        patch.setattr(files.os, "getpid", lambda: life)

    def watched(self, step):
        def call(first, *target):
            self.count += 1
            if self.count == self.at or (self.lasting and self.count > self.at):
                if self.renamed and self.lost == "undone" and self.before is None:
                    self.renamed.unlink()
                elif self.renamed and self.lost:
                    self.renamed.write_bytes(self.before if self.lost == "undone" else b"")
                raise self.fault()
            for path in target:
                self.renamed, self.before = path, path.read_bytes() if path.is_file() else None
            return step(first, *target)

        return call


LIVES = count(10**6)


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """An undisturbed run of six images, and how many steps of writing it took."""
    with monkeypatch.context() as patch:
        steps = Steps(patch)
        start_fake(tmp_path / "whole", count=6)
    return tmp_path / "whole", steps.count


@pytest.fixture
def say(capsys):
    """Print counts, whatever is captured."""

    def write(text):
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return write


def refusal(run_dir):
    """What the run is refused by; empty where it ends well."""
    try:
        start_fake(run_dir, count=6)
    except (InputError, OSError) as error:
        return str(error)
    return ""


@pytest.mark.system
@pytest.mark.parametrize("lost", [None, "undone", "emptied"])
def test_a_fault_at_every_step_of_writing(whole, tmp_path, monkeypatch, say, lost):
    expected, steps, refused = content(whole[0]), whole[1], 0
    assert steps > 30
    for at, name in zip(range(1, steps + 1), cycle(["killed"] if lost else FAULTS)):
        broken = tmp_path / f"broken {at}"
        with monkeypatch.context() as patch:
            Steps(patch, FAULTS[name], at, lost=lost)
            with pytest.raises((Killed, MemoryError, OSError, SystemExit)):
                start_fake(broken, count=6)
        if said := refusal(broken):  # nothing but an empty config is there
            refused += 1
            assert re.search("config.yaml is damaged .*delete this folder to start", said)
            continue
        assert content(broken) == expected, (name, at)
        assert not list(broken.rglob(".*")), (name, at)
    assert refused == 3 * (lost == "emptied")  # until `inputs.json` has its place
    say(f"{steps} faults of writing, {lost or 'of four kinds'}: {steps - refused} went on")


@pytest.mark.system
def test_a_disk_that_is_full_from_any_step_on_loses_nothing(whole, tmp_path, monkeypatch):
    full, told = tmp_path / "full", "earlier results are intact: fix this and run the same command"
    for at in range(1, whole[1] + 1, 4):
        before = parts(full)
        with monkeypatch.context() as patch:
            Steps(patch, failing(errno.ENOSPC), at, lasting=True)
            said = refusal(full)
        if not said:
            break
        assert told in said
        assert set(before) <= set(parts(full))
        assert not list(full.rglob(".*.tmp"))
    assert at > 10
    assert same(full, whole[0])


@pytest.mark.system
@pytest.mark.parametrize("lasting", [False, True])
def test_a_disk_that_cannot_be_read_is_named_or_does_not_matter(
    whole, tmp_path, monkeypatch, say, lasting
):
    """Each reading of a file of a finished run fails in turn, or all from it on."""
    refused = 0
    for at in count(1):
        broken, reads = shutil.copytree(whole[0], tmp_path / f"broken {at}"), count(1)
        with monkeypatch.context() as patch:
            for home, name in (
                *((Path, "read_bytes"), (Path, "read_text")),
                *((pq, "ParquetFile"), (pq, "read_schema")),
            ):
                watched = fails_at(getattr(home, name), broken, reads, at, lasting=lasting)
                patch.setattr(home, name, watched)
            said = refusal(broken)
        refused += bool(said)
        assert not said or re.search("Input/output error|cannot be read|could be read", said)
        start_fake(broken, count=6)
        assert content(broken) == content(whole[0]), at
        if next(reads) <= at:
            break
    assert 3 < refused < at
    say(f"{at} failing reads: {refused} refused in a line, all went on")


def fails_at(read, run_dir, reads, at, *, lasting):
    """A reader of files that cannot read the n-th of a run, or all from it on."""

    def call(path, *args, **kwargs):
        if str(path).startswith(str(run_dir)):
            number = next(reads)
            if number == at or (lasting and number > at):
                raise failing(errno.EIO)()
        return read(path, *args, **kwargs)

    return call


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
    with pytest.raises(ValueError, match=r"is not the table .* stage=merge run_dir="):
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
    for wrong in (f"{first} cannot be read", "6 pictures have no rows", "summary.csv of"):
        assert wrong in str(refused.value)
    with pytest.raises(FileNotFoundError, match="is not a run"):
        start(tmp_path / "none", "stage=verify")
