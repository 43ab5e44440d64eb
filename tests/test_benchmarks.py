"""The arithmetic of the table of ratios."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from benchmarks.clock import Line, compare, missing, table
from benchmarks.masked import agreement


@pytest.mark.parametrize("name", ["alternatives", "explanations", "masked", "theory"])
def test_every_benchmark_finds_what_it_imports(name):
    import_module(f"benchmarks.{name}")


def test_ratio_is_of_times_per_unit():
    """2 units in 6 seconds against 4 units in 2 seconds: 3000 / 500 ms."""
    now = [0.0]
    slow = lambda: now.__setitem__(0, now[0] + 6)  # noqa: E731
    fast = lambda: now.__setitem__(0, now[0] + 2)  # noqa: E731
    line = compare("a / b", slow, fast, units=(2, 4), rounds=3, clock=lambda: now[0])
    assert (line.ratio, line.times) == ("6.00 [6.00, 6.00]", "3e+03 / 500 ms per image")


def test_agreement_counts_flags_and_the_largest_gap():
    flags, probability = torch.tensor([[True, False]]), torch.tensor([[0.25, 0.5]])
    curve = SimpleNamespace(correct=~flags, probability=torch.tensor([[0.25, 0.75]]))
    said = agreement({"m": (flags, probability)}, {"m": curve})
    assert said == "2 of 2 flags differ, probability within 2.5e-01"


def test_what_was_not_measured_stands_in_the_table():
    lines = table([Line("a / b", "2.0", "4 / 2 ms", "same"), missing("c / d", "no GPU")])
    assert lines.splitlines()[2:] == [
        "| a / b | 2.0 | 4 / 2 ms | same |",
        "| c / d | not measured |  | no GPU |",
    ]
