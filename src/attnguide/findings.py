"""What an experiment shows in the end: figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


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
    """

    figure: Figure
    summary: pd.DataFrame
    caption: str
    found: tuple[str, ...]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    title: str = ""
    claim: str = ""
