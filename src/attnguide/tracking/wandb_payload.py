"""What a logger is sent of a run's tables: numbers by name, curves by step, a sample of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pandas as pd

QUANTITIES = {"accuracy": "correct", "probability": "probability"}
VALUES = ("auc", "value")
NUMBERS = (*VALUES, "ci_low", "ci_high", "n")
SAMPLE_IMAGES, SAMPLE_ROWS = 20, 2000


def scalars(summary: pd.DataFrame) -> dict[str, float]:
    """Every mean of a summary by its name.

    `auc/<order>_<quantity>/<method>` for areas, `measure/<measure>/<method>` for shares and rates;
    other columns that tell lines apart come in between.
    """
    value = next((name for name in VALUES if name in summary), None)
    if value is None:
        return {}
    named = ("order", "quantity", "measure", "method")
    constant = [name for name in summary if summary[name].nunique() < 2]
    other = [n for n in summary if n not in (*NUMBERS, *named) and n not in constant]
    found = {}
    for line in summary.to_dict("records"):
        what = "_".join(str(line[n]) for n in ("order", "quantity", "measure") if n in line)
        parts = [what, *(str(line[name]) for name in other), str(line.get("method", ""))]
        kind = "auc" if value == "auc" else "measure"
        found["/".join(part for part in (kind, *parts) if part)] = float(line[value])
    return found


def curves(rows: pd.DataFrame) -> Iterator[dict[str, float]]:
    """Mean perturbation curves, in percent: all of one fraction at a time.

    Names are `curve/<order>_<quantity>/<method>`, with model and guide in between where there are
    several; nothing where the rows are not of a perturbation study.
    """
    if not {"fraction", "order", "method", *QUANTITIES.values()} <= set(rows):
        return
    several = [n for n in ("model", "guide") if n in rows and rows[n].nunique() > 1]
    names = ["order", *several, "method"]
    for fraction, part in rows.groupby("fraction"):
        step = {"fraction": float(str(fraction))}
        for keys, own in part.groupby(names):
            order, *rest = map(str, keys)
            for quantity, column in QUANTITIES.items():
                name = "/".join(["curve", f"{order}_{quantity}", *rest])
                step[name] = 100 * float(own[column].mean())
        yield step


def sample(rows: pd.DataFrame) -> pd.DataFrame:
    """All rows of a few images, the same few in every run; without raw maps."""
    ids = sorted(rows["image_id"].unique(), key=_rank)[:SAMPLE_IMAGES]
    plain = [name for name in rows if not isinstance(rows[name].iloc[0], bytes)]
    return rows.loc[rows["image_id"].isin(ids), plain].head(SAMPLE_ROWS).reset_index(drop=True)


def _rank(image_id: str) -> str:
    return hashlib.sha256(str(image_id).encode()).hexdigest()
