"""Commands without the seconds of imports: forks of one process that has loaded everything.

`CommandServer` is called with the words after `run.py`; the fixture `command` is one for all tests:

    code, text = command(["experiment=nothing"])
    process = command.start(["experiment=fig12_perturbation"])  # as a `subprocess.Popen`
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

Run as a program, this file is the process that forks. What a test must see of a fresh Python (how
fast it starts, what it imports) still needs `subprocess`.
"""

import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class CommandServer:
    """Starts commands; each has a session of its own, and its words in files."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="commands-")
        self.count = 0
        self.server = subprocess.Popen(
            [sys.executable, __file__, str(self.address)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.server.stdout.readline() == "ready\n"

    @property
    def address(self):
        """The socket on which the server listens."""
        return Path(self.folder.name) / "socket"

    def __call__(self, words=(), *, cwd=ROOT, env=None, timeout=240):
        """Exit code, and what was said and complained about."""
        process = self.start(words, cwd=cwd, env=env)
        out, err = process.communicate(timeout)
        return process.returncode, out + err

    def start(self, words=(), *, calls=(("run:main", [], {}),), cwd=ROOT, env=None):
        """A command that runs by now.

        Args:
            words: After `run.py`.
            calls: What it does: "module:function", positional and named arguments of each.
            cwd: Its folder.
            env: Variables that are set, or with None taken away.
        """
        self.count += 1
        names = {kind: f"{self.folder.name}/{self.count}.{kind}" for kind in ("out", "err")}
        order = {"words": list(map(str, words)), "calls": calls, "cwd": str(cwd), "env": env or {}}
        return Command(self.address, {**order, **names})

    def close(self):
        """End the server; commands that still run go on."""
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait(60)
        self.folder.cleanup()


class Command:
    """A command that was started, with the methods of a `subprocess.Popen`."""

    def __init__(self, address, order):
        self.order, self.returncode = order, None
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(str(address))
        self.answers = self.connection.makefile("rw")
        self.answers.write(json.dumps(order) + "\n")
        self.answers.flush()
        self.pid = int(self.answers.readline())

    def poll(self):
        """The exit code, negative after a signal; None while it runs."""
        if self.returncode is None:
            self.connection.setblocking(False)
            try:
                said = self.connection.recv(64)
            except BlockingIOError:
                return None
            self.returncode = int(said)
            self.answers.close()
            self.connection.close()
        return self.returncode

    def wait(self, timeout=240):
        """The exit code, once it has ended."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"{self.order['words']} runs after {timeout} s; {self.said()}")
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout=240):
        """What it has said and complained about, once it has ended."""
        self.wait(timeout)
        return self.said()

    def said(self):
        """What it has said and complained about so far."""
        return tuple(Path(self.order[kind]).read_text() for kind in ("out", "err"))

    def send_signal(self, number):
        """Send a signal to the command alone; `os.killpg(command.pid, number)` reaches all."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """End it and all that it started."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)


def load():
    """Import what commands import."""
    names = [f"experiments.{path.stem}" for path in (ROOT / "experiments").glob("[a-z]*.py")]
    for name in ["run", "timm", "attnguide.runs.run", "attnguide.runs.predict", *names]:
        importlib.import_module(name)


def serve(address):
    """Fork for every order, until standard input is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a keeper
    with socket.socket(socket.AF_UNIX) as door, selectors.DefaultSelector() as events:
        door.bind(address)
        door.listen(64)
        events.register(door, selectors.EVENT_READ)
        events.register(sys.stdin, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while all(key.fileobj is door for key, _ in events.select()):
            connection, _ = door.accept()
            if not os.fork():
                keep(connection)
            connection.close()


def keep(connection):
    """Read an order, do it in a process of its own, and tell how that ended; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    answers = connection.makefile("rw")
    order = json.loads(answers.readline())
    pid = os.fork()
    if not pid:
        do(order)
    answers.write(f"{pid}\n")
    answers.flush()
    answers.write(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    answers.flush()
    os._exit(0)


def do(order):
    """Do what is ordered, and exit as a program does; never returns."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[kind], os.O_WRONLY | os.O_CREAT), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    try:
        for name, value in order["env"].items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        os.chdir(order["cwd"])
        sys.argv = ["run.py", *order["words"]]
        for name, positional, named in order["calls"]:
            module, function = name.split(":")
            getattr(importlib.import_module(module), function)(*positional, **named)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests")]
    load()
    serve(sys.argv[1])
    os._exit(0)  # the interpreter takes seconds to fall apart
