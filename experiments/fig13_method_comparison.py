"""Figure 13: all class-sensitive methods on pictures of two classes, with the signed shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from pydantic import PositiveInt

from attnguide.evaluation.localisation import (
    both_signs,
    net_negative,
    net_positive,
    positive_share,
)
from attnguide.figures.bands import draw_bands
from attnguide.figures.claims import Best, Judged, difference, mean
from attnguide.figures.experiment import Choices, Stored
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.method_study import MethodStudy
from attnguide.figures.phenomena import check_class_sensitive
from attnguide.figures.shown import ShownView
from attnguide.figures.table_figure import Plot
from attnguide.viz.style import method_label, signed

BOTH, OTHER = "both signs right", "positive mass on the other"
MORE_OFTEN = "complete has both signs right more often than"


@dataclass
class Fig13MethodComparison(MapFigure):
    """Measure two-class pictures by every method; show some, both targets."""

    shown: PositiveInt = 2

    title = "Figure 13: all class-sensitive methods"
    claim = (
        "In pictures of two classes, only complete gradient correction gives positive relevance to "
        "the target and negative relevance to the other class at once; other methods give positive "
        "relevance to the other class, and some have difficulty in distinguishing classes."
    )
    pairs = True
    budget = (None, 4)
    class_sensitive = True
    leaves_out = MethodStudy.leaves_out | {"gae_libra"}  # GAE never is negative, corrected or not
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

    def claims_of(self, stored: Stored) -> list[Judged]:
        """Every method's signs; whether only complete has both right, and whether it is best."""
        signs = {
            method: mean(method, BOTH, f"{method_label(method)} has both signs right, in most",
                         id=f"fig13.both_signs.{method}", above=0.5)
            for method in stored.methods
        }  # fmt: skip
        rivals = [method for method in stored.methods if method != "complete"]
        best = "only complete has both signs right in most; the best other method is"
        return [
            Best("fig13.only_complete", best, [signs[rival] for rival in rivals]),
            *signs.values(),
            *(difference("complete", rival, BOTH, f"{MORE_OFTEN} {method_label(rival)}",
                         id=f"fig13.both_signs.complete_minus_{rival}", above=0)
              for rival in rivals),
        ]  # fmt: skip

    def panels(self, shown: Sequence[ShownView], methods: Sequence[str]) -> Figure:
        """Bands of methods; in each a row per picture and target."""
        return draw_bands(shown, methods, self.note)

    def note(self, view: ShownView, method: str, place: int) -> str:  # noqa: ARG002
        """How like the same method's map of the other class is."""
        alike = view.row(method, 1)["correlation"]
        return f"r = {signed(alike)}" if alike == alike else "a map of zeros"
