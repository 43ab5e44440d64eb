"""Where every method puts its relevance: two classes, a guide beside, grids of four pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import NonNegativeInt, PositiveInt

from attnguide.data.grids import grids
from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.user_pictures import given_pictures
from attnguide.data.views import View, to_view
from attnguide.evaluation import localisation
from attnguide.figures.claims import MethodComparison, slug
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.map_figure import MapFigure, check_reference
from attnguide.figures.phenomena import check_class_sensitive
from attnguide.figures.selecting import in_part, join, to_show
from attnguide.figures.shown import ShownView, draw_bands
from attnguide.figures.table_figure import Plot
from attnguide.viz.style import method_label, signed

PAIRS, GUIDED, GRIDS = "pairs", "guided", "grids"  # parts of the study
ON, OTHER, BOTH = "positive on the target", "negative on the other", "both signs right"
POINTING = "grid pointing"
COMPARISONS = (  # method, measure, part of the study
    ("complete", BOTH, PAIRS), ("complete", ON, PAIRS), ("complete", BOTH, GUIDED),
    ("complete", POINTING, GRIDS), ("gae", ON, PAIRS), ("gae", POINTING, GRIDS),
)  # fmt: skip
WHERE = {PAIRS: "two classes: ", GUIDED: "with a guide: ", GRIDS: ""}


@dataclass
class Localization(MapFigure):
    """Measure all maps of pictures whose objects are known; show grids.

    Attributes:
        grids: How many grids of four pictures are made.
    """

    grids: NonNegativeInt = 12
    shown: PositiveInt = 2

    title = "Localisation: where every method puts its relevance"
    claim = (
        "Complete gradient correction gives positive relevance to the class that is explained and "
        "negative relevance to other classes, in pictures of several classes and beside a guide."
    )
    uses = MapFigure.uses | {"guide"}
    needs_guide = True
    pairs = True
    budget = (8, 4)
    class_sensitive = True
    by = ("model", "part", "method")
    claims_by = ("model",)
    claims = tuple(
        MethodComparison(f"localization.{part}.{slug(measure)}", first, measure,
                         f"{WHERE[part]}{measure}, {method_label(first)} minus", where=part)
        for first, measure, part in COMPARISONS
    )  # fmt: skip
    measures = {
        ON: localisation.positive_share("target"),
        OTHER: localisation.negative_share("other"),
        "positive on the background": localisation.positive_share("background"),
        BOTH: localisation.both_signs,
        POINTING: localisation.grid_pointing,
        "rank correlation between targets": localisation.column("rank_correlation"),
    }
    plots = tuple(
        Plot(name, (name,), limits=(-1.0, 1.0) if "correlation" in name else (0.0, 1.0),
             chance=0.25 if name == POINTING else None)
        for name in measures
    )  # fmt: skip

    def check(self, choices: Choices) -> None:
        """Methods that can tell classes apart."""
        check_class_sensitive(choices)
        check_reference(choices, pairs=True, words=("runner-up",))  # one class beside a guide
        super().check(choices)

    def items(self, study: Study) -> Selection:
        """Two-class pictures, singles to be guided, grids; the first grids are shown."""
        vit, data = study.vit, study.pictures
        singles = data.singles(vit, exclude=study.guide_classes)
        made = grids(vit, singles.items, self.grids, data.seed)
        shown = made.items or in_part(data.pairs(vit), PAIRS).items
        if self.pictures:
            shown = in_part(given_pictures(vit, self.pictures), PAIRS).items
        return join(
            in_part(data.pairs(vit), PAIRS),
            in_part(data.boxed(vit), "boxed"),
            in_part(singles, GUIDED),
            made,
            to_show(Selection(shown[: self.shown])),
        )

    def inputs(self, study: Study, item: Item, sample: Sample) -> list[View]:
        """The picture; of singles, with the guide beside it."""
        if item.part != GUIDED:
            return [to_view(study.vit, sample)]
        return [study.guided_view(sample)]

    def group(self, item: Item) -> str:
        """Part by part: the number of targets differs."""
        return item.part

    def select_rows(self, stored: Stored) -> pd.DataFrame:
        """Beside a guide the target is the picture's own part, and the other is the guide."""
        rows = stored.rows.copy()
        guided = rows["part"] == GUIDED
        for kind in ("positive", "negative", "area"):
            for region, source in (("target", "own"), ("other", "guide"), ("background", "")):
                values = rows[f"{kind}_{source}"] if source else np.nan
                rows[f"{kind}_{region}"] = rows[f"{kind}_{region}"].where(~guided, values)
        cells = (rows["part"] == GRIDS) & (rows["area_background"] == 0)
        rows["positive_background"] = rows["positive_background"].where(~cells)
        return rows

    def remarks(self, stored: Stored) -> list[str]:  # noqa: ARG002
        """How rivals are compared."""
        return ["Differences are paired, and corrected for the number of rivals after Holm."]

    def panels(self, shown: Sequence[ShownView], methods: Sequence[str]) -> Figure:
        """Bands of methods; the first two targets of each grid."""
        return draw_bands(shown, methods, self.note, places=2)

    def note(self, view: ShownView, method: str, place: int) -> str:
        """Signed mass of the target's cell."""
        return f"own cell {signed(view.net(method, place, 'target'))}"
