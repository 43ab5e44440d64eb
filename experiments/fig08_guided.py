"""Figure 8: the same pictures alone and with a guide image of another class beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import (
    ALONE,
    View,
    beside_company,
    guided_kind,
    to_guided_view,
    to_view,
    ways_of,
)
from attnguide.evaluation import localisation
from attnguide.evaluation.fills import seed_of_name
from attnguide.figures import phenomena
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.shown import draw_beside, parts_note, views_in
from attnguide.figures.table_figure import Plot, one_per_model
from attnguide.guides import Guide, check_guide
from attnguide.viz.panels import draw_panels

SHARE = "mass of the right sign in its part"
COMPOSED = "composed"  # kind of views in which the guide's object stands in the picture itself
PER_ROW = 5  # panels of the sweep


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
    uses = MapFigure.uses | {"guide"}
    needs_guide = True
    by = ("model", "view", "method")
    measures = {
        phenomena.SIGN: localisation.net_positive("target"),
        phenomena.OWN: localisation.own_net_positive,
        phenomena.RED: localisation.positive_within("target"),
        SHARE: localisation.guided_share,
        phenomena.RIGHT: localisation.right_signs,
    }
    claims_by = ("model",)
    claims = (
        *(claim.where("view", ALONE) for claim in phenomena.interpreted("fig08")),
        *phenomena.repaired("fig08"),
        *phenomena.more_than_company("fig08"),
    )
    plots = tuple(Plot(name, (name,), chance=0.5) for name in measures)

    def check(self, choices: Choices) -> None:
        """The guide, and its other places."""
        super().check(choices)
        for fraction in self.fractions:
            check_guide(choices.guide.layout, fraction, choices.guide.fit)

    def items(self, study: Study) -> Selection:
        """As of every figure of maps; the caption names the guide."""
        found = super().items(study)
        names = ", ".join(guide.name for guide in study.guide_pictures)
        return replace(found, note=f"The guide is {names}. {found.note}".strip())

    def inputs(self, study: Study, item: Item, sample: Sample) -> list[View]:
        """Alone and guided; of the first pictures, also with every other way to put the guide."""
        guides = study.guides_of(sample.targets)
        swept = item.number < self.sweep_images if item.measured else item.shown == 0
        ways = ways_of(study.vit, study.guide, self.fractions) if swept else [study.guide]
        views = [to_view(study.vit, sample)]
        views += [to_guided_view(study.vit, sample, guides, way) for way in ways]
        views += beside_company(study.vit, sample, study.guide, seed_of_name(sample.id, study.seed))
        other = study.pictures.compose(study.vit, sample, guides[0].label or 0) if swept else None
        if other is not None:
            views.append(replace(to_view(study.vit, other), kind=COMPOSED))
        return views

    def select_rows(self, stored: Stored) -> pd.DataFrame:
        """Rows that say whether they are of the guide as configured."""
        return stored.rows.assign(main=stored.rows["view"] == _main(stored))

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Maps alone and guided; the sweep of the first picture."""
        main, methods = _main(stored), stored.methods
        figure, more = one_per_model(
            "Maps of", stored.shown, lambda own: draw_beside(views_in(stored, own), main, methods)
        )
        _, rows = next(iter(stored.shown.groupby(["model", "image_id"], sort=False)))
        swept = views_in(stored, rows)
        panels = [
            view.panel(methods[0], 0, parts_note(view, methods[0]), view.kind) for view in swept
        ]
        sweep = draw_panels([panels[n : n + PER_ROW] for n in range(0, len(panels), PER_ROW)])
        return figure, more | {"Other places, shares and fits of the guide": sweep}


def _main(stored: Stored) -> str:
    """Kind of the views with the guide as configured."""
    chosen = {key: value for key, value in stored.config["guide"].items() if key[0] != "_"}
    return guided_kind(Guide(**chosen))
