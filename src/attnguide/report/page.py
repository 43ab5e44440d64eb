"""One page about a run: claim, outcome, figure, tables, settings. It needs no other file."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from html import escape
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnguide.findings import Findings
from attnguide.store.files import write_atomic
from attnguide.viz.style import render

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 200  # of a table on the page; the files hold all of them

_STYLE = """
:root { color-scheme: light dark; --page: #fbfaf8; --card: #ffffff; --ink: #1d1d21;
  --quiet: #65656e; --line: #e4e2dd; --red: #b3202c; --blue: #1f5fbf; --stripe: #f6f4f0; }
@media (prefers-color-scheme: dark) { :root { --page: #15161a; --card: #1d1f24; --ink: #e8e7e3;
  --quiet: #9c9ca6; --line: #33353c; --red: #ef7a7f; --blue: #82b0ff; --stripe: #23252b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 17px/1.6 Georgia, "Iowan Old Style", "Times New Roman", serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
.text { max-width: 44rem; }
.band { height: 5px; background: linear-gradient(90deg, #0b2f8a, #2f63d6, #8fb2f5, #ffffff,
  #f79a8c, #d93a32, #8a0b1c); }
h1 { font-size: clamp(1.6rem, 5vw, 2.4rem); line-height: 1.2; margin: .2rem 0 1.2rem;
  text-wrap: balance; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .7rem; }
.kicker, figcaption, table, summary, footer, .note {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.kicker { color: var(--quiet); font-size: .82rem; letter-spacing: .06em; margin: 0;
  text-transform: uppercase; }
blockquote { margin: 0; padding: .1rem 0 .1rem 1.1rem; border-left: 3px solid var(--blue);
  font-style: italic; }
ul.found { padding-left: 1.2rem; margin: 0; }
ul.found li { margin: .45rem 0; }
ul.found li::marker { color: var(--red); }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.paper { background: #ffffff; border: 1px solid var(--line); border-radius: 8px; padding: 1rem; }
figcaption { color: var(--quiet); font-size: .9rem; line-height: 1.5; margin-top: .8rem;
  max-width: 50rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .86rem; line-height: 1.45; }
th, td { padding: .42rem .8rem; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid var(--line); color: var(--quiet); font-weight: 600;
  white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--stripe); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.facts th { color: var(--quiet); font-weight: 500; width: 15rem; white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
details { margin-top: 1rem; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
.note, footer { color: var(--quiet); font-size: .84rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
@media (max-width: 40rem) { body { font-size: 16px; } main { padding-top: 1.5rem; }
  .paper { padding: .4rem; overflow-x: auto; } figure img { max-width: none;
  width: max(100%, min(var(--width), 34rem)); } .facts th { width: auto; white-space: normal; } }
@media print { details > * { display: block; } .scroll { overflow: visible; } }
"""


def write_report(
    run_dir: Path, findings: Findings, config: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Path:
    """Write `report.html` and return its path.

    Figures are embedded, the main one from `figure.png` if the run has written it already; the
    page asks for nothing from outside and runs no script.

    Args:
        run_dir: Of the run.
        findings: Figures, tables and sentences, with title and claim.
        config: Every setting, plain values.
        provenance: Commit, versions, device, time and the like, plain values.
    """
    path, drawn = Path(run_dir) / "report.html", Path(run_dir) / "figure.png"
    figure = drawn.read_bytes() if drawn.is_file() else render(findings.figure)
    write_atomic(path, page(findings, config, provenance, figure).encode())
    return path


def page(
    findings: Findings,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    figure: bytes,
    source: str = "results.parquet and summary.csv",
) -> str:
    """The whole document; `figure` is the PNG of the main figure, `source` the files behind it."""
    found = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings.found)
    sections = [
        f"<div class='text'><p class='kicker'>{escape(_kicker(config))}</p>"
        f"<h1>{escape(findings.title)}</h1>",
        f"<h2>What the paper claims</h2><blockquote>{escape(findings.claim)}</blockquote>"
        if findings.claim
        else "",
        f"<h2>What was found</h2><ul class='found'>{found}</ul></div>" if found else "</div>",
        "<h2>Figure</h2>" + _figure(figure, findings.caption),
        "<h2>Summary</h2>" + _table(findings.summary),
        *(
            f"<h2>{escape(name)}</h2>" + _figure(render(drawing), alt=name)
            for name, drawing in findings.figures.items()
        ),
        *(f"<h2>{escape(name)}</h2>" + _table(table) for name, table in findings.tables.items()),
        "<h2>How it was made</h2>",
        _facts("Settings", config),
        _facts("Provenance", provenance),
        f"<footer>Every number on this page comes from {escape(source)} beside it.</footer>",
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta http-equiv='Content-Security-Policy' "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(findings.title)}</title><style>{_STYLE}</style></head>"
        f"<body><div class='band'></div><main>{''.join(sections)}</main></body></html>\n"
    )


def _kicker(config: Mapping[str, Any]) -> str:
    """The line above the title: experiment, scale and models, where the settings name them."""
    model = config.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    names = ", ".join(map(str, name)) if isinstance(name, list | tuple) else name
    return " · ".join(
        str(part) for part in (config.get("experiment"), config.get("scale"), names) if part
    )


def _figure(png: bytes, caption: str = "", alt: str = "") -> str:
    width = round(0.6 * int.from_bytes(png[16:20]))  # the header's width; 0.6 keeps it crisp
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f"<figure><div class='paper'><img alt='{escape(caption or alt, quote=True)}' "
        f"width='{width}' style='--width:{width}px' "
        f"src='data:image/png;base64,{base64.b64encode(png).decode()}'></div>{below}</figure>"
    )


def _table(table: pd.DataFrame) -> str:
    shown = table.head(MAX_ROWS).astype(object)
    shown = shown.where(shown.notna(), None)
    columns = [_column(list(shown.iloc[:, number])) for number in range(shown.shape[1])]
    side = [" class='number'" if numeric else "" for _, numeric in columns]
    head = "".join(f"<th{c}>{escape(str(n))}</th>" for n, c in zip(table, side, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{c}>{text}</td>" for text, c in zip(row, side, strict=True)) + "</tr>"
        for row in zip(*(cells for cells, _ in columns), strict=True)
    )
    cut = f"<p class='note'>The first {MAX_ROWS} of {len(table)} rows.</p>"
    return (
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"</div>{cut if len(table) > MAX_ROWS else ''}"
    )


def _column(values: list[Any]) -> tuple[list[str], bool]:
    """Cells of a column, and whether they are numbers; these get the same number of decimals."""
    numbers = [float(v) for v in values if _is_number(v) and not _is_missing(v)]
    numeric = all(_is_number(v) or _is_missing(v) for v in values)
    largest = max((abs(n) for n in numbers if math.isfinite(n)), default=0.0)
    if not numeric or all(n.is_integer() for n in numbers) or largest < 1e-3:
        return [_cell(value) for value in values], numeric
    decimals = max(1, 3 - math.floor(math.log10(largest)))
    return [_cell(v) if _is_missing(v) else _signed(f"{v:.{decimals}f}") for v in values], True


def _facts(heading: str, values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{_cell(value)}</td></tr>" for name, value in _flat(values)
    )
    return (
        f"<details><summary>{escape(heading)}</summary><div class='scroll'><table class='facts'>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by their dotted names, as the command line writes them."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(value: Any) -> str:
    """A value for the eye: four significant digits, a dash for what is missing."""
    if _is_missing(value) or (isinstance(value, dict | list | tuple) and not value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        whole = math.isfinite(value) and float(value).is_integer()
        return _signed(str(int(value)) if whole else f"{float(value):.4g}")
    if isinstance(value, list | tuple):
        return escape(", ".join(str(part) for part in value))
    return escape(str(value))


def _signed(number: str) -> str:
    return "\N{MINUS SIGN}" + number[1:] if number.startswith("-") else number


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or (_is_number(value) and math.isnan(value))
