"""Figure 5: two classes in one picture, each explained, complete rule against GAE."""

from __future__ import annotations

from dataclasses import dataclass

from attnguide.evaluation import localisation
from attnguide.figures.claims import difference, mean
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.shown import ShownView
from attnguide.figures.table_figure import Plot
from attnguide.viz.style import signed

BOTH = "both signs right"
OTHER, BEHIND = "positive mass on the other", "positive mass on the background"
SECTION = "4.4.1"


@dataclass
class Fig05MultiClass(MapFigure):
    """Measure two-class pictures, each class as target; show some."""

    title = "Figure 5: two classes in one picture"
    claim = (
        "In a picture of two classes, complete gradient correction gives positive relevance to the "
        "target and negative relevance to the other class, with less background noise than GAE, "
        "which gives positive relevance to the other class too."
    )
    pairs = True
    boxed = True
    by = ("model", "regions", "method")
    measures = {
        "sign right on the target": localisation.net_positive("target"),
        "sign right on the other": localisation.net_negative("other"),
        BOTH: localisation.both_signs,
        "positive mass on the target": localisation.positive_share("target"),
        OTHER: localisation.positive_share("other"),
        BEHIND: localisation.positive_share("background"),
        "all mass on the background": localisation.mass_share("background"),
    }
    claims = (
        mean("complete", BOTH, "complete is net positive on the target and net negative on the "
             "other class at once, in most", id="fig05.both_signs", above=0.5, section=SECTION),
        difference("complete", "gae", OTHER, "GAE gives positive relevance to the other class, "
                   "complete gives less: share of the positive mass there, complete minus GAE",
                   id="fig05.on_the_other", below=0, section=SECTION),
        difference("complete", "gae", BEHIND, "complete has less noise on the background than GAE: "
                   "share of the positive mass there, complete minus GAE",
                   id="fig05.on_the_background", below=0, section=SECTION),
    )  # fmt: skip
    plots = (
        Plot("Signs", tuple(measures)[:3], "share of the targets"),
        Plot("Mass", tuple(measures)[3:], "share of the mass"),
    )

    def note(self, view: ShownView, method: str, place: int) -> str:
        """Signed mass on the target and on the other object."""
        if not view.regions:
            return ""
        parts = (f"{r} {signed(view.net(method, place, r))}" for r in ("target", "other"))
        return ", ".join(parts)
