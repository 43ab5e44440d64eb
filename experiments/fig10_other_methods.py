"""Figure 10: the framed case of Figure 9 by every other method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.user_pictures import given_pictures
from attnguide.data.views import View
from attnguide.evaluation import detail
from attnguide.evaluation.detail import DETAIL
from attnguide.evaluation.localisation import net_share
from attnguide.figures import contamination
from attnguide.figures.claims import Claim, Only, Table, judge
from attnguide.figures.contamination import label_of, methods_of, shown_by_model
from attnguide.figures.experiment import Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import join, to_show
from attnguide.figures.table_figure import OwnPictures
from attnguide.methods import Method
from attnguide.viz.panels import short_name

SPEAKS_MORE = "contaminated labels shift the part's relevance towards the class it was mixed into"
SHOWN_ALONE = {"attention_flow": 0, "vit_cx": 0}  # minutes for the pictures that are not shown
NOT_COMPARED = (  # by the paper, here
    *("complete_libra", "gae_libra", "cp_lrp", "attn_lrp", "legrad", "attcat", "cdam"),
    *("input_x_gradient", "integrated_gradients", "smoothgrad"),
)


@dataclass
class Fig10OtherMethods(MethodStudy, OwnPictures, contamination.ContaminationFigure):
    """Explain one picture for the class it shows and for the class it was mixed into."""

    limits: dict[str, int] = field(default_factory=SHOWN_ALONE.copy)

    title = "Figure 10: the bald-eagle case by other methods"
    claim = (
        "Of all methods, only detail interpretation uncovers that the training pictures of a class "
        "were mixed with another's."
    )
    key = ("image_id", "model", "method", "target")
    by = ("model", "method", "role")
    measures = {
        "signed share of the part": net_share("part"),
        "positive share of the map": detail.positive_share_of_map,
    }
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
        mixed = data.impostors(vit, data.num_images or 1)
        return join(to_show(shown, measured=True), Selection(tuple(mixed)))

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

    def views_of(self, inputs: Any) -> list[View]:
        """The picture without its classes."""
        return [inputs[0]]

    def claims_table(self, stored: Stored) -> pd.DataFrame:
        """How each method's maps change with the contamination; whether detail's alone do."""
        rows = stored.rows
        mixed = rows.loc[rows["labels"] == "contaminated", "model"].unique()
        changes = [
            Claim(f"fig10.change.{method}", f"{label_of(method)}: {SPEAKS_MORE}",
                  contamination.change_by(method), above=0, methods=(method,),
                  about=label_of(method), section="4.4.3", family="fig10.change",
                  source="paper" if method == DETAIL else "ours")
            for method in methods_of(stored)
        ]  # fmt: skip
        only = Only("fig10.only_detail", "only detail interpretation uncovers the mixture", changes)
        return judge([only, *changes], [(name, Table(rows, {}, stored.seed)) for name in mixed])

    def remarks(self, stored: Stored) -> list[str]:
        """What each model answers; on photographs, what cannot be measured."""
        return [*contamination.answers(stored)]

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What the rows of panels are."""
        rows = shown_by_model(stored)[0]
        names = rows.drop_duplicates("role").set_index("role")["target_name"].map(short_name)
        return (
            f"{rows['model'].iloc[0]}: one picture explained for the class whose training pictures "
            f"were mixed (above, {names['mixed']}) and for the class it shows (below, "
            f"{names['shown']}), by every method. Red frame: {label_of(DETAIL)}, each class "
            "against the other. Numbers: signed share of the part for the mixed class, minus that "
            "for the class shown; contaminated minus clean labels, same pictures."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Maps of the model of contaminated labels first; then of the others, and the changes."""
        return contamination.draw_case(stored, self.claims_table(stored))
