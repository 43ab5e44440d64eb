"""Figure 13: all class-sensitive methods on pictures of two classes, with the signed shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from attnguide.evaluation.localisation import (
    both_signs,
    net_negative,
    net_positive,
    positive_share,
)
from attnguide.evaluation.statistics import HOLDS
from attnguide.figures.bands import draw_bands
from attnguide.figures.claims import COLUMNS, difference, judge, mean, tables_of
from attnguide.figures.experiment import Choices, Stored
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.phenomena import check_class_sensitive
from attnguide.figures.shown import ShownView
from attnguide.figures.table_figure import Plot
from attnguide.viz.style import method_label, signed

BOTH, OTHER = "both signs right", "positive mass on the other"
MORE_OFTEN = "complete has both signs right more often than"


@dataclass
class Fig13MethodComparison(MapFigure):
    """Measure two-class pictures by every method; show some, both targets."""

    shown: int = 2
    limits: dict[str, int] = field(default_factory=lambda: {"vit_cx": 4, "tis": 4})

    title = "Figure 13: all class-sensitive methods"
    claim = (
        "In pictures of two classes, only complete gradient correction gives positive relevance to "
        "the target and negative relevance to the other class at once; other methods give positive "
        "relevance to the other class, and some have difficulty in distinguishing classes."
    )
    pairs = True
    measures = {
        "sign right on the target": net_positive("target"),
        "sign right on the other": net_negative("other"),
        BOTH: both_signs,
        "positive mass on the target": positive_share("target"),
        OTHER: positive_share("other"),
        "positive mass on the background": positive_share("background"),
    }
    plots = tuple(Plot(name, (name,)) for name in measures)

    def check(self, choices: Choices) -> None:
        """Methods that can tell classes apart."""
        check_class_sensitive(choices)
        super().check(choices)

    def judged(self, stored: Stored) -> pd.DataFrame:
        """Every method's signs; whether only complete has both right, and whether it is best."""
        rivals = [method for method in stored.methods if method != "complete"]
        claims = [
            mean(method, BOTH, f"{method_label(method)} has both signs right, in most", above=0.5)
            for method in stored.methods
        ]
        claims += [
            difference("complete", rival, BOTH, f"{MORE_OFTEN} {method_label(rival)}", above=0)
            for rival in rivals
        ]
        tables = tables_of(stored.rows, self.asked(), self.by, stored.seed)
        found = judge(claims, tables)
        only = [self._only(model, own) for model, own in found.groupby("model", sort=False)]
        return pd.concat([pd.DataFrame(only, columns=list(COLUMNS)), found], ignore_index=True)

    def _only(self, model: str, judged: pd.DataFrame) -> dict[str, object]:
        """That no other method has both signs right in most pictures: the best rival decides."""
        own = judged[judged["claim"].str.endswith("has both signs right, in most")]
        rivals = own[~own["claim"].str.startswith("complete has")]
        best = rivals.sort_values("value", kind="stable").iloc[-1]
        name = best["claim"].removesuffix(" has both signs right, in most")
        decided = {HOLDS: "does not hold", "does not hold": HOLDS}
        line = best.to_dict() | {
            "model": model,
            "claim": f"only complete has both signs right in most; the best other method is {name}",
            "verdict": decided.get(best["verdict"], best["verdict"]),
        }
        return line

    def panels(self, shown: Sequence[ShownView], methods: Sequence[str]) -> Figure:
        """Bands of methods; in each a row per picture and target."""
        return draw_bands(shown, methods, self.note)

    def note(self, view: ShownView, method: str, place: int) -> str:  # noqa: ARG002
        """How like the same method's map of the other class is."""
        alike = view.row(method, 1)["correlation"]
        return f"r = {signed(alike)}" if alike == alike else "a map of zeros"
