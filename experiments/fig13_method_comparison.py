"""Figure 13: all class-sensitive methods on pictures of two classes, with the signed shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from pydantic import PositiveInt

from attnguide.evaluation import localisation
from attnguide.figures.claims import Claim, Judged, MethodComparison, Only, mean
from attnguide.figures.experiment import Choices, Stored
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.method_study import MethodStudy
from attnguide.figures.phenomena import BLIND, check_class_sensitive
from attnguide.figures.shown import ShownView, draw_bands
from attnguide.figures.table_figure import Plot
from attnguide.viz.style import method_label, signed

BOTH, OTHER = "both signs right", "positive mass on the other"
ALIKE = "correlation of the maps of the two classes"
PAPER_RIVALS = (  # what the paper compares: no rollout, no Grad-ECLIP (Sec. 4.6.2)
    *("gae", "t_attr", "lrp", "partial_lrp", "attn_gradcam", "gradcam", "layercam"),
    *("tam", "bi_head", "bi_token", "dix", "vit_cx", "tis"),
)
SECTION = "4.6.2"


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
    budget = (None, 12)
    class_sensitive = True
    leaves_out = MethodStudy.leaves_out | {"gae_libra"}  # GAE never is negative, corrected or not
    measures = {
        "sign right on the target": localisation.net_positive("target"),
        "sign right on the other": localisation.net_negative("other"),
        BOTH: localisation.both_signs,
        "positive mass on the target": localisation.positive_share("target"),
        OTHER: localisation.positive_share("other"),
        "positive mass on the background": localisation.positive_share("background"),
        ALIKE: localisation.column("correlation"),
    }
    plots = tuple(
        Plot(name, (name,), limits=(-1.0 if name == ALIKE else 0.0, 1.0)) for name in measures
    )

    def check(self, choices: Choices) -> None:
        """Methods that can tell classes apart."""
        check_class_sensitive(choices)
        super().check(choices)

    def claims_of(self, stored: Stored) -> list[Judged]:
        """Whether only complete has both signs; every method's signs, and whether it is blind."""
        others = [method for method in stored.methods if method != "complete"]
        own, *rivals = map(has_both_signs, ["complete", *others])
        papers = [claim for claim in rivals if claim.source == "paper"]
        words = "only complete has both signs right in most pictures, of"
        return [
            Only("fig13.only_complete", f"{words} the methods that the paper compares",
                 [own, *papers], section=SECTION),
            Only("fig13.only_complete.of_all", f"{words} all methods here", [own, *rivals],
                 source="ours"),
            own,
            *rivals,
            *(is_blind(method) for method in stored.methods),
            MethodComparison("fig13.both_signs", "complete", BOTH, f"{BOTH}, complete minus"),
        ]  # fmt: skip

    def panels(self, shown: Sequence[ShownView], methods: Sequence[str]) -> Figure:
        """Bands of methods; in each a row per picture and target."""
        return draw_bands(shown, methods, self.note)

    def note(self, view: ShownView, method: str, place: int) -> str:  # noqa: ARG002
        """How like the same method's map of the other class is."""
        alike = view.row(method, 1)["correlation"]
        return f"r = {signed(alike)}" if alike == alike else "a map of zeros"


def has_both_signs(method: str) -> Claim:
    """That complete has both signs right in most pictures, or another method only in few."""
    mine, name = method == "complete", method_label(method)
    sentence = f"{name} has both signs right, in {'most' if mine else 'less than half'}"
    return mean(method, BOTH, sentence, id=f"fig13.both_signs.{method}",
                above=0.5 if mine else None, below=None if mine else 0.5,
                **whose("both_signs", is_paper=mine or method in PAPER_RIVALS))  # fmt: skip


def is_blind(method: str) -> Claim:
    """That a method cannot tell the classes apart; the paper says it of some of its rivals."""
    sentence = f"{method_label(method)} has difficulty in telling the classes apart: {ALIKE}"
    return mean(method, ALIKE, sentence, id=f"fig13.alike.{method}", above=BLIND,
                **whose("alike", is_paper=method in PAPER_RIVALS))  # fmt: skip


def whose(question: str, *, is_paper: bool) -> dict[str, str]:
    """Whose claim it is, and that the claims about all methods answer one question."""
    source = {"source": "paper", "section": SECTION} if is_paper else {"source": "ours"}
    return source | {"family": f"fig13.{question}"}
