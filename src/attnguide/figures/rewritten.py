"""Pictures before and after a rewrite, and what has changed, drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from attnguide.figures.experiment import Stored
from attnguide.store.maps import stored_picture
from attnguide.viz.panels import Panel, draw_panels, short_name


def draw_rewrites(stored: Stored) -> tuple[Figure, dict[str, Figure]]:
    """Before, after and difference of the shown pictures of every model, the first apart."""
    parts = stored.shown.groupby("model", sort=False)
    figures = {f"Pictures of {model}": _panels(stored, own) for model, own in parts}
    return figures.pop(next(iter(figures))), figures


def _panels(stored: Stored, rows: pd.DataFrame) -> Figure:
    lines, titles = [], []
    row: Any
    for row in rows.itertuples():
        original, updated = _pictures(stored, f"{row.model} {row.image_id}")
        change = updated.astype(int) - original
        factor = max(1, int(127 // max(1, np.quantile(np.abs(change), 0.99))))
        amplified = (127.5 + factor * change).clip(0, 255).astype(np.uint8)
        note = f"largest {row.largest} of 255, {row.psnr:.1f} dB\n{row.steps} steps"
        times = f"difference \N{MULTIPLICATION SIGN} {factor}\n{note}"
        panels = [(original, row.before), (updated, row.after), (amplified, times)]
        lines.append([Panel(picture, note=words) for picture, words in panels])
        titles.append(f"{short_name(row.source_name)} to {short_name(row.goal_name)}")
    columns = ["original", "updated", "difference"]
    return draw_panels(lines, column_titles=columns, row_titles=titles, panel_width=1.75)


def _pictures(stored: Stored, name: str) -> Iterator[Any]:
    for which in ("original", "updated"):
        yield stored_picture(stored.run_dir, f"{name} {which}")
