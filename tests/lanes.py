"""Two lanes of tests: `make test`, minutes, and `make test-all`, what is left.

The second lane holds what is marked `system` or `slow`, what needs a browser or a SLURM, and the
cases that `slow_tests.txt` lists because each takes longer than `LIMIT`. `make costs` measures them
all and writes that list. What is marked `first_lane` stays, whatever it costs.

With `ATTNGUIDE_STRICT=1`, as in `.ci/run`, a test that is skipped for want of a program, a package
or `../shared` fails; only a missing GPU may skip one.
"""

import os
from collections import defaultdict
from pathlib import Path

import pytest

LIMIT = 2.0  # seconds
LIST = Path(__file__).with_name("slow_tests.txt")
NEEDS_PROGRAMS = {"browser", "cluster"}  # fixtures
FIRST = ("cluster", "small_run")  # waits while others run; a run serves tests of one process
NO_GPU = "no GPU"  # the reason of a permitted skip
COLLECTED = pytest.StashKey[dict[str, bool]]()  # id of each test: whether it is in lane two


def listed(path=LIST):
    """Names of the slow cases, whatever file they stand in."""
    lines = path.read_text().splitlines() if path.exists() else ()
    return {line.split(maxsplit=1)[1] for line in lines if line[:1] != "#"}


def is_system(item, slow):
    """Whether a test belongs to the second lane."""
    if item.get_closest_marker("first_lane"):
        return False
    if item.get_closest_marker("system") or item.get_closest_marker("slow"):
        return True
    return name_of(item.nodeid) in slow or bool(NEEDS_PROGRAMS & set(item.fixturenames))


def name_of(nodeid):
    """The case, whatever file it stands in."""
    return nodeid.split("::", 1)[1]


def pytest_addoption(parser):
    parser.addoption("--costs", action="store_true", help=f"write {LIST.name} from this run")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark the second lane, before `-m` chooses."""
    slow = listed()
    config.stash[COLLECTED] = {item.nodeid: is_system(item, slow) for item in items}
    for item in items:
        if config.stash[COLLECTED][item.nodeid]:
            item.add_marker("system")
    items.sort(key=lambda item: [name not in item.fixturenames for name in FIRST])


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip(NO_GPU)


def must_not_be_skipped(report):
    """The report of a test; where skips are errors, a failure."""
    if report.skipped and os.environ.get("ATTNGUIDE_STRICT") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
        if NO_GPU not in reason:
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid}: ATTNGUIDE_STRICT permits no skip: {reason}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport():
    return must_not_be_skipped((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report():
    return must_not_be_skipped((yield))


seconds = defaultdict(float)  # name of a case to the longest that it took


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        name = name_of(report.nodeid)
        seconds[name] = max(seconds[name], report.duration)


def pytest_sessionfinish(session):
    """Write the list, in the one process that sees all reports."""
    if session.config.getoption("--costs") and not hasattr(session.config, "workerinput"):
        slow = sorted((name, cost) for name, cost in seconds.items() if cost > LIMIT)
        lines = [f"{cost:5.0f} {name}\n" for name, cost in slow]
        LIST.write_text(f"# Seconds of cases above {LIMIT}; `make costs` writes them\n")
        LIST.open("a").writelines(lines)
