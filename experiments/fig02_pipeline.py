"""Figure 2: the pipeline drawn from data, and what its steps do in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from matplotlib.figure import Figure

from attnguide.data.pictures import Item, Selection
from attnguide.data.user_pictures import given_pictures
from attnguide.evaluation.localisation import column
from attnguide.evaluation.pipeline_rows import pipeline_rows, unpack_steps
from attnguide.evaluation.rows import first_targets
from attnguide.figures.claims import Claim, at
from attnguide.figures.experiment import Rows, Stored, Study
from attnguide.figures.selecting import join, to_show
from attnguide.figures.shown import pictures_of
from attnguide.figures.table_figure import OwnPictures
from attnguide.viz.panels import short_name
from attnguide.viz.pipeline import draw_pipeline

DROPPED = "share of gradient times attention below zero"
SUM = "correlation of the map with the plain sum over layers"
GAP = "gap between the class row and the whole product"


@dataclass
class Fig02Pipeline(OwnPictures):
    """Draw the first picture's way through the method; measure its steps on many."""

    title = "Figure 2: the pipeline"
    claim = (
        "Each layer's attention is multiplied by its gradient, averaged over heads, given the "
        "identity for the residual connection, and the layers are multiplied. GAE keeps the "
        "positive part of the gradient only; the complete correction keeps all of it."
    )
    shows = (
        "The complete correction on one picture ({model}), every tile drawn from its numbers. "
        "Matrices: token by token, the class token first, small numbers lifted; grey for "
        "attention, red and blue for signed numbers. Beneath: the row of the class token on "
        "the picture. Rollout: what the class row has gathered from the last layer down to "
        "the first."
    )
    by = ("model",)
    measures = {DROPPED: column("negative"), SUM: column("first_order"), GAP: column("gap")}
    claims = (
        Claim("fig02.dropped",
              "GAE drops a third or more of the magnitude of gradient times attention",
              at("", DROPPED), above=1 / 3, source="ours", section="4.2"),
        Claim("fig02.product",
              "the product over layers adds to a plain sum over layers: the correlation of their "
              "maps is low (the bound is ours)", at("", SUM), below=0.95, section="4.2"),
        Claim("fig02.class_row",
              "carrying the class row through the layers gives the class row of the whole product "
              "(Eq. 1 to 3), largest gap", at("", GAP), below=1e-4, section="3"),
    )  # fmt: skip

    def items(self, study: Study) -> Selection:
        """Pairs; one of them, or the user's picture, is drawn."""
        shown = (
            given_pictures(study.vit, self.pictures[:1])
            if self.pictures
            else study.pictures.shown_pairs(study.vit, 1)
        )
        return join(study.pictures.pairs(study.vit), to_show(shown))

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """One row per picture; map, matrices and picture of what is drawn."""
        vit, views = study.vit, [view for _, view in batch]
        shown = [item.shown is not None for item, _ in batch]
        table = pipeline_rows(vit, [item.id for item, _ in batch], *first_targets(views), shown)
        return Rows(table, pictures_of(vit, compress(views, shown)))

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """The drawing."""
        row = stored.shown.iloc[0]
        picture = stored.picture(row["model"], row["image_id"])
        steps = unpack_steps(row["steps"])
        return draw_pipeline(picture, short_name(row["target_name"]), steps), {}
