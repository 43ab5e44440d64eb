"""Two ways to do the same work, timed in turn in one process: the line that says how it went."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Line:
    """One line of the table of ratios.

    Attributes:
        what: Slow way / fast way.
        ratio: Median of the ratios of all rounds, with quartiles; or why there is none.
        times: Median milliseconds of both, per unit.
        checked: What was compared, and how it came out.
    """

    what: str
    ratio: str
    times: str = ""
    checked: str = ""


def missing(what: str, why: str) -> Line:
    """A line without a number."""
    return Line(what, NOT_MEASURED, "", why)


def compare(
    what: str,
    slow: Callable[[], object],
    fast: Callable[[], object],
    *,
    units: tuple[int, int],
    rounds: int = 9,
    unit: str = "image",
    checked: str = "",
    clock: Callable[[], float] = time.process_time,
) -> Line:
    """Both once per round, in shuffled order, after one call that is not counted.

    Args:
        what: Title of the line.
        slow, fast: The work.
        units: How many units each of them does.
        rounds: How often.
        unit: What is counted.
        checked: What was compared.
        clock: Seconds; CPU time of the process by default, which leaves out waiting.
    """
    spent = measure({"slow": slow, "fast": fast}, rounds, clock)
    per_unit = [
        [1000 * seconds / count for seconds in spent[name]]
        for name, count in zip(("slow", "fast"), units, strict=True)
    ]
    ratios = [a / b for a, b in zip(*per_unit, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    before, after = (statistics.median(times) for times in per_unit)
    return Line(
        what,
        f"{middle:.2f} [{low:.2f}, {high:.2f}]",
        f"{before:.3g} / {after:.3g} ms per {unit}",
        checked,
    )


def measure(
    ways: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every way in every round."""
    for run in ways.values():
        run()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        order = list(ways)
        random.Random(number).shuffle(order)
        for name in order:
            start = clock()
            ways[name]()
            spent[name].append(clock() - start)
    return spent


def table(lines: list[Line]) -> str:
    """Markdown."""
    rows = [f"| {line.what} | {line.ratio} | {line.times} | {line.checked} |" for line in lines]
    head = ["| slow / fast | ratio [quartiles] | times | checked |", "|---|---|---|---|"]
    return "\n".join(head + rows)
