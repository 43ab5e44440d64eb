"""Figure 8: the same pictures alone and with a guide image of another class beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import ALONE, View, guided_kind, to_guided_view, to_view, ways_of
from attnguide.errors import InputError
from attnguide.evaluation.localisation import (
    guided_share,
    net_positive,
    own_net_positive,
    positive_within,
)
from attnguide.evaluation.statistics import Estimate
from attnguide.figures.beside import COMPOSED, draw_guided
from attnguide.figures.claims import Claim, Table, judge, tables_of
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.phenomena import INTERPRETED, RED, SIGN
from attnguide.figures.table_figure import Plot
from attnguide.guides import Guide, check_guide

OWN, SHARE = "sign right on the picture's part", "mass of the right sign in its part"


def with_guide(measure: str) -> Claim:
    """That a guide raises a measure of the complete rule on the same pictures."""

    def gap(table: Table) -> Estimate:
        rows = table.rows
        alone, guided = rows[rows["view"] == ALONE], rows[rows["main"]]
        return replace(table, rows=pd.concat([alone.assign(method="alone"), guided])).gap(
            "complete", "alone", measure
        )

    return Claim(f"complete: {measure}, guided minus alone", gap, above=0, methods=("complete",))


@dataclass
class Fig08Guided(MapFigure):
    """Measure the same pictures alone, guided, and with the guide put in other ways.

    Attributes:
        fractions: The guide's shares of the canvas in the sweep, moved to patch borders.
        sweep_images: On how many pictures the sweep is measured.
    """

    fractions: list[float] = field(default_factory=lambda: [0.25, 0.75])
    sweep_images: int = 32

    title = "Figure 8: a guide image beside the picture"
    claim = (
        "With a guide image of another class beside it, complete gradient correction fully "
        "interprets the target's region in a picture on which it fails alone."
    )
    takes = MapFigure.takes | {"guide"}
    by = ("model", "view", "method")
    measures = {
        SIGN: net_positive("target"),
        OWN: own_net_positive,
        RED: positive_within("target"),
        SHARE: guided_share,
    }
    plots = tuple(Plot(name, (name,), chance=0.5) for name in measures)

    def check(self, choices: Choices) -> None:
        """The guide, and its other places."""
        if not choices.guide.is_shown:
            raise InputError("this figure needs a guide; pass guide=right, left, top or bottom")
        for fraction in self.fractions:
            check_guide(choices.guide.layout, fraction, choices.guide.fit)
        super().check(choices)

    def items(self, study: Study) -> Selection:
        """As of every figure of maps; the caption names the guide."""
        found = super().items(study)
        assert study.guide_picture is not None
        return replace(found, note=f"The guide is {study.guide_picture.name}. {found.note}".strip())

    def views(self, study: Study, item: Item, sample: Sample) -> list[View]:
        """Alone and guided; of the first pictures, also with every other way to put the guide."""
        guide = study.guide_picture
        assert guide is not None
        swept = item.number < self.sweep_images if item.measured else item.shown == 0
        ways = ways_of(study.vit, study.guide, self.fractions) if swept else [study.guide]
        views = [to_view(study.vit, sample)]
        views += [to_guided_view(study.vit, sample, guide, way) for way in ways]
        other = study.pictures.compose(study.vit, sample, guide.label or 0) if swept else None
        if other is not None:
            views.append(replace(to_view(study.vit, other), kind=COMPOSED))
        return views

    def judged(self, stored: Stored) -> pd.DataFrame:
        """Alone, and guided against alone on the same pictures."""
        main = _main(stored)
        rows = stored.rows.assign(main=stored.rows["view"] == main)
        both = tables_of(rows, self.asked(), ("model", "method"), stored.seed)
        alone = [(m, replace(t, rows=t.rows[t.rows["view"] == ALONE])) for m, t in both]
        gaps = [with_guide(name) for name in (SIGN, OWN, RED)]
        return pd.concat([judge(INTERPRETED, alone), judge(gaps, both)], ignore_index=True)

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Maps alone and guided; the sweep of the first picture."""
        return draw_guided(stored, _main(stored))


def _main(stored: Stored) -> str:
    """Kind of the views with the guide as configured."""
    chosen = {key: value for key, value in stored.config["guide"].items() if key[0] != "_"}
    return guided_kind(Guide(**chosen))
