"""Tables for the page: cells as text, long tables pivoted, claims as lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import pandas as pd
from markupsafe import Markup

from attnguide.findings import decimals, fixed, judgement
from attnguide.viz.style import minus

MAX_ROWS = 200  # of a table on the page; the files hold all of them
MIN_PIVOTED = 7  # rows; a shorter table is read as it is
MISSING = "–"


@dataclass(frozen=True)
class TableView:
    """A table as the page prints it.

    Attributes:
        columns: Name of each column, and whether it holds numbers.
        rows: Cells; `Markup` where one holds a link or smaller print, with all data in it escaped.
        note: What a reader must know beside it.
    """

    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]
    note: str = ""


def claim_lines(claims: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows of claims.csv, their numbers as text; the model is named where there are several."""
    several = claims["model"].nunique() > 1
    return [
        row | vars(judgement(row)) | {"model": row["model"] if several else ""}
        for row in claims.to_dict("records")
    ]


def table_view(
    table: pd.DataFrame, link: Callable[[Mapping[Any, Any]], str] | None = None
) -> TableView:
    """The table, pivoted where it is long and has methods and measures.

    Args:
        table: Any.
        link: Where the image_id of a row leads; empty for nowhere.
    """
    if pivoted := _pivoted(table):
        return pivoted
    shown = table.head(MAX_ROWS)
    numeric = [_is_numeric(shown.iloc[:, place]) for place in range(shown.shape[1])]
    columns = [_column(shown.iloc[:, at].tolist(), is_n) for at, is_n in enumerate(numeric)]
    if link and "image_id" in shown:
        texts = columns[list(shown).index("image_id")]
        for number, row in enumerate(shown.to_dict("records")):
            if href := link(row):
                texts[number] = Markup('<a href="{}">{}</a>').format(href, texts[number])
    note = f"The first {MAX_ROWS} of {len(table)} rows." if len(table) > MAX_ROWS else ""
    names = list(zip(map(str, shown), numeric, strict=True))
    return TableView(names, list(zip(*columns, strict=True)), note)


def to_paste(table: pd.DataFrame) -> dict[str, str]:
    """The table as Markdown ("md") and LaTeX ("tex"), intervals in brackets, all data escaped."""
    view = table_view(table)
    names = [name for name, _ in view.columns]
    rows = [
        [cell.striptags() if isinstance(cell, Markup) else " ".join(cell.split()) for cell in row]
        for row in view.rows
    ]
    sides = ["--:" if numeric else ":--" for _, numeric in view.columns]
    lines = [[cell.replace("|", r"\|") for cell in row] for row in (names, sides, *rows)]
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    latex = pd.DataFrame(rows, columns=names).to_latex(index=False, escape=True)
    return {"md": f"{markdown}\n{view.note}\n", "tex": latex.replace("\N{MINUS SIGN}", "$-$")}


def _pivoted(table: pd.DataFrame) -> TableView | None:
    """Method by measure, or measure by method where these are fewer; None where it cannot be."""
    value = next((name for name in ("auc", "value") if name in table), None)
    kinds = [name for name in ("order", "quantity", "measure") if name in table]
    name = next((name for name in ("method", "difference") if name in table), None)
    if value is None or not kinds or name is None or len(table) < MIN_PIVOTED:
        return None
    texts = table[kinds].fillna("").astype(str).itertuples(index=False)
    words = [", ".join(filter(None, row)) for row in texts]
    table = table.drop(columns=kinds).assign(measure=words)
    others = [n for n in table if n not in (value, "ci_low", "ci_high", "n", name, "measure")]
    varied = [n for n in others if table[n].nunique(dropna=False) > 1]
    fewer = table[name].nunique() < table["measure"].nunique()
    down, across = ("measure", name) if fewer else (name, "measure")
    keys = [*varied, down]
    if table.duplicated([*keys, across]).any() or table[across].nunique() < 2:
        return None
    counts = list(table["n"].unique()) if "n" in table else []
    places = table.groupby("measure")[value].transform(lambda own: decimals(own.dropna().tolist()))
    cells = [
        _estimate(row, value, int(digits), several=len(counts) > 1)
        for row, digits in zip(table.to_dict("records"), places, strict=True)
    ]
    heads = list(table[across].unique())
    named = table[keys].map(as_text).assign(cell=pd.Series(cells, table.index, object))
    wide = named.set_index([*keys, table[across]])["cell"].unstack(sort=False)[heads]
    wide = wide.where(wide.notna(), MISSING).reset_index()
    fixed = [f"{n}: {as_text(table[n].iloc[0])}" for n in others if n not in varied]
    fixed += [f"n = {int(counts[0])}"] if len(counts) == 1 else []
    unit = "AUC in percent; b" if value == "auc" else "B"
    return TableView(
        [(str(head), head not in keys) for head in wide],
        wide.to_numpy().tolist(),
        f"{unit}rackets hold the 95 % interval of the number before them. {'; '.join(fixed)}",
    )


def _estimate(row: Mapping[Any, Any], value: str, digits: int, *, several: bool) -> str:
    """A number with its interval in smaller print, and with its n where there are several."""
    if _is_missing(row[value]):
        return MISSING
    ends = [row[end] for end in ("ci_low", "ci_high") if not _is_missing(row.get(end))]
    parts = [f"[{', '.join(fixed(end, digits) for end in ends)}]"] if len(ends) == 2 else []
    parts += [f"n = {int(row['n'])}"] if several and not _is_missing(row.get("n")) else []
    number = fixed(row[value], digits)
    return Markup("{} <small>{}</small>").format(number, " ".join(parts)) if parts else number


def _is_numeric(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers, and nothing else but gaps."""
    known = [value for value in column if not _is_missing(value)]
    return bool(known) and all(map(_is_number, known))


def _column(values: Sequence[Any], numeric: bool) -> list[str]:
    """Texts of a column; numbers get the same number of decimals."""
    known = [abs(float(v)) for v in values if numeric and not _is_missing(v)]
    largest = max(filter(math.isfinite, known), default=0.0)
    if largest < 1e-3 or all(number.is_integer() for number in known):
        return [as_text(value) for value in values]
    places = max(1, 3 - math.floor(math.log10(largest)))
    return [MISSING if _is_missing(v) else fixed(v, places) for v in values]


def as_text(value: Any) -> str:
    """A value for the eye: four significant digits, a dash for what is missing."""
    if _is_missing(value) or (isinstance(value, dict | list | tuple) and not value):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        whole = math.isfinite(value) and float(value).is_integer()
        return minus(str(int(value)) if whole else f"{float(value):.4g}")
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _is_number(value: Any) -> bool:
    """Whether it is a number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    """Whether it is None, NaN or pandas' NA."""
    return value is None or value is pd.NA or (_is_number(value) and math.isnan(value))
