"""What an experiment shows in the end: claims, figures, tables, sentences and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnguide.viz.style import minus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM_COLUMNS = (
    *("model", "id", "source", "section", "claim"),
    *("value", "low", "high", "bound", "side", "n", "p", "p_holm", "verdict"),
)


def no_claims() -> pd.DataFrame:
    """A table of claims without rows."""
    return pd.DataFrame({name: [] for name in CLAIM_COLUMNS})


@dataclass(frozen=True)
class Judgement:
    """What a line of claims.csv says in numbers.

    As text "0.97 [0.94, 0.99], n = 160, bound > 0.5: holds".

    Attributes:
        value, interval, count, bound, verdict: The parts; empty where nothing is known.
    """

    value: str
    interval: str
    count: str
    bound: str
    verdict: str

    def __str__(self) -> str:
        number = f"{self.value} {self.interval}".strip()
        return f"{', '.join(filter(None, (number, self.count, self.bound)))}: {self.verdict}"


def judgement(line: Mapping[Any, Any]) -> Judgement:
    """The number of a claim with its bound and verdict, as every reader sees it."""
    ends = [float(line[name]) for name in ("value", "low", "high")]
    bound, count, places = line["bound"], line["n"], decimals(ends)
    while places < 5 and any(end != bound and round(end - bound, places) == 0 for end in ends[1:]):
        places += 1  # an end that was rounded to the bound would hide the verdict's reason
    value, low, high = (fixed(end, places) for end in ends)
    return Judgement(
        "not known" if math.isnan(ends[0]) else value,
        "" if any(map(math.isnan, ends)) else f"[{low}, {high}]",
        "" if math.isnan(count) else f"n = {int(count)}",
        "" if math.isnan(bound) else f"bound {line['side']} {minus(f'{bound:.3g}')}",
        str(line["verdict"]),
    )


def decimals(values: Sequence[float]) -> int:
    """Decimals that show the largest of these numbers to about three digits."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest >= 10 or largest == 0:
        return 1
    return 2 if largest >= 0.1 else 1 - math.floor(math.log10(largest))


def fixed(value: float, places: int) -> str:
    """A number with so many decimals; with a power of ten where these would be many."""
    return minus(f"{value:.1e}" if places > 5 else f"{value:.{places}f}")


@dataclass(frozen=True)
class Findings:
    """The outcome of a run, drawn from what the run stored.

    Attributes:
        figure: the paper's figure; saved as figure.png and figure.pdf.
        summary: the small table; saved as summary.csv and printed.
        caption: what the figure shows, in full sentences.
        found: what came out, one sentence each.
        figures, tables: more of the same for the report, by heading.
        title, claim: the experiment's name and what the paper claims; the runner fills them in.
        claims: one row per model and claim, `CLAIM_COLUMNS`; saved as claims.csv.
        images: rows of single pictures, the worst first, with a column image_id; may be empty.
    """

    figure: Figure
    summary: pd.DataFrame
    caption: str
    found: tuple[str, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    title: str = ""
    claim: str = ""
    claims: pd.DataFrame = field(default_factory=no_claims)
    images: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class ShownPicture:
    """A picture with its maps, for the report's viewer and for trackers.

    Attributes:
        id: as in the column image_id of the run's rows.
        title: a line for the eye, such as the explained class.
        png: what the model saw, as the content of a PNG file.
        maps: raw relevance (rows, cols) by method.
        target: class index that the maps explain, where the rows name one.
    """

    id: str
    title: str
    png: bytes
    maps: Mapping[str, NDArray[np.floating]]
    target: int | None = None
