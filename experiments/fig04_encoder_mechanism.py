"""Figure 4: absolute and positive (GAE) gradient correction: what the encoder attends to."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from attnguide.evaluation.localisation import area, mass_share
from attnguide.evaluation.statistics import of_kind
from attnguide.figures.claims import mean
from attnguide.figures.experiment import Stored
from attnguide.figures.map_figure import MapFigure
from attnguide.figures.phenomena import LIKE_MEASURES, class_blind, tells_apart
from attnguide.figures.shown import ShownView
from attnguide.figures.table_figure import Plot
from attnguide.viz.style import signed


@of_kind("share")
def on_objects(rows: pd.DataFrame) -> pd.Series[float]:
    """Share of the mass on any object; the rest is the background's."""
    return 1 - mass_share("background")(rows)


@of_kind("share")
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
        *class_blind("fig04", "absolute", section="4.3"),
        *tells_apart("fig04", "gae", is_paper=True),
        mean("absolute", DENSITY, "absolute lies on features of learned classes: share of the mass "
             "on objects over their share of the area", id="fig04.density", above=1, section="4.3"),
        mean("absolute", MASS, "absolute ignores the background: share of the mass on objects (the "
             "bound is ours)", id="fig04.mass", above=0.9, section="4.3"),
    )  # fmt: skip
    plots = (
        Plot("Class-blindness", LIKE_MEASURES, "correlation of maps", (-1, 1), 0),
        Plot("Objects and background", (MASS, AREA)),
    )

    def remarks(self, stored: Stored) -> list[str]:
        """How much of the pictures the objects take."""
        shares = self.summary(stored).query("measure == @AREA")["value"].head(1)
        words = "where objects fill most of a picture, mass on them says little"
        return [f"Objects take {share:.0%} of the area; {words}." for share in shares]

    def note(self, view: ShownView, method: str, place: int) -> str:
        """Share of the mass on objects against their area; how like it the other map is."""
        row = view.row(method, place)
        if place:
            return f"r = {signed(row['correlation'])}"
        if not view.regions:
            return ""
        own = pd.DataFrame([row])
        mass, size = (float(measure(own).iloc[0]) for measure in (on_objects, objects_area))
        return f"objects: {mass:.0%} of the mass on {size:.0%} of the area"
