"""Figure 7: where complete gradient correction points in pictures of one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from pydantic import PositiveInt

from attnguide.evaluation.localisation import (
    all_net_positive,
    area,
    mass_share,
    negative_share,
    net_positive,
    positive_share,
    positive_within,
)
from attnguide.figures.claims import mean
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.phenomena import RED, SIGN, WHOLE, interpreted
from attnguide.figures.shown import ShownView, net_note
from attnguide.figures.table_figure import Plot
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label

BEHIND = "positive mass on the background"


@dataclass
class Fig07SingleClass(MapFigure):
    """Measure sign and place of the relevance in pictures of one class."""

    shown: PositiveInt = 6

    title = "Figure 7: complete correction in pictures of one class"
    claim = (
        "Complete gradient correction cannot interpret a picture of one class directly: no other "
        "class gives attention a direction to move to, and the direction that results is difficult "
        "to interpret and even points towards the background."
    )
    measures = {
        SIGN: net_positive("target"),
        WHOLE: all_net_positive,
        RED: positive_within("target"),
        BEHIND: positive_share("background"),
        "negative mass on the background": negative_share("background"),
        "all mass on the background": mass_share("background"),
        "area of the background": area("background"),
    }
    claims = (
        *interpreted("fig07"),
        mean("complete", BEHIND, "complete: most of the positive mass is on the background",
             id="fig07.on_the_background", above=0.5),
    )  # fmt: skip
    plots = (
        Plot("Signs", (SIGN, WHOLE, RED), "share of images, or of mass", chance=0.5),
        Plot("Background", tuple(measures)[3:]),
    )

    def panels(self, shown: Sequence[ShownView], methods: Sequence[str]) -> Figure:
        """Picture and map beside each other, two such couples in a row."""
        method = "complete" if "complete" in methods else methods[0]
        couples = [
            [
                Panel(view.picture, title=short_name(view.name(0)), note=view.note),
                view.panel(method, 0, net_note(view, method, 0), title=""),
            ]
            for view in shown
        ]
        starts = range(0, len(couples), 2)
        rows = [[panel for couple in couples[n : n + 2] for panel in couple] for n in starts]
        titles = ["image", method_label(method)] * min(2, len(couples))
        return draw_panels(rows, column_titles=titles)
