"""`make test` and `make test-all` together are all tests, and strict runs hide none."""

import re
import shlex
import signal
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from lanes import COLLECTED, NO_GPU, listed, must_not_be_skipped

ROOT = Path(__file__).resolve().parents[1]
TESTS = Path(__file__).resolve().parent


def options(target):
    """What pytest is told by a target of the Makefile, after what pyproject tells it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    recipe = re.search(rf"^{target}:.*\n\t@\$\(TEST\)(.*)", (ROOT / "Makefile").read_text(), re.M)
    assert settings["ini_options"]["testpaths"] == ["tests"]
    return shlex.split(settings["ini_options"]["addopts"] + recipe[1])


def lane(words):
    """The last expression of markers, and no other choice."""
    assert not [word for word in words if re.match("-k|--deselect|--ignore|[^-]*test_", word)]
    return [after for word, after in pairwise(words) if word == "-m"][-1]


def test_the_two_lanes_are_all_tests(request):
    assert lane(options("test")) == "not system"
    assert lane(options("test-all")) == "system"
    if request.config.args == request.config.getini("testpaths"):  # where all were asked for
        files = set(TESTS.rglob("test_*.py"))
        assert {TESTS.parent / name.split("::")[0] for name in request.config.stash[COLLECTED]} == (
            files
        )


def test_the_list_of_slow_cases_names_no_test_that_is_gone(request):
    if request.config.args == request.config.getini("testpaths"):
        names = {name.split("::", 1)[1] for name in request.config.stash[COLLECTED]}
        assert listed() - names == set(), "run `make costs`"


@pytest.mark.parametrize(
    ("strict", "reason", "outcome"),
    [
        ("", "no browser is installed", "skipped"),
        ("1", "no browser is installed", "failed"),
        ("1", f"{NO_GPU}: counts synchronisations", "skipped"),
    ],
)
def test_a_strict_run_hides_nothing_but_what_needs_a_gpu(strict, reason, outcome, monkeypatch):
    monkeypatch.setenv("ATTNGUIDE_STRICT", strict)
    place = ("test_x.py", 1, f"Skipped: {reason}")
    report = pytest.TestReport("test_x.py::a", ("", 1, ""), {}, "skipped", place, "setup")
    must_not_be_skipped(report)
    assert report.outcome == outcome
    assert reason in str(report.longrepr)


def test_what_is_expected_to_fail_is_no_skip(monkeypatch):
    monkeypatch.setenv("ATTNGUIDE_STRICT", "1")
    report = pytest.TestReport("test_x.py::a", ("", 1, ""), {}, "skipped", None, "call")
    report.wasxfail = "a known fault"
    assert must_not_be_skipped(report).outcome == "skipped"


def test_the_server_gives_a_command_its_words_folder_and_variables(command, tmp_path):
    words = ["--cfg", "job", "experiment=explain", "seed=${oc.env:MY_SEED}", "-p", "seed"]
    assert command([*words, "--resolve"], env={"MY_SEED": "7"}, cwd=tmp_path) == (0, "7\n")
    code, text = command(["experiment=nothing"])
    assert (code, text.count("\n")) == (1, 1)
    assert "unknown experiment 'nothing'" in text


def test_a_command_of_the_server_can_be_ended(command):
    endless = command.start(calls=[("time:sleep", [100], {})])
    assert endless.poll() is None
    endless.send_signal(signal.SIGTERM)
    assert endless.wait(20) == -signal.SIGTERM
