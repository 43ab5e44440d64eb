"""Claims: a sentence, the estimate that decides it, and its bound; verdicts are data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from attnguide.evaluation.comparison import paired_tests
from attnguide.evaluation.statistics import (
    INCONCLUSIVE,
    DOES_NOT_HOLD,
    HOLDS,
    Estimate,
    Measure,
    estimate,
    measured_rows,
    paired_difference,
    per_image,
    units_of,
)
from attnguide.viz.style import method_label

VERDICTS = (HOLDS, DOES_NOT_HOLD, INCONCLUSIVE)
SIGNIFICANT = 0.05  # p after Holm
NAMED = ("lr",)  # columns whose values need their name
COLUMNS = ("model", "claim", "value", "low", "high", "n", "verdict")


@dataclass(frozen=True)
class Table:
    """The measured rows of one model, asked by method and measure.

    Attributes:
        rows: One per picture, method and target; with `by`, of one group of them.
        measures: By name.
        seed: Of the bootstrap.
        suffix: What is said of the group, such as "boxes"; empty for all.
    """

    rows: pd.DataFrame
    measures: Mapping[str, Measure]
    seed: int = 0
    suffix: str = ""

    def of(self, method: str) -> pd.DataFrame:
        """Rows of a method; all where rows have none."""
        return self.rows[self.rows["method"] == method] if "method" in self.rows else self.rows

    def at(self, method: str, measure: str) -> Estimate:
        """Mean of a measure; n = 0 where nothing was measured."""
        rows = measured_rows(self.of(method))
        values, kind = per_image(rows, self.measures[measure])
        return estimate(values, units_of(rows), self.seed, kind=kind)

    def gap(self, first: str, second: str, measure: str) -> Estimate:
        """Mean paired difference, first minus second, over the pictures of both."""
        return paired_difference(self.of(first), self.of(second), self.measures[measure], self.seed)


Ask = Callable[[Table], Estimate]


@dataclass(frozen=True)
class Claim:
    """What is claimed, in a sentence, and how it is decided.

    Attributes:
        sentence: What holds if the estimate lies above (or below) the bound.
        estimate: Table to estimate.
        above, below: The bound; one of them.
        methods: Methods that must have been run; otherwise nothing is claimed.
    """

    sentence: str
    estimate: Ask
    above: float | None = None
    below: float | None = None
    methods: tuple[str, ...] = ()

    def judge(self, model: str, table: Table) -> dict[str, object]:
        """A line of claims.csv."""
        found = self.estimate(table)
        claim = f"{self.sentence} ({table.suffix})" if table.suffix else self.sentence
        verdict = found.verdict(above=self.above, below=self.below)
        line = (model, claim, found.value, found.low, found.high, found.n, verdict)
        return dict(zip(COLUMNS, line, strict=True))


def at(method: str, measure: str) -> Ask:
    """The mean of a measure with one method."""
    return lambda table: table.at(method, measure)


def gap(first: str, second: str, measure: str) -> Ask:
    """The paired difference of a measure, first method minus second."""
    return lambda table: table.gap(first, second, measure)


def mean(
    method: str,
    measure: str,
    sentence: str,
    *,
    above: float | None = None,
    below: float | None = None,
) -> Claim:
    """A claim about one method: `mean("complete", "both signs right", "...", above=0.5)`."""
    return Claim(sentence, at(method, measure), above, below, (method,))


def difference(
    first: str,
    second: str,
    measure: str,
    sentence: str,
    *,
    above: float | None = None,
    below: float | None = None,
) -> Claim:
    """A claim about two methods on the same pictures."""
    return Claim(sentence, gap(first, second, measure), above, below, (first, second))


def judge(claims: Iterable[Claim], tables: Iterable[tuple[str, Table]]) -> pd.DataFrame:
    """Lines of claims.csv for every model; claims about methods that were not run are left out.

    So are claims about what the rows do not hold, such as objects without masks.
    """
    lines = []
    for model, table in tables:
        present = set(table.rows["method"]) if "method" in table.rows else set()
        for claim in claims:
            if set(claim.methods) <= present or "method" not in table.rows:
                line = claim.judge(model, table)
                if line["n"]:
                    lines.append(line)
    return pd.DataFrame(lines, columns=list(COLUMNS))


@dataclass(frozen=True)
class Family:
    """One method against several others on one measure: claims that are corrected together.

    Attributes:
        first: The method.
        measure: By name.
        sentence: What holds if first minus other lies above (or below) 0; the other's name follows.
        above: Whether more is claimed; else less.
        where: Only rows of this part of the study; empty for all.
    """

    first: str
    measure: str
    sentence: str
    above: bool = True
    where: str = ""

    def tested(self, table: Table) -> pd.DataFrame:
        """Differences from every other method, as `paired_tests` gives them."""
        rows = table.rows
        if self.where:
            rows = rows[rows["part"] == self.where]
        others = [name for name in dict.fromkeys(rows["method"]) if name != self.first]
        return paired_tests(rows, self.first, others, table.measures[self.measure], table.seed)

    def judge(self, model: str, table: Table) -> list[dict[str, object]]:
        """Lines of claims.csv: a difference must be significant after Holm too."""
        bound = {"above": 0.0} if self.above else {"below": 0.0}
        lines = []
        for row in self.tested(table).to_dict("records"):
            found = Estimate(row["value"], row["ci_low"], row["ci_high"], row["n"])
            verdict = found.verdict(**bound) if row["p_holm"] < SIGNIFICANT else INCONCLUSIVE
            claim = f"{self.sentence} {method_label(row['method'])}"
            line = (model, claim, found.value, found.low, found.high, found.n, verdict)
            lines.append(dict(zip(COLUMNS, line, strict=True)))
        return lines


def judge_families(families: Iterable[Family], tables: Iterable[tuple[str, Table]]) -> pd.DataFrame:
    """Lines of claims.csv for every model, of families whose first method was run."""
    lines = [
        line
        for model, table in tables
        for family in families
        if family.first in set(table.rows["method"])
        for line in family.judge(model, table)
    ]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def counted(claims: pd.DataFrame, families: Sequence[Family]) -> list[str]:
    """For each model and family in how many comparisons the sentence holds, and in how many not."""
    lines = []
    for model, own in claims.groupby("model", sort=False):
        for family in families:
            verdicts = own.loc[own["claim"].str.startswith(f"{family.sentence} "), "verdict"]
            counts = verdicts.value_counts()
            if len(verdicts):
                side, other = ("above", "below") if family.above else ("below", "above")
                holds, fails, open_ = (counts.get(name, 0) for name in VERDICTS)
                lines.append(f"{model}: {family.sentence} another method is {side} 0 for {holds} "
                             f"of {len(verdicts)}, {other} for {fails}; for {open_} it cannot be "
                             "told.")  # fmt: skip
    return lines


def sentences(claims: pd.DataFrame) -> list[str]:
    """Every claim with number, interval, n and verdict, for a caption."""
    return [
        f"{line['model']}: {line['claim']}: "
        f"{Estimate(line['value'], line['low'], line['high'], line['n'])}: {line['verdict']}."
        for line in claims.to_dict("records")
    ]


def tables_of(
    rows: pd.DataFrame, measures: Mapping[str, Measure], by: Sequence[str], seed: int
) -> list[tuple[str, Table]]:
    """A table per model and group; `by` names columns, of which model and method are left aside."""
    groups = [name for name in by if name not in ("model", "method")]
    found = []
    for keys, own in rows.groupby(["model", *groups], sort=False):
        model, *rest = keys if isinstance(keys, tuple) else (keys,)
        words = zip(groups, rest, strict=True)
        suffix = ", ".join(f"{n} {key}" if n in NAMED else str(key) for n, key in words if key)
        found.append((str(model), Table(own, measures, seed, suffix)))
    return found
