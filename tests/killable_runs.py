"""Runs that may be killed: each is a fork of one process that has imported everything.

Run as a program, it reads one order a line and answers with the pid, then with how the run ended.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def killable_runs():
    """A function that starts a run, waits for its end, and returns its exit code and its words."""
    server = subprocess.Popen(
        [sys.executable, __file__],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def start(log, *, kill_after=None, **order):
        server.stdin.write(json.dumps({"log": str(log), **order}) + "\n")
        server.stdin.flush()
        pid = int(server.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pid, signal.SIGKILL)  # still there: the server has not waited for it yet
        server.stdin.write("\n")
        server.stdin.flush()
        return int(server.stdout.readline()), Path(log).read_text()

    try:
        assert server.stdout.readline() == "ready\n"
        yield start
    finally:
        server.stdin.close()
        server.stdout.close()
        server.wait(60)


def kill_at(step_number):
    """Die by SIGKILL at the n-th moment before or after a step of writing a file."""
    left = step_number

    def counted(step):
        def count_down():
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        def call(*args):
            count_down()
            result = step(*args)
            count_down()
            return result

        return call

    os.fsync, Path.replace = counted(os.fsync), counted(Path.replace)


def begin(order):
    """The command of `words`, or the fake study with `settings`."""
    if order.get("kill_at"):
        kill_at(order["kill_at"])
    if "words" in order:
        sys.argv = ["run.py", "-cp", str(program.CONF), *order["words"]]
        program.main()
    else:
        fake_study.start_fake(order["run_dir"], **order["settings"])


def answer(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def serve():
    """Answer orders until there are no more."""
    answer("ready")
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = 0
            try:
                begin(order)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            os._exit(code)
        answer(pid)
        sys.stdin.readline()
        answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import fake_study

    import experiments.fig12_perturbation
    import run as program

    fake_study.install(dict.__setitem__, setattr)
    assert experiments.fig12_perturbation
    serve()
