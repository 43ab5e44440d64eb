"""Figure 3: absolute and complete gradient correction on pictures of one class."""

from __future__ import annotations

from dataclasses import dataclass

from attnguide.evaluation.localisation import all_net_positive, net_positive, positive_within
from attnguide.figures import phenomena
from attnguide.figures.experiment import Stored
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.shown import ShownView, net_note
from attnguide.figures.table_figure import Plot
from attnguide.viz.style import signed


@dataclass
class Fig03GradientCorrections(MapFigure):
    """Measure pictures of one class: how alike maps of classes are, and their sign."""

    title = "Figure 3: absolute and complete gradient correction"
    claim = (
        "On pictures of one class, absolute gradient correction cannot tell classes apart, and "
        "complete gradient correction cannot fully interpret the region of the class."
    )
    competitors = 2
    measures = {
        phenomena.SIGN: net_positive("target"),
        phenomena.WHOLE: all_net_positive,
        phenomena.RED: positive_within("target"),
    }
    claims = (
        *phenomena.class_blind("fig03", "absolute", section="4.2"),
        *phenomena.tells_apart("fig03", "complete", is_paper=False),
        *phenomena.interpreted("fig03", (phenomena.WHOLE, phenomena.SIGN, phenomena.RED)),
    )
    plots = (
        Plot("Class-blindness", phenomena.LIKE_MEASURES, "correlation of maps", (-1, 1), 0),
        Plot("Sign of the label's map", tuple(measures), "share of images, or of mass", chance=0.5),
    )

    def remarks(self, stored: Stored) -> list[str]:
        """What kind of pictures these are."""
        return phenomena.population(stored)

    def note(self, view: ShownView, method: str, place: int) -> str:
        """Signed mass of the label's map; how like it the other map is."""
        if place == 0:
            return net_note(view, method, place)
        return f"r = {signed(view.row(method, place)['correlation'])}"
