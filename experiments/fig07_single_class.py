"""Figure 7: where complete gradient correction points in pictures of one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from pydantic import PositiveInt

from attnguide.evaluation import localisation
from attnguide.figures.claims import mean
from attnguide.figures.experiment import Stored
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.phenomena import RED, SIGN, WHOLE, interpreted, population
from attnguide.figures.shown import ShownView, net_note
from attnguide.figures.table_figure import Plot
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label

AWAY, BEYOND = "negative mass on the background", "the same, beyond its share of the area"


def beyond_area(rows: pd.DataFrame) -> pd.Series[float]:
    """Share of the negative mass on the background minus its share of the area; 0 by chance."""
    return localisation.negative_share("background")(rows) - localisation.area("background")(rows)


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
        SIGN: localisation.net_positive("target"),
        WHOLE: localisation.all_net_positive,
        RED: localisation.positive_within("target"),
        AWAY: localisation.negative_share("background"),
        BEYOND: beyond_area,
        "positive mass on the background": localisation.positive_share("background"),
        "all mass on the background": localisation.mass_share("background"),
        "area of the background": localisation.area("background"),
    }
    claims = (
        *interpreted("fig07", (WHOLE, SIGN, RED)),
        mean("complete", AWAY, "the direction of the transfer points towards the background: more "
             "than half of the negative mass lies there", id="fig07.towards_background", above=0.5,
             section="4.4.2"),
        mean("complete", BEYOND, "more of the negative mass lies on the background than its share "
             "of the area", id="fig07.towards_background.beyond_area", above=0, source="ours",
             section="4.4.2"),
    )  # fmt: skip
    plots = (
        Plot("Signs", (SIGN, WHOLE, RED), "share of images, or of mass", chance=0.5),
        Plot("Background", (AWAY, *tuple(measures)[5:])),
    )

    def remarks(self, stored: Stored) -> list[str]:
        """What kind of pictures these are."""
        return population(stored)

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
