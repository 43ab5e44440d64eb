"""One page about many runs: what each claims, shows and found, with links to its files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnguide.errors import InputError
from attnguide.findings import no_claims
from attnguide.report.render import render_page
from attnguide.report.tables import MISSING, claim_lines

if TYPE_CHECKING:
    import pandas as pd

FILES = (
    "report.html",
    "figure.pdf",
    "claims.csv",
    "summary.csv",
    "results.parquet",
    "maps.npz",
    "animation.gif",
)
VERDICTS = (("holds", "holds"), ("fails", "does not hold"), ("open", "inconclusive"))


@dataclass(frozen=True)
class RunRecord:
    """What the index says of a run.

    Attributes:
        name: its folder, relative to the page.
        title, claim, caption, found: as in `Findings`.
        claims: rows of its claims.csv.
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
    seconds: float | None = None
    peak_memory_mb: float | None = None
    files: tuple[str, ...] = ()
    thumbnail: str = ""


def read_run(root: Path, name: str) -> RunRecord:
    """The record of a finished run in a subfolder.

    Raises:
        ValueError: not finished, or a file of it cannot be read; says which.
    """
    import pandas as pd

    folder = root / name
    try:
        told = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
        cost = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        claims = folder / "claims.csv"
        return RunRecord(
            name=name,
            title=str(told["title"]),
            claim=str(told["claim"]),
            caption=str(told["caption"]),
            found=tuple(map(str, told["found"])),
            claims=pd.read_csv(claims) if claims.is_file() else no_claims(),
            seconds=cost.get("seconds"),
            peak_memory_mb=cost.get("peak_memory_mb"),
            files=tuple(file for file in FILES if (folder / file).is_file()),
            thumbnail=f"{name}/figure.png" if (folder / "figure.png").is_file() else "",
        )
    except FileNotFoundError as error:
        raise InputError(f"not finished: {Path(error.filename).name} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"its files cannot be read ({error}); run it again") from None


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
    return render_page(
        "index.html",
        image_sources="'self' file:",
        title=title,
        runs=[_shown(number, run) for number, run in enumerate(runs)],
        left_out=list((left_out or {}).items()),
    )


def _shown(number: int, run: RunRecord) -> dict[str, Any]:
    lines = claim_lines(run.claims)
    counts = {kind: sum(line.kind == kind for line in lines) for kind, _ in VERDICTS}
    return {
        "name": run.name,
        "anchor": f"run-{number}",
        "title": run.title or run.name,
        "claim": run.claim,
        "caption": run.caption,
        "found": run.found,
        "lines": lines,
        "tally": [(kind, word, counts[kind]) for kind, word in VERDICTS if counts[kind]],
        "holding": f"{counts['fails']}.{counts['open']:03d}.{counts['holds']:03d}" if lines else "",
        "seconds": _rounded(run.seconds),
        "seconds_key": "" if run.seconds is None else run.seconds,
        "memory": _rounded(run.peak_memory_mb),
        "memory_key": "" if run.peak_memory_mb is None else run.peak_memory_mb,
        "page": f"{run.name}/{next(iter(_pages(run.files)), '')}",
        "thumbnail": run.thumbnail,
        "files": run.files,
    }


def _pages(files: Iterable[str]) -> list[str]:
    return [file for file in files if file.endswith(".html")]


def _rounded(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0f}"
