"""The framed picture by every method, drawn; what contamination changes in its maps, judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from attnguide.evaluation.detail import (
    DETAIL,
    ROLES,
    contamination_change,
    mixed_minus_shown,
)
from attnguide.evaluation.statistics import INCONCLUSIVE, DOES_NOT_HOLD, HOLDS, Estimate
from attnguide.figures.claims import Table
from attnguide.figures.experiment import Stored
from attnguide.store.maps import relevance_of, stored_picture
from attnguide.viz.dots import Dot, DotPanel, draw_dots
from attnguide.viz.panels import RED_FRAME, Panel, draw_panels, short_name
from attnguide.viz.style import method_label

BAND = 7  # panels beside each other


def label_of(method: str) -> str:
    """What the figure calls a method, detail interpretation among them."""
    return "detail, Eq. 8" if method == DETAIL else method_label(method)


def methods_of(stored: Stored) -> list[str]:
    """Detail interpretation first, then the methods."""
    return [DETAIL, *(method for method in stored.methods if method != DETAIL)]


def shown_by_model(stored: Stored) -> list[pd.DataFrame]:
    """Rows of the picture of each model, contaminated labels first."""
    own = [rows for _, rows in stored.shown.groupby("model", sort=False)]
    return sorted(own, key=lambda rows: rows["labels"].iloc[0] != "contaminated")


def draw_maps(stored: Stored, rows: pd.DataFrame) -> Figure:
    """Two panels per method, the mixed class above; the picture comes first."""
    first = rows.iloc[0]
    picture = stored_picture(stored.run_dir, f"{first['model']} {first['image_id']}")
    cells: list[list[Panel | None]] = [[Panel(picture, title="image", note=first["note"]), None]]
    for method in methods_of(stored):
        own = rows[rows["method"] == method].set_index("role")
        frame = RED_FRAME if method == DETAIL else None
        cells.append(
            [
                Panel(
                    picture,
                    relevance_of(own.loc[role]),
                    label_of(method) if role == "mixed" else "",
                    short_name(str(own.loc[role, "target_name"])),
                    frame,
                )
                for role in ROLES
            ]
        )
    bands = [cells[start : start + BAND] for start in range(0, len(cells), BAND)]
    lines = [[cell[place] for cell in band] for band in bands for place in (0, 1)]
    return draw_panels(lines, panel_width=1.15)


def draw_changes(changes: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """How each method's maps change with the contamination: lines of claims.csv as dots."""
    by_label = {label_of(method): method for method in methods}
    rows = []
    for line in changes.to_dict("records"):
        name = line["claim"].partition(":")[0]
        rows.append((name, [Dot(by_label[name], line["value"], line["low"], line["high"])]))
    reach = 1.1 * float(changes[["low", "high"]].abs().to_numpy().max()) or 1.0
    x_label = "signed share of the part, mixed minus shown class"
    title = "Contaminated minus clean labels"
    return draw_dots([DotPanel(title, x_label, rows, (-reach, reach), chance=0.0)])


def change_of(method: str, table: Table) -> Estimate:
    """What contamination changes in how much more the part speaks for the mixed class."""
    return contamination_change(table.of(method), mixed_minus_shown, table.seed)


def only_detail(judged: pd.DataFrame) -> dict[Any, Any]:
    """That no other method uncovers the mixture; the numbers are those that decide it."""
    own, others = judged.iloc[0], judged.iloc[1:].sort_values("value", ascending=False)
    able, unclear = (others[others["verdict"] == v] for v in (HOLDS, INCONCLUSIVE))
    line, verdict, why = own, str(own["verdict"]), "its own change decides"
    if verdict != DOES_NOT_HOLD and len(able):
        line, verdict, why = able.iloc[0], DOES_NOT_HOLD, "another does too"
    elif verdict == HOLDS and len(unclear):
        line, verdict, why = unclear.iloc[0], INCONCLUSIVE, "another may do too"
    claim = f"only detail interpretation uncovers the mixture ({why}: "
    name = str(line["claim"]).partition(":")[0]
    return line.to_dict() | {"claim": f"{claim}{name})", "verdict": verdict}
