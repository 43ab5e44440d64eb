"""Figure 4: absolute and positive (GAE) gradient correction: what the encoder attends to."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from attnguide.evaluation.localisation import area, mass_share
from attnguide.figures.claims import mean
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.phenomena import LIKE_MEASURES, class_blind
from attnguide.figures.shown import ShownView
from attnguide.figures.table_figure import Plot
from attnguide.viz.style import signed


def on_objects(rows: pd.DataFrame) -> pd.Series[float]:
    """Share of the mass on any object; the rest is the background's."""
    return 1 - mass_share("background")(rows)


def objects_area(rows: pd.DataFrame) -> pd.Series[float]:
    """Share of the picture that all objects take."""
    return 1 - area("background")(rows)


def density(rows: pd.DataFrame) -> pd.Series[float]:
    """How many times more mass than area the objects have; 1 for a map without knowledge."""
    return on_objects(rows) / objects_area(rows)


MASS, AREA = "share of the mass on objects", "share of the area they take"
DENSITY = "mass over area, objects"


@dataclass
class Fig04EncoderMechanism(MapFigure):
    """Measure how much of the maps lies on objects, and how alike maps of classes are."""

    title = "Figure 4: what the encoder attends to"
    claim = (
        "Absolute gradient correction shows the encoder without the classifier: it cannot "
        "distinguish classes, but it lies on features of the learned classes and ignores the "
        "background. Positive correction (GAE) depends on the class."
    )
    boxed = True
    competitors = 2
    measures = {MASS: on_objects, AREA: objects_area, DENSITY: density}
    claims = (
        *class_blind("fig04", "absolute"),
        *class_blind("fig04", "gae"),
        mean("absolute", DENSITY, "absolute: objects have more of the mass than of the area",
             id="fig04.density", above=1),
        mean("absolute", MASS, "absolute: nine tenths of the mass lie on objects",
             id="fig04.mass", above=0.9),
    )  # fmt: skip
    plots = (
        Plot("Class-blindness", LIKE_MEASURES, "correlation of maps", (-1, 1), 0),
        Plot("Objects and background", (MASS, AREA)),
    )

    def note(self, view: ShownView, method: str, place: int) -> str:
        """Share of the mass on objects against their area; how like it the other map is."""
        row = view.row(method, place)
        if place:
            return f"r = {signed(row['correlation'])}"
        if not view.regions:
            return ""
        own = pd.DataFrame([row])
        mass, size = (float(measure(own).iloc[0]) for measure in (on_objects, objects_area))
        return f"{mass:.0%} on {size:.0%} of the area"
