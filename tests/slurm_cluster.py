"""A real SLURM of one node on loopback, and a folder to submit from."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT.parent / "shared" / "tools" / "slurm_local.sh"

# Loaded by every Python of a job: a task that was never restarted waits after its first part, so
# that a test can stop it in the middle.
WAITING = """
import os, sys, time

if os.environ.get("SLURM_ARRAY_TASK_ID") in {tasks} and "SLURM_RESTART_COUNT" not in os.environ:
    from attnguide.store.table import Results

    store = Results.append

    def append(results, *rows):
        store(results, *rows)
        time.sleep(600)

    Results.append = append
"""


class Cluster:
    """Commands of SLURM, with the environment that reaches the cluster."""

    def __init__(self, conf, home):
        self.home = home  # as a checkout of the project, with its own outputs
        (home / "outputs").mkdir(parents=True)
        (home / "waiting").mkdir()
        for name in ("run.py", "conf", "experiments", "slurm"):
            (home / name).symlink_to(ROOT / name)
        self.environment = os.environ | {
            "SLURM_CONF": str(conf),
            "PYTHON": sys.executable,
            "PYTHONPATH": f"{home / 'waiting'}:{ROOT / 'src'}",
            "OMP_NUM_THREADS": "1",
        }

    def wait_in(self, *tasks):
        """From now on these array tasks wait after their first part."""
        text = WAITING.format(tasks={str(task) for task in tasks} or "()")
        (self.home / "waiting" / "sitecustomize.py").write_text(text)

    def call(self, *words):
        done = self.run(words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def run(self, words):
        return subprocess.run(
            [*map(str, words)],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def logs(self):
        return {path.name: path.read_text() for path in self.home.glob("outputs/*.log")}

    def until(self, what, seconds=300):
        """The first true answer of `what`."""
        end = time.monotonic() + seconds
        while not (answer := what()):
            assert time.monotonic() < end, f"{self.call('squeue')}\n{self.logs()}"
            time.sleep(0.5)
        return answer

    def empty(self):
        return not self.call("squeue", "-h")


@contextmanager
def running_cluster(home):
    """A cluster of its own port and folder, and `home` to submit from; or the test is skipped."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a SLURM of one's own needs Linux and root")
    if not SCRIPT.is_file():
        pytest.skip("no ../shared/tools/slurm_local.sh beside the project: it starts a SLURM")
    work = Path(tempfile.mkdtemp(prefix="slurm-"))
    work.chmod(0o755)  # munge talks in folders only that all may enter
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    settings = os.environ | {"SLURM_LOCAL_PORT": str(port)}
    started = subprocess.run(
        [SCRIPT, "start", work], env=settings, capture_output=True, text=True, timeout=60
    )
    if "install' first" in started.stderr:
        pytest.skip(f"SLURM is not installed; run {SCRIPT} install")
    try:
        assert started.returncode == 0, started.stderr
        yield Cluster(work / "slurm.conf", home)
    finally:
        subprocess.run([SCRIPT, "stop", work], env=settings, capture_output=True, timeout=60)
        shutil.rmtree(work)
