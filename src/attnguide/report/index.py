"""One page about many runs: what each claims, shows and found, with links to its files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from attnguide.findings import no_claims
from attnguide.report.page import render_page
from attnguide.report.table_view import as_text, claim_lines
from attnguide.store.folder import RunFolder

FILES = (
    *("report.html", "figure.pdf", "claims.csv", "summary.csv", "results.parquet", "maps.npz"),
    "animation.gif",
)


@dataclass(frozen=True)
class RunRecord:
    """A finished run, as its folder tells it.

    Attributes:
        name: its folder, relative to the page.
        title, claim, caption, found: as in `Findings`.
        claims, summary: its claims.csv and summary.csv.
        config: every setting, plain values.
        seconds, peak_memory_mb: of its work, None where unknown.
        files: names inside its folder, linked.
        thumbnail: path of its figure, relative to the page; empty for none.
    """

    name: str
    title: str
    claim: str = ""
    caption: str = ""
    found: tuple[str, ...] = ()
    claims: pd.DataFrame = field(default_factory=no_claims)
    summary: pd.DataFrame = field(default_factory=pd.DataFrame)
    config: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    peak_memory_mb: float | None = None
    files: tuple[str, ...] = ()
    thumbnail: str = ""


def read_run(root: Path, name: str) -> RunRecord:
    """The record of a finished run in a subfolder.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: a file is missing or damaged.
    """
    folder = root / name
    words = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    cost = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    claims = folder / "claims.csv"
    # a class or model may be called NA, None or nan; only what is empty is missing
    empty: Any = {"keep_default_na": False, "na_values": [""]}
    summary = pd.read_csv(folder / "summary.csv", **empty)
    for column in summary.columns.intersection(["auc", "value", "ci_low", "ci_high"]):
        summary[column] = pd.to_numeric(summary[column])
    return RunRecord(
        name=name,
        title=str(words["title"]),
        claim=str(words["claim"]),
        caption=str(words["caption"]),
        found=tuple(map(str, words["found"])),
        claims=pd.read_csv(claims, **empty) if claims.is_file() else no_claims(),
        summary=summary,
        config=RunFolder(folder).load_config(),
        seconds=cost.get("seconds"),
        peak_memory_mb=cost.get("peak_memory_mb"),
        files=tuple(file for file in FILES if (folder / file).is_file()),
        thumbnail=f"{name}/figure.png" if (folder / "figure.png").is_file() else "",
    )


def index_page(
    runs: Sequence[RunRecord],
    left_out: Mapping[str, str] | None = None,
    title: str = "All figures",
) -> str:
    """The page; pictures and files are linked, not copied.

    Args:
        runs: In the order of the page.
        left_out: Why, by name.
        title: Of the page.
    """
    claims = [claim_lines(run.claims) for run in runs]
    counts = [Counter(line["verdict"] for line in lines) for lines in claims]
    return render_page(
        "index.html",
        image_sources="'self' file:",
        title=title,
        runs=list(zip(runs, claims, counts, strict=True)),
        left_out=left_out or {},
        rounded=lambda value: as_text(value if value is None else round(value)),
    )
