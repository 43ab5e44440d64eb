"""What an experiment shows in the end: claims, figures, tables, sentences and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CLAIM_COLUMNS = (
    *("model", "id", "source", "section", "claim"),
    *("value", "low", "high", "bound", "side", "n", "p", "p_holm", "verdict"),
)


def no_claims() -> pd.DataFrame:
    """A table of claims without rows."""
    import pandas as pd

    return pd.DataFrame({name: [] for name in CLAIM_COLUMNS})


def _no_rows() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame()


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
    images: pd.DataFrame = field(default_factory=_no_rows)


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
