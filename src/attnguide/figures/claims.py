"""Claims: a sentence, the estimate that decides it, and its bound; verdicts are data.

A claim of the paper says what the paper says: where it holds, the paper is right. A claim of ours
is marked as ours. `judge` makes the lines of claims.csv: the estimate of every claim, the p values
of claims that answer one question corrected together (Holm), then what follows from several.
"""

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
    MIN_IMAGES,
    SIGNIFICANT,
    VERDICTS,
    Estimate,
    Measure,
    estimate,
    holm,
    measured_rows,
    paired_difference,
    per_image,
    units_of,
)
from attnguide.findings import CLAIM_COLUMNS, judgement
from attnguide.viz.style import method_label

NAMED = ("lr",)  # columns whose values need their name
OTHER_SIDE = {">": "<", "<": ">"}
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
        return "method" not in self.rows or set(methods) <= set(self.rows["method"].unique())

    def at(self, method: str, measure: str) -> Estimate:
        """Mean of a measure; n = 0 where nothing was measured."""
        rows = measured_rows(self.of(method))
        values, kind = per_image(rows, self.measures[measure])
        return estimate(values, units_of(rows), self.seed, kind=kind)

    def gap(self, first: str, second: str, measure: str) -> Estimate:
        """Mean paired difference, first minus second, over the pictures of both."""
        return paired_difference(self.of(first), self.of(second), self.measures[measure], self.seed)

    def named(self, claim: str) -> str:
        """Id of a claim's line: the claim's, and what names the group."""
        group = self.suffix if self.group is None else self.group
        return f"{claim}.{slug(group)}" if group else claim


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
        about: Whom `Only` names, such as a method.
        source: "paper", whose claim is written as the paper says it, or "ours".
        section: Of the paper.
        family: Claims with this word answer one question, and are corrected together for each model
            and group; empty for a claim that is a question of its own.
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
    family: str = ""

    def lines(self, model: str, table: Table) -> list[Line]:
        """One line, not yet corrected; none where a method was not run or nothing was measured."""
        found = self.estimate(table) if table.has(self.methods) else None
        if found is None or not found.n:
            return []
        bound, side = (self.below, "<") if self.above is None else (self.above, ">")
        assert bound is not None
        line = {
            "model": model,
            "id": table.named(self.id),
            "source": self.source,
            "section": self.section,
            "claim": f"{self.sentence} ({table.suffix})" if table.suffix else self.sentence,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "bound": bound,
            "side": side,
            "n": found.n,
            "p": found.p(bound),
            "p_holm": nan,
            "verdict": found.verdict(above=self.above, below=self.below),
            "family": self.family or self.id,
        }
        return [line]

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


def mean(method: str, measure: str, sentence: str, *, id: str = "", **more: Any) -> Claim:
    """A claim about one method: `mean("complete", "both signs right", "...", above=0.5)`.

    Without an id, it is that of measure and method; `more` are fields of `Claim`.
    """
    name = id or f"{slug(measure)}.{method}"
    words = {"methods": (method,), "about": method_label(method)} | more
    return Claim(name, sentence, at(method, measure), **words)


def difference(
    first: str, second: str, measure: str, sentence: str, *, id: str = "", **more: Any
) -> Claim:
    """A claim about two methods on the same pictures; ids and `more` as in `mean`."""
    name = id or f"{slug(measure)}.{first}_minus_{second}"
    words = {"methods": (first, second), "about": method_label(second)} | more
    return Claim(name, sentence, gap(first, second, measure), **words)


@dataclass(frozen=True)
class MethodComparison:
    """One method against all others on one measure: a family of claims of ours.

    Where the other method is compared with this one too, the pair is judged once: by whichever
    comparison comes first.

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
        """A line per other method."""
        if not table.has([self.first]):
            return []
        rows = table.rows[table.rows["part"] == self.where] if self.where else table.rows
        bound = {"above": 0.0} if self.above else {"below": 0.0}
        lines = []
        for other in (name for name in rows["method"].unique() if name != self.first):
            claim = difference(
                self.first, other, self.measure, f"{self.sentence} {method_label(other)}",
                id=f"{self.id}.{self.first}_minus_{other}", source="ours",
                family=f"{self.id}.{self.first}", **bound,
            )  # fmt: skip
            turned = table.named(f"{self.id}.{other}_minus_{self.first}")
            own = claim.lines(model, replace(table, rows=rows))
            lines += [line | {"turned": turned} for line in own]
        return lines


@dataclass(frozen=True)
class Only:
    """That the first of some claims holds, and no other's number lies on that side of its bound.

    Others with too few pictures are not judged. The line's numbers are those that decide: the first
    claim's own; another's that lies there too; or else another's that may. There is no line where
    the first, or every other, was not measured.

    Attributes:
        id, sentence: As of a claim; who decides is named behind the sentence.
        claims: The one, then the others; all of them are judged beside this.
        source, section: As of a claim.
    """

    id: str
    sentence: str
    claims: Sequence[Claim]
    source: str = "paper"
    section: str = ""

    def lines(self, judged: Mapping[str, Line], table: Table) -> list[Line]:
        """One line, from those of its claims by id."""
        found = [(c.about, judged.get(table.named(c.id))) for c in self.claims]
        (name, line), *rest = found
        others = [(other, own) for other, own in rest if own and own["n"] >= MIN_IMAGES]
        if line is None or not others:
            return []
        side, verdict, why = line["side"], line["verdict"], f"decided by the number of {name}"
        turned = OTHER_SIDE[side]
        others.sort(key=lambda pair: pair[1]["value"], reverse=side == ">")
        too, may = (
            [pair for pair in others if _verdict_on(side, pair[1]) == answer]
            for answer in (HOLDS, INCONCLUSIVE)
        )
        if verdict != DOES_NOT_HOLD and too:
            (name, line), side, verdict = too[0], turned, DOES_NOT_HOLD
            why = f"{len(too)} of them {'do' if too[1:] else 'does'} too, most of all {name}"
        elif verdict == HOLDS and may:
            (name, line), side, verdict = may[0], turned, INCONCLUSIVE
            why = f"{len(may)} of them may do too, most of all {name}"
        words = f"{self.sentence}, against {len(others)} others ({why})"
        own = {"id": table.named(self.id), "claim": words, "side": side, "verdict": verdict}
        return [line | own | {"source": self.source, "section": self.section}]


def _verdict_on(side: str, line: Line) -> str:
    """The verdict of a line if its claim were of this side."""
    turn = {HOLDS: DOES_NOT_HOLD, DOES_NOT_HOLD: HOLDS, INCONCLUSIVE: INCONCLUSIVE}
    return str(line["verdict"] if line["side"] == side else turn[line["verdict"]])


Judged: TypeAlias = Claim | MethodComparison | Only  # what a study may claim


def judge(claims: Iterable[Judged], tables: Iterable[tuple[str, Table]]) -> pd.DataFrame:
    """Lines of claims.csv for every model and group; what follows from several comes first."""
    claims = list(claims)
    found: list[Line] = []
    for model, table in tables:
        lines: dict[str, Line] = {}
        for claim in claims:
            if not isinstance(claim, Only):
                own = claim.lines(model, table)
                lines |= {line["id"]: line for line in own if line.get("turned") not in lines}
        correct(lines.values())
        follows = [claim for claim in claims if isinstance(claim, Only)]
        found += [line for claim in follows for line in claim.lines(lines, table)]
        found += lines.values()
    return pd.DataFrame(found, columns=list(CLAIM_COLUMNS))


def correct(lines: Iterable[Line]) -> None:
    """Write p values after Holm into the lines of each family that have enough pictures.

    A verdict whose corrected p exceeds `SIGNIFICANT` becomes inconclusive. Lines of few pictures
    are inconclusive anyway; they are outside the family, which thus loses nothing by them.
    """
    families: dict[str, list[Line]] = {}
    for line in lines:
        if line["n"] >= MIN_IMAGES:
            families.setdefault(line["family"], []).append(line)
    for family in families.values():
        for line, p in zip(family, holm([line["p"] for line in family]), strict=True):
            line["p_holm"] = p
            if p > SIGNIFICANT:
                line["verdict"] = INCONCLUSIVE


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
    """Every claim with number, interval, n, bound and verdict, on a line."""
    return [
        f"{line['model']}: {line['claim']}: {judgement(line)}."
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
