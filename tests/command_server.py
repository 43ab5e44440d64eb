"""Commands without the seconds of imports: forks of one process that has loaded everything.

`CommandServer` is called with the words after `run.py`; the fixture `command` is one for all tests:

    code, text = command(["experiment=nothing"])
    process = command.start(["experiment=fig12_perturbation"])  # as a `subprocess.Popen`
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

What a test must see of a fresh Python (how fast it starts, what it imports) still needs
`subprocess`.
"""

import importlib
import os
import signal
import sys
import tempfile
import traceback
from multiprocessing import forkserver, get_context, set_start_method
from pathlib import Path

import pytest

from attnguide.evaluation import engines

ROOT = Path(__file__).resolve().parents[1]
LOADED = [
    *("run", "timm", "attnguide.runs.run", "attnguide.runs.predict"),
    *(f"experiments.{path.stem}" for path in (ROOT / "experiments").glob("[a-z]*.py")),
]


class CommandServer:
    """Starts commands; each has a session of its own, and its words in files."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="commands-")
        self.count = 0
        self.processes = get_context("forkserver")
        self.processes.set_forkserver_preload(LOADED)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}:{ROOT / 'tests'}")
            patch.setenv("OMP_NUM_THREADS", "1")
            forkserver.ensure_running()

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
        for name in names.values():
            Path(name).touch()
        order = {"words": list(map(str, words)), "calls": calls, "cwd": str(cwd), "env": env or {}}
        return Command(self.processes, {**order, **names})

    def close(self):
        """Remove what was said; commands that still run go on."""
        self.folder.cleanup()


class Command:
    """A command that was started, with the methods of a `subprocess.Popen`."""

    def __init__(self, processes, order):
        self.order, self.process = order, processes.Process(target=do, args=(order,))
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self):
        """The exit code, negative after a signal; None while it runs."""
        return self.process.exitcode

    def poll(self):
        """As `returncode`."""
        return self.returncode

    def wait(self, timeout=240):
        """The exit code, once it has ended."""
        self.process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise TimeoutError(f"{self.order['words']} runs after {timeout} s; {self.said()}")
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


def do(order):
    """Do what is ordered, and exit as a program does; never returns."""
    os.setsid()
    set_start_method(None, force=True)  # its own processes start as those of any program
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[kind], os.O_WRONLY | os.O_CREAT), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    try:
        for name, value in order["env"].items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        os.chdir(order["cwd"])
        engines.is_installed = lambda: False  # as in conftest.py
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
