"""Tables for the eye: cells with their sorting keys, long tables pivoted, claims as sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 200  # of a table on the page; the files hold all of them
MIN_PIVOTED = 7  # rows; a shorter table is read as it is
VALUES = ("auc", "value")
NAMES = ("method", "difference")  # what has measures
MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What is read.
        key: What the column is sorted by; empty for what is missing.
        small: An interval or a number of pictures, printed smaller behind the text.
        href: Where a click leads; empty for nowhere.
    """

    text: str
    key: str = ""
    small: str = ""
    href: str = ""


@dataclass(frozen=True)
class TableView:
    """A table as the page prints it.

    Attributes:
        columns: Name of each column, and whether it holds numbers.
        rows: Cells.
        note: What a reader must know beside it.
    """

    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class ClaimLine:
    """One claim in words: `verdict` is one of three, `kind` its name in the style sheet."""

    verdict: str
    kind: str
    sentence: str
    model: str
    number: str
    interval: str
    count: str


def claim_lines(claims: pd.DataFrame) -> list[ClaimLine]:
    """Claims as lines; the model is named where there are several."""
    several = len(claims) and claims["model"].nunique() > 1
    lines = []
    for row in claims.to_dict("records"):
        ends = [row["value"], row["low"], row["high"]]
        known = not any(map(is_missing, ends)) and row["n"] > 0
        places = _decimals(ends) if known else 0
        value, low, high = (_fixed(end, places) if known else "" for end in ends)
        verdict = str(row["verdict"])
        lines.append(
            ClaimLine(
                verdict=verdict,
                kind={"holds": "holds", "does not hold": "fails"}.get(verdict, "open"),
                sentence=str(row["claim"]),
                model=str(row["model"]) if several else "",
                number=value if known else "not known",
                interval=f"[{low}, {high}]" if known else "",
                count=f"n = {int(row['n'])}" if not is_missing(row["n"]) else "",
            )
        )
    return lines


def table_view(
    table: pd.DataFrame, link: Callable[[Mapping[Any, Any]], str] | None = None
) -> TableView:
    """The table, pivoted where it is long and has methods and measures.

    Args:
        table: Any.
        link: Where the image_id of a row leads; empty for nowhere.
    """
    return _pivoted(table) or _as_it_is(table, link)


def _as_it_is(table: pd.DataFrame, link: Callable[[Mapping[Any, Any]], str] | None) -> TableView:
    shown = table.head(MAX_ROWS).astype(object)
    shown = shown.where(shown.notna(), None)
    columns = [_column(list(shown.iloc[:, number])) for number in range(shown.shape[1])]
    if link and "image_id" in shown:
        cells = columns[list(shown).index("image_id")][0]
        rows = shown.to_dict("records")
        cells[:] = [replace(c, href=link(row)) for c, row in zip(cells, rows, strict=True)]
    cut = f"The first {MAX_ROWS} of {len(table)} rows." if len(table) > MAX_ROWS else ""
    return TableView(
        tuple((str(n), numeric) for n, (_, numeric) in zip(shown, columns, strict=True)),
        tuple(zip(*(cells for cells, _ in columns), strict=True)),
        cut,
    )


def _pivoted(table: pd.DataFrame) -> TableView | None:
    """Method by measure, or measure by method where these are fewer; None where it cannot be."""
    value = next((name for name in VALUES if name in table), None)
    kinds = [name for name in ("order", "quantity", "measure") if name in table]
    name = next((name for name in NAMES if name in table), None)
    if value is None or not kinds or name is None or len(table) < MIN_PIVOTED:
        return None
    table = table.assign(
        measure_=[
            ", ".join(str(row[k]) for k in kinds if not is_missing(row[k]) and row[k] != "")
            for row in table[kinds].to_dict("records")
        ]
    )
    numbers = (value, "ci_low", "ci_high", "n")
    others = [n for n in table if n not in (*numbers, *kinds, name, "measure_")]
    varied = [name for name in others if table[name].nunique(dropna=False) > 1]
    down, across = name, "measure_"
    if table[down].nunique() < table[across].nunique():
        down, across = across, down
    keys = [*varied, down]
    if table.duplicated([*keys, across]).any() or table[across].nunique() < 2:
        return None
    counts = list(table["n"].unique()) if "n" in table else []
    heads = list(dict.fromkeys(table[across]))
    places = {
        measure: _decimals(list(part[value]))
        for measure, part in table.groupby("measure_", sort=False)
    }
    rows = []
    for names, part in table.groupby(keys, sort=False, dropna=False):
        at = {row[across]: row for row in part.to_dict("records")}
        cells = [
            _estimate(at[h], value, places, len(counts) > 1) if h in at else Cell(MISSING)
            for h in heads
        ]
        rows.append((*(Cell(as_text(name), as_text(name)) for name in names), *cells))
    fixed = [f"{name}: {as_text(table[name].iloc[0])}" for name in others if name not in varied]
    if len(counts) == 1:
        fixed.append(f"n = {int(counts[0])}")
    unit = "AUC in percent; b" if value == "auc" else "B"
    return TableView(
        (*((str(k).rstrip("_"), False) for k in keys), *((str(h), True) for h in heads)),
        tuple(rows),
        f"{unit}rackets hold the 95 % interval of the number before them. {'; '.join(fixed)}",
    )


def _estimate(row: Mapping[Any, Any], value: str, places: Mapping[Any, int], count: bool) -> Cell:
    """A number with its interval, and with its n where that differs."""
    if is_missing(row[value]):
        return Cell(MISSING)
    digits = places[row["measure_"]]
    ends = [row[end] for end in ("ci_low", "ci_high") if not is_missing(row.get(end))]
    parts = [f"[{', '.join(_fixed(end, digits) for end in ends)}]"] if len(ends) == 2 else []
    parts += [f"n = {int(row['n'])}"] if count and not is_missing(row.get("n")) else []
    return Cell(_fixed(row[value], digits), repr(float(row[value])), " ".join(parts))


def _column(values: list[Any]) -> tuple[list[Cell], bool]:
    """Cells of a column, and whether they are numbers; these get the same number of decimals."""
    numbers = [float(v) for v in values if is_number(v) and not is_missing(v)]
    numeric = bool(numbers) and all(is_number(v) or is_missing(v) for v in values)
    keys = ["" if is_missing(v) else repr(float(v)) if numeric else as_text(v) for v in values]
    largest = max((abs(n) for n in numbers if math.isfinite(n)), default=0.0)
    if not numeric or all(n.is_integer() for n in numbers) or largest < 1e-3:
        texts = [as_text(value) for value in values]
    else:
        places = max(1, 3 - math.floor(math.log10(largest)))
        texts = [MISSING if is_missing(v) else _fixed(v, places) for v in values]
    return [Cell(text, key) for text, key in zip(texts, keys, strict=True)], numeric


def facts(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings by their dotted names, as the command line writes them, as text."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from facts(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", as_text(value)


def as_text(value: Any) -> str:
    """A value for the eye: four significant digits, a dash for what is missing."""
    if is_missing(value) or (isinstance(value, dict | list | tuple) and not value):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        whole = math.isfinite(value) and float(value).is_integer()
        return _minus(str(int(value)) if whole else f"{float(value):.4g}")
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    return str(value)


def is_number(value: Any) -> bool:
    """Whether it is a number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_missing(value: Any) -> bool:
    """Whether it is None or NaN."""
    return value is None or (is_number(value) and math.isnan(value))


def _decimals(values: Sequence[float]) -> int:
    """Decimals that show the largest of these numbers to about three digits."""
    largest = max((abs(v) for v in values if not is_missing(v) and math.isfinite(v)), default=0.0)
    if largest >= 10 or largest == 0:
        return 1
    return 2 if largest >= 0.1 else 1 - math.floor(math.log10(largest))


def _fixed(value: float, places: int) -> str:
    return _minus(f"{value:.{places}f}")


def _minus(number: str) -> str:
    return "\N{MINUS SIGN}" + number[1:] if number.startswith("-") else number
