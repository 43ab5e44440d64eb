"""Claims: a sentence, the estimate that decides it, and its bound; verdicts are data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any, TypeAlias

import pandas as pd

from attnguide.evaluation.statistics import (
    DOES_NOT_HOLD,
    HOLDS,
    INCONCLUSIVE,
    Estimate,
    Measure,
    estimate,
    holm,
    measured_rows,
    paired_difference,
    per_image,
    signed_rank,
    unit_means,
    units_of,
)
from attnguide.findings import CLAIM_COLUMNS
from attnguide.viz.style import method_label

VERDICTS = (HOLDS, DOES_NOT_HOLD, INCONCLUSIVE)
SIGNIFICANT = 0.05  # p after Holm
NAMED = ("lr",)  # columns whose values need their name
Line = dict[str, Any]  # of claims.csv


@dataclass(frozen=True)
class Table:
    """The measured rows of one model, asked by method and measure.

    Attributes:
        rows: One per picture, method and target; with `by`, of one group of them.
        measures: By name.
        seed: Of the bootstrap.
        suffix: What is said of the group, such as "boxes"; empty for all.
        group: What ids of the group's claims end in; by default the suffix.
    """

    rows: pd.DataFrame
    measures: Mapping[str, Measure]
    seed: int = 0
    suffix: str = ""
    group: str | None = None

    def of(self, method: str) -> pd.DataFrame:
        """Rows of a method; all where rows have none."""
        return self.rows[self.rows["method"] == method] if "method" in self.rows else self.rows

    def has(self, methods: Iterable[str]) -> bool:
        """Whether these methods were run; rows without methods have all."""
        return "method" not in self.rows or set(methods) <= set(self.rows["method"])

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
        id: Stable name, such as "fig05.both_signs"; the sentence may change.
        sentence: What holds if the estimate lies above (or below) the bound.
        estimate: Table to estimate.
        above, below: The bound; one of them.
        methods: Methods that must have been run; otherwise nothing is claimed.
        about: Whom `Only` and `Best` name, such as a method.
        source: "paper" or "ours".
        section: Of the paper.
    """

    id: str
    sentence: str
    estimate: Ask
    above: float | None = None
    below: float | None = None
    methods: tuple[str, ...] = ()
    about: str = ""
    source: str = "paper"
    section: str = ""

    def lines(self, model: str, table: Table) -> list[Line]:
        """One line; none for methods that were not run, or what the rows do not hold."""
        found = self.estimate(table) if table.has(self.methods) else None
        return [self.line(model, table, found)] if found is not None and found.n else []

    def line(self, model: str, table: Table, found: Estimate, **more: Any) -> Line:
        """The claim with its number; `more` replaces columns, such as the verdict."""
        group = table.suffix if table.group is None else table.group
        values = {
            "model": model,
            "id": f"{self.id}.{slug(group)}" if group else self.id,
            "source": self.source,
            "section": self.section,
            "claim": f"{self.sentence} ({table.suffix})" if table.suffix else self.sentence,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "bound": self.below if self.above is None else self.above,
            "side": "below" if self.above is None else "above",
            "n": found.n,
            "p": nan,
            "p_holm": nan,
            "verdict": found.verdict(above=self.above, below=self.below),
        }
        return values | more

    def where(self, column: str, value: object) -> Claim:
        """The same claim about the rows alone that have this value."""

        def ask(table: Table) -> Estimate:
            return self.estimate(replace(table, rows=table.rows[table.rows[column] == value]))

        return replace(self, estimate=ask)


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
    id: str = "",
    above: float | None = None,
    below: float | None = None,
) -> Claim:
    """A claim about one method: `mean("complete", "both signs right", "...", above=0.5)`.

    Without an id, it is that of measure and method.
    """
    name = id or f"{slug(measure)}.{method}"
    about = method_label(method)
    return Claim(name, sentence, at(method, measure), above, below, (method,), about)


def difference(
    first: str,
    second: str,
    measure: str,
    sentence: str,
    *,
    id: str = "",
    above: float | None = None,
    below: float | None = None,
) -> Claim:
    """A claim about two methods on the same pictures; ids as in `mean`."""
    name = id or f"{slug(measure)}.{first}_minus_{second}"
    about = method_label(second)
    return Claim(name, sentence, gap(first, second, measure), above, below, (first, second), about)


@dataclass(frozen=True)
class MethodComparison:
    """One method against all others on one measure: claims that are corrected together (Holm).

    Attributes:
        id: Ends in "<first>_minus_<other>" in the lines.
        first: The method.
        measure: By name.
        sentence: What holds if first minus other lies above (or below) 0; the other's name follows.
        above: Whether more is claimed; else less.
        where: Only rows of this part of the study; empty for all.
    """

    id: str
    first: str
    measure: str
    sentence: str
    above: bool = True
    where: str = ""

    def lines(self, model: str, table: Table) -> list[Line]:
        """A line per other method: a difference must be significant after Holm too."""
        if not table.has([self.first]):
            return []
        rows = table.rows[table.rows["part"] == self.where] if self.where else table.rows
        others = [name for name in dict.fromkeys(rows["method"]) if name != self.first]
        above, below = (0.0, None) if self.above else (None, 0.0)
        lines = []
        tested = paired_tests(rows, self.first, others, table.measures[self.measure], table.seed)
        for row in tested.to_dict("records"):
            found = Estimate(row["value"], row["ci_low"], row["ci_high"], row["n"])
            other = row["method"]
            name = f"{self.id}.{self.first}_minus_{other}"
            words = f"{self.sentence} {method_label(other)}"
            asked = gap(self.first, other, self.measure)
            claim = Claim(name, words, asked, above, below, source="ours")
            line = claim.line(model, table, found, p=row["p"], p_holm=row["p_holm"])
            open_ = {} if row["p_holm"] < SIGNIFICANT else {"verdict": INCONCLUSIVE}
            lines.append(line | open_)
        return lines


def paired_tests(
    rows: pd.DataFrame, first: str, others: Sequence[str], measure: Measure, seed: int = 0
) -> pd.DataFrame:
    """A measure by one method minus every other, tested together.

    Returns:
        Columns method (the other), value, ci_low, ci_high, n, p (Wilcoxon, two-sided, over units),
        effect (`signed_rank`) and p_holm (corrected over the others). Others without a common image
        are left out.
    """
    own, units = measured_rows(rows[rows["method"] == first]), units_of(rows)
    lines = []
    for other in others:
        theirs = measured_rows(rows[rows["method"] == other])
        found = paired_difference(own, theirs, measure, seed)
        if found.n:
            gaps = per_image(own, measure)[0] - per_image(theirs, measure)[0]
            p, effect = signed_rank(unit_means(gaps, units))
            lines.append({"method": other, **found.as_row(), "p": p, "effect": effect})
    names = ["method", "value", "ci_low", "ci_high", "n", "p", "effect"]
    table = pd.DataFrame(lines, columns=names)
    return table.assign(p_holm=holm(table["p"].tolist()) if len(table) else [])


@dataclass(frozen=True)
class Only:
    """That the first of some claims holds, and none of the others.

    The line's numbers are those that decide: the first claim's own; another's that holds too; or
    else another's that may.

    Attributes:
        id, sentence: As of a claim; who decides is named behind the sentence.
        claims: The one, then the others.
    """

    id: str
    sentence: str
    claims: Sequence[Claim]

    def lines(self, model: str, table: Table) -> list[Line]:
        """One line; none where there is nothing to compare."""
        found = [(c.about, line) for c in self.claims for line in c.lines(model, table)]
        if len(found) < 2:
            return []
        name, line = found[0]
        others = sorted(found[1:], key=lambda entry: -entry[1]["value"])
        able, unclear = (
            [(other, each) for other, each in others if each["verdict"] == verdict]
            for verdict in (HOLDS, INCONCLUSIVE)
        )
        side, verdict, why = line["side"], line["verdict"], "its own change decides"
        other_side = "below" if side == "above" else "above"
        if verdict != DOES_NOT_HOLD and able:
            (name, line), side = able[0], other_side
            verdict, why = DOES_NOT_HOLD, "another does too"
        elif verdict == HOLDS and unclear:
            (name, line), side = unclear[0], other_side
            verdict, why = INCONCLUSIVE, "another may do too"
        words = f"{self.sentence} ({why}: {name})"
        return [line | {"id": self.id, "claim": words, "side": side, "verdict": verdict}]


@dataclass(frozen=True)
class Best:
    """That none of some claims holds, not even the one with the largest value, which decides.

    Attributes:
        id, sentence: As of a claim; whose value is the largest is named behind the sentence.
        claims: All with the same bound, above which they hold.
    """

    id: str
    sentence: str
    claims: Sequence[Claim]

    def lines(self, model: str, table: Table) -> list[Line]:
        """One line; none where nothing was measured."""
        found = [(c, line) for c in self.claims for line in c.lines(model, table)]
        if not found:
            return []
        best, line = max(reversed(found), key=lambda entry: entry[1]["value"])
        value = Estimate(line["value"], line["low"], line["high"], line["n"])
        words = f"{self.sentence} {best.about}"
        none = replace(best, id=self.id, sentence=words, above=None, below=best.above)
        return [none.line(model, table, value)]


Judged: TypeAlias = Claim | MethodComparison | Only | Best  # what a study may claim


def judge(claims: Iterable[Judged], tables: Iterable[tuple[str, Table]]) -> pd.DataFrame:
    """Lines of claims.csv for every model and group."""
    claims = list(claims)
    lines = [
        line for model, table in tables for claim in claims for line in claim.lines(model, table)
    ]
    return pd.DataFrame(lines, columns=list(CLAIM_COLUMNS))


def counted(claims: pd.DataFrame, comparisons: Sequence[MethodComparison]) -> list[str]:
    """For each model and comparison in how many lines the sentence holds, and in how many not."""
    lines = []
    for model, own in claims.groupby("model", sort=False):
        for one in comparisons:
            verdicts = own.loc[own["id"].str.startswith(f"{one.id}.{one.first}_minus_"), "verdict"]
            holds, fails, open_ = ((verdicts == name).sum() for name in VERDICTS)
            if len(verdicts):
                side, other = ("above", "below") if one.above else ("below", "above")
                lines.append(
                    f"{model}: {one.sentence} another method is {side} 0 for {holds} of "
                    f"{len(verdicts)}, {other} for {fails}, inconclusive for {open_}."
                )
    return lines


def sentences(claims: pd.DataFrame) -> list[str]:
    """Every claim with number, interval, n and verdict, on a line."""
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


def slug(words: str) -> str:
    """Words as a part of an id."""
    return re.sub(r"[^a-z0-9.]+", "_", words.lower()).strip("_.")
