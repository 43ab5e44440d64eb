"""Figure 10: the framed case of Figure 9 by every other method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.given import check_pictures, given_pictures
from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import View, pixels_of
from attnguide.evaluation import detail
from attnguide.evaluation.detail import DETAIL, ROLES
from attnguide.evaluation.localisation import net_share
from attnguide.evaluation.statistics import CANNOT_BE_TOLD, DOES_NOT_HOLD, HOLDS, Estimate
from attnguide.figures import contaminated
from attnguide.figures.claims import COLUMNS, Claim, Table, judge
from attnguide.figures.contaminated import ContaminationFigure
from attnguide.figures.experiment import (
    Choices,
    Rows,
    Stored,
    Study,
    in_groups,
    join,
    limited,
    shown_only,
)
from attnguide.figures.map_figure import check_limits
from attnguide.store.maps import relevance_of, stored_picture
from attnguide.viz.dots import Dot, DotPanel, draw_dots
from attnguide.viz.panels import RED_FRAME, Panel, draw_panels, short_name
from attnguide.viz.style import method_label

SPEAKS_MORE = "contaminated labels make the part speak more for the class it was mixed into"
BAND = 7  # panels beside each other
# On how many pictures a slow method is measured.
LIMITS = {"attention_flow": 0, "vit_cx": 0, "dix": 4, "tis": 4}


@dataclass
class Fig10OtherMethods(ContaminationFigure):
    """Explain one picture for the class it shows and for the class it was mixed into.

    Attributes:
        pictures: The user's own to show instead: {file: PATH, classes: [SHOWN, MIXED]}; the first.
        limits: On how many of the pictures a slow method is measured, by its label.
    """

    pictures: list[dict[str, Any]] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=LIMITS.copy)

    title = "Figure 10: the bald-eagle case by other methods"
    claim = (
        "Of all methods, only detail interpretation uncovers that the training pictures of a class "
        "were mixed with another's."
    )
    takes = frozenset({"method"})
    key = ("image_id", "model", "method", "target")
    by = ("model", "method", "role")
    measures = {"signed share of the part": net_share("part")}

    def check(self, choices: Choices) -> None:
        """Limits, pictures and data."""
        check_limits(self.limits, choices)
        check_pictures(self.pictures, 2)
        super().check(choices)

    def items(self, study: Study) -> Selection:
        """The framed picture, and where the part is known, more pictures of its class."""
        vit, data = study.vit, study.pictures
        shown = (
            contaminated.apart(given_pictures(vit, self.pictures[:1]), "given")
            if self.pictures
            else Selection((contaminated.framed_item(study),))
        )
        shown = Selection(tuple(replace(i, measured=True) for i in shown_only(shown).items))
        return join(shown, Selection(tuple(data.impostors(vit, data.num_images or 1))))

    def inputs(self, study: Study, item: Item, sample: Sample) -> tuple[View, tuple[int, int]]:
        """The picture, and the class it was mixed into before the class it shows."""
        given = (sample.targets[1], sample.targets[0]) if item.part == "given" else None
        return detail.to_part_view(study.vit, sample), given or contaminated.framed_classes(study)

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """A row per picture, method and class."""
        vit, tables, pictures = study.vit, [], {}

        def methods(item: Item) -> tuple[str, ...]:
            return tuple(limited(study.methods, self.limits, item))

        for labels, entries in in_groups(batch, methods):
            views, classes = zip(*(own for _, own in entries), strict=True)
            shown = [item.shown is not None for item, _ in entries]
            chosen = {label: study.methods[label] for label in labels}
            tables.append(detail.two_class_rows(vit, views, classes, shown, chosen))
            pictures |= {
                f"{vit.name} {view.id}": pixels_of(vit, view.image)
                for view, is_shown in zip(views, shown, strict=True)
                if is_shown
            }
        table = pd.concat(tables, ignore_index=True)
        return Rows(table.assign(labels=contaminated.labels_of(study)), pictures)

    def summary(self, stored: Stored) -> pd.DataFrame:
        """Signed shares; where the part is not known, how much of each map is positive."""
        found = super().summary(stored)
        if len(found):
            return found
        rows = stored.shown
        columns = ["model", "method", "role", "target_name", "logit", "probability"]
        whole = rows["positive"] + rows["negative"]
        return rows[columns].assign(positive_share=rows["positive"] / whole)

    def judged(self, stored: Stored) -> pd.DataFrame:
        """How each method's maps change with the contamination; whether detail's alone do."""
        rows = stored.rows
        mixed = rows.loc[rows["labels"] == "contaminated", "model"].unique()
        claims = [
            Claim(f"{_label(m)}: {SPEAKS_MORE}", partial(_change, m), above=0, methods=(m,))
            for m in _methods(stored)
        ]
        found = judge(claims, [(name, Table(rows, {}, stored.seed)) for name in mixed])
        only = [_only(found)] if len(found) > 1 else []
        return pd.concat([pd.DataFrame(only, columns=list(COLUMNS)), found], ignore_index=True)

    def further(self, stored: Stored) -> list[str]:
        """What each model answers; on photographs, what cannot be measured."""
        answers = []
        for model, rows in stored.shown.groupby("model", sort=False):
            words = (
                f"{short_name(row.target_name)} {row.probability:.2f} (logit {row.logit:.1f})"
                for row in rows.drop_duplicates("role").itertuples()
            )
            answers.append(f"{model} gives the picture: {', '.join(words)}.")
        unknown = stored.rows["area_part"].isna().all()
        return answers + [contaminated.FOR_THE_EYE] * bool(unknown)

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What the rows of panels are."""
        rows = _shown(stored)[0]
        names = rows.drop_duplicates("role").set_index("role")["target_name"].map(short_name)
        return (
            f"{rows['model'].iloc[0]}: one picture explained for the class whose training pictures "
            f"were mixed (above, {names['mixed']}) and for the class it shows (below, "
            f"{names['shown']}), by every method. Red frame: detail interpretation by Eq. 8, the "
            "other class as reference. Numbers: signed share of the part for the mixed class, "
            "minus that for the class shown; contaminated minus clean labels, same pictures."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Maps of the model of contaminated labels first; then of the others, and the changes."""
        own = _shown(stored)
        figures = {f"Maps of {p['model'].iloc[0]}": _maps(stored, p) for p in own[1:]}
        changes = self.judged(stored).iloc[1:]
        if len(changes):
            figures["What changes with the contamination"] = _dots(changes, _methods(stored))
        return _maps(stored, own[0]), figures


def _change(method: str, table: Table) -> Estimate:
    return detail.contamination_change(table.of(method), detail.mixed_minus_shown, table.seed)


def _label(method: str) -> str:
    return "detail, Eq. 8" if method == DETAIL else method_label(method)


def _methods(stored: Stored) -> list[str]:
    return [DETAIL, *(method for method in stored.methods if method != DETAIL)]


def _shown(stored: Stored) -> list[pd.DataFrame]:
    """Rows of the picture of each model, contaminated labels first."""
    own = [rows for _, rows in stored.shown.groupby("model", sort=False)]
    return sorted(own, key=lambda rows: rows["labels"].iloc[0] != "contaminated")


def _only(judged: pd.DataFrame) -> dict[Any, Any]:
    """That no other method uncovers the mixture; the numbers are those that decide it."""
    own, others = judged.iloc[0], judged.iloc[1:].sort_values("value", ascending=False)
    able, unclear = (others[others["verdict"] == v] for v in (HOLDS, CANNOT_BE_TOLD))
    line, verdict, why = own, str(own["verdict"]), "its own change decides"
    if verdict != DOES_NOT_HOLD and len(able):
        line, verdict, why = able.iloc[0], DOES_NOT_HOLD, "another does too"
    elif verdict == HOLDS and len(unclear):
        line, verdict, why = unclear.iloc[0], CANNOT_BE_TOLD, "another may do too"
    claim = f"the claim that only detail interpretation uncovers the mixture ({why}: "
    name = str(line["claim"]).partition(":")[0]
    return line.to_dict() | {"claim": f"{claim}{name})", "verdict": verdict}


def _maps(stored: Stored, rows: pd.DataFrame) -> Figure:
    """Two panels per method, the mixed class above; the picture comes first."""
    first = rows.iloc[0]
    picture = stored_picture(stored.run_dir, f"{first['model']} {first['image_id']}")
    cells: list[list[Panel | None]] = [[Panel(picture, title="image", note=first["note"]), None]]
    for method in _methods(stored):
        own = rows[rows["method"] == method].set_index("role")
        frame = RED_FRAME if method == DETAIL else None
        cells.append(
            [
                Panel(
                    picture,
                    relevance_of(own.loc[role]),
                    _label(method) if role == "mixed" else "",
                    short_name(own.loc[role, "target_name"]),
                    frame,
                )
                for role in ROLES
            ]
        )
    bands = [cells[start : start + BAND] for start in range(0, len(cells), BAND)]
    lines = [[cell[place] for cell in band] for band in bands for place in (0, 1)]
    return draw_panels(lines, panel_width=1.15)


def _dots(changes: pd.DataFrame, methods: Sequence[str]) -> Figure:
    by_label = {_label(method): method for method in methods}
    rows = []
    for line in changes.to_dict("records"):
        name = line["claim"].partition(":")[0]
        rows.append((name, [Dot(by_label[name], line["value"], line["low"], line["high"])]))
    reach = 1.1 * float(changes[["low", "high"]].abs().to_numpy().max()) or 1.0
    x_label = "signed share of the part, mixed minus shown class"
    title = "Contaminated minus clean labels"
    return draw_dots([DotPanel(title, x_label, rows, (-reach, reach), chance=0.0)])
