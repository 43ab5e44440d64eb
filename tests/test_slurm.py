"""The scripts and the launcher on a real SLURM: stopped, requeued, merged, and nothing lost."""

import json
import os
import signal
import subprocess
import time

import pytest
import yaml
from running import start
from slurm_cluster import ROOT, running_cluster

from attnguide.store.table import read

STUDY = (
    "experiment=fig12_perturbation",
    "batch_size=1",
    "runner.unguided_every=0",
    "runner.fractions=[0,0.5]",
    "device=cpu",
    "threads=1",  # two engines, or numbers of threads, differ in last bits
    "backend=torch",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_cluster(tmp_path_factory.mktemp("slurm") / "checkout") as running:
        yield running


def plain_run(run_dir, method, num_images):
    """The same study in one piece, in this process."""
    start(run_dir, *STUDY, f"method=[{method}]", f"data.num_images={num_images}")


def test_an_array_with_a_time_limit_and_a_preemption_merges_to_a_plain_run(cluster, tmp_path):
    """What SLURM does here itself: throttle, limit's signal, preemption, requeue, dependency.

    One task nears its time limit: `scontrol update` shortens the limit of the running task, and
    slurmctld sends the signal that array.sbatch asks for (USR1, 120 s ahead) at its next check,
    at most 30 s later. One is preempted by a job of a partition of higher priority. Both had
    stored one of their two pictures.
    """
    cluster.wait_in(0, 1)
    begun = time.monotonic()
    words = (*STUDY, "data.num_images=6", "method=[complete]")
    array = cluster.call("sbatch", "--parsable", "--array=0-2%2", "slurm/array.sbatch", *words)
    run_dir = cluster.home / f"outputs/array-{array}"
    cluster.call(
        "sbatch", f"--dependency=afterok:{array}", "slurm/merge.sbatch", f"run_dir={run_dir}"
    )

    def stored(shard):
        return list(run_dir.glob(f"parts/{shard:04d}-*.parquet"))

    def said(words):
        return [task for task in (0, 1) if words in log(task)]

    def limit(task, minutes=0):
        minutes = minutes or 2 + int(time.monotonic() - begun) // 60  # near
        words = ("scontrol", "update", f"JobId={array}_{task}", f"TimeLimit={minutes}")
        cluster.until(lambda: not cluster.run(words).returncode)  # not while it is requeued

    def log(task):
        return (cluster.home / f"outputs/slurm-{array}_{task}.log").read_text()

    cluster.until(lambda: stored(0) and stored(1))
    assert not stored(2)  # the throttle
    limit(1)
    cluster.call(
        "sbatch", "--partition=urgent", "--cpus-per-task=8", "--output=/dev/null", "--wrap=true"
    )
    (preempted,) = cluster.until(lambda: said("DUE TO PREEMPTION"))
    if preempted == 1:
        limit(0)
    cluster.until(lambda: said("time is nearly over: requeued"))
    limit(1 - preempted, 120)  # a requeued task keeps its limit
    cluster.until(cluster.empty)

    assert said("time is nearly over: requeued") == [1 - preempted]
    for task in (0, 1):
        assert f"task {array}_{task}: shard {task} of 3, start 1" in log(task)
        assert "creatures: 1 of 2 images are stored already" in log(task)
        assert "ended with status 0" in log(task)
        assert len(stored(task)) == 2
        assert json.loads((run_dir / f"parts/{task:04d}.json").read_text())["resumed"] is True
    plain_run(tmp_path / "plain", "complete", 6)
    assert read(run_dir)["image_id"].nunique() == 6
    plain, merged = (path / "results.parquet" for path in (tmp_path / "plain", run_dir))
    assert plain.read_bytes() == merged.read_bytes()


@pytest.mark.parametrize("requeued", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sweep_by_the_launcher_is_two_jobs(cluster, tmp_path, requeued):
    """A requeued job gets submitit's signal after its first part; scancel stands for SLURM."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    cluster.wait_in(*[0] * requeued)
    sweep = f"outputs/sweep-{requeued}"

    def folders():  # by method; their names are cut where there are many words
        paths = cluster.home.glob(f"{sweep}/*/config.yaml")
        return {next(iter(yaml.safe_load(p.read_text())["method"])): p.parent for p in paths}

    head = subprocess.Popen(
        [
            *(cluster.environment["PYTHON"], "run.py", "--multirun", "hydra/launcher=slurm"),
            *("hydra.launcher.cpus_per_task=4", "method=gae,complete", f"run_dir={sweep}"),
            *(*STUDY, "data.num_images=2"),
        ],
        cwd=cluster.home,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        if requeued:
            cluster.until(lambda: list(folders().get("gae", tmp_path).glob("parts/*.parquet")))
            array = cluster.call("squeue", "-h", "--format=%F").split()[0]
            cluster.call("scancel", "--signal=USR2", f"{array}_0")
        out, _ = head.communicate(timeout=300)
    finally:
        head.kill()
    assert head.returncode == 0, out
    assert set(folders()) == {"gae", "complete"}
    for method, run_dir in folders().items():
        plain_run(tmp_path / method, method, 2)
        assert read(run_dir).equals(read(tmp_path / method))
        resumed = json.loads((run_dir / "provenance.json").read_text())["resumed"]
        assert resumed is (requeued and method == "gae")


def start_script(folder, restarts, run="exec sleep 60"):
    """array.sbatch as SLURM would start it, with another run and a scontrol that takes notes."""
    for name, does in {"scontrol": 'echo "$@" >>calls', "run": run}.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    settings = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHON": str(folder / "run"),
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_ARRAY_TASK_MAX": "3",
        "SLURM_RESTART_COUNT": str(restarts),
    }
    script = ["bash", str(ROOT / "slurm" / "array.sbatch"), "experiment=x"]
    task = subprocess.Popen(script, env=settings, stdout=subprocess.PIPE, text=True)
    assert "task 7_2: shard 2 of 4" in task.stdout.readline()
    time.sleep(0.2)
    return task


@pytest.mark.parametrize(
    ("name", "restarts", "status", "word", "calls"),
    [
        ("SIGUSR1", 3, 0, "nearly over: requeued", "requeue 7_2\n"),
        ("SIGUSR1", 20, 1, "after 20 restarts: not requeued; ask for more --time", ""),
        ("SIGTERM", 0, 143, "stopped from outside", ""),
    ],
)
def test_what_the_script_does_with_a_signal(tmp_path, name, restarts, status, word, calls):
    task = start_script(tmp_path, restarts)
    task.send_signal(getattr(signal, name))
    out, _ = task.communicate(timeout=20)
    assert (task.returncode, word in out) == (status, True), out
    notes = tmp_path / "calls"
    assert (notes.read_text() if notes.exists() else "") == calls


def test_a_task_whose_run_fails_fails(tmp_path):
    out, _ = (task := start_script(tmp_path, 0, run="exit 3")).communicate(timeout=20)
    assert (task.returncode, "ended with status 3" in out) == (3, True)
