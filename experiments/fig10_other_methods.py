"""Figure 10: the framed case of Figure 9 by every other method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.user_pictures import given_pictures
from attnguide.data.views import View
from attnguide.evaluation import detail
from attnguide.evaluation.localisation import net_share
from attnguide.evaluation.statistics import Estimate
from attnguide.figures import contamination
from attnguide.figures.claims import Claim, Only, Table, judge
from attnguide.figures.contamination import (
    ContaminationFigure,
    draw_changes,
    draw_maps,
    label_of,
    methods_of,
    shown_by_model,
)
from attnguide.figures.experiment import Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import join, to_show
from attnguide.figures.table_figure import OwnPictures
from attnguide.methods import Method
from attnguide.viz.panels import short_name

SPEAKS_MORE = "contaminated labels make the part speak more for the class it was mixed into"
SHOWN_ALONE = {"attention_flow": 0, "vit_cx": 0}  # minutes for the pictures that are not shown
NOT_COMPARED = (
    "complete_libra",
    "gae_libra",
    "cp_lrp",
    "attn_lrp",
    "legrad",
    "attcat",
    "cdam",
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
)  # by the paper, here


@dataclass
class Fig10OtherMethods(MethodStudy, OwnPictures, ContaminationFigure):
    """Explain one picture for the class it shows and for the class it was mixed into."""

    limits: dict[str, int] = field(default_factory=SHOWN_ALONE.copy)

    title = "Figure 10: the bald-eagle case by other methods"
    claim = (
        "Of all methods, only detail interpretation uncovers that the training pictures of a class "
        "were mixed with another's."
    )
    key = ("image_id", "model", "method", "target")
    by = ("model", "method", "role")
    measures = {"signed share of the part": net_share("part")}
    own_classes = 2  # the class shown, and the one it was mixed into
    budget = (4, 4)
    leaves_out = MethodStudy.leaves_out | {*NOT_COMPARED, "absolute_libra"}

    def items(self, study: Study) -> Selection:
        """The framed picture, and where the part is known, more pictures of its class."""
        vit, data = study.vit, study.pictures
        shown = (
            contamination.apart(given_pictures(vit, self.pictures[:1]), "given")
            if self.pictures
            else Selection((contamination.framed_item(study),))
        )
        return join(
            to_show(shown, measured=True),
            Selection(tuple(data.impostors(vit, data.num_images or 1))),
        )

    def inputs(self, study: Study, item: Item, sample: Sample) -> tuple[View, tuple[int, int]]:
        """The picture, and the class it was mixed into before the class it shows."""
        given = (sample.targets[1], sample.targets[0]) if item.part == "given" else None
        return detail.to_part_view(study.vit, sample), given or contamination.framed_classes(study)

    def table(self, study: Study, entries: Entries, methods: Mapping[str, Method]) -> pd.DataFrame:
        """A row per picture, method and class."""
        views, classes = zip(*(own for _, own in entries), strict=True)
        shown = [item.shown is not None for item, _ in entries]
        table = detail.two_class_rows(study.vit, views, classes, shown, methods)
        return table.assign(labels=contamination.labels_of(study))

    def seen(self, inputs: Any) -> list[View]:
        """The picture without its classes."""
        return [inputs[0]]

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
        changes = [
            Claim(f"fig10.change.{method}", f"{label_of(method)}: {SPEAKS_MORE}",
                  partial(_change, method), above=0, methods=(method,), about=label_of(method))
            for method in methods_of(stored)
        ]  # fmt: skip
        only = Only("fig10.only_detail", "only detail interpretation uncovers the mixture", changes)
        return judge([only, *changes], [(name, Table(rows, {}, stored.seed)) for name in mixed])

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
        return answers + [contamination.FOR_THE_EYE] * bool(unknown)

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What the rows of panels are."""
        rows = shown_by_model(stored)[0]
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
        own = shown_by_model(stored)
        figures = {f"Maps of {p['model'].iloc[0]}": draw_maps(stored, p) for p in own[1:]}
        changes = self.judged(stored)
        changes = changes[changes["id"].str.startswith("fig10.change.")]
        if len(changes):
            figures["What changes with the contamination"] = draw_changes(
                changes, methods_of(stored)
            )
        return draw_maps(stored, own[0]), figures


def _change(method: str, table: Table) -> Estimate:
    """What contamination changes in how much more the part speaks for the mixed class."""
    return detail.contamination_change(table.of(method), detail.mixed_minus_shown, table.seed)
