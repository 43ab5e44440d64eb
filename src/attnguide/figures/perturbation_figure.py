"""A perturbation study drawn and judged: curves with bands, claims about areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from attnguide.evaluation.perturbation_rows import (
    RANDOM,
    areas,
    auc_table,
    curves,
    paired_differences,
    scores,
)
from attnguide.evaluation.statistics import Estimate, Kind, estimate, estimate_curve, units_of
from attnguide.figures.claims import Ask, Table, judge
from attnguide.figures.experiment import Stored
from attnguide.figures.table_figure import TableFigure
from attnguide.viz.curve_panels import Curve, CurvePanel, draw_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_GUIDE = "none"
ORDERS = ("negative", "positive")
QUANTITIES = {"accuracy": "recognition rate (%)", "probability": "probability of the label (%)"}


@dataclass(frozen=True)
class Part:
    """Rows of one guide and fill.

    Attributes:
        words: What is said of them, such as "without a guide".
        group: What ids of their claims end in; empty with the guide, of one fill.
        rows: Of `results.parquet`.
    """

    words: str
    group: str
    rows: pd.DataFrame


@dataclass
class PerturbationFigure(TableFigure):
    """Curves, areas, paired differences and claims of every guide and fill."""

    key = ("image_id", "model", "guide", "fill", "method", "order", "fraction")

    def parts(self, stored: Stored) -> list[Part]:
        """The study with the guide first, then without; of each fill in turn."""
        fills = stored.rows["fill"].unique()
        found = []
        for fill in fills:
            own = stored.rows[stored.rows["fill"] == fill]
            which, group = (f", fill {fill}", fill) if len(fills) > 1 else ("", "")
            for guide in sorted(own["guide"].unique(), key=lambda name: name == NO_GUIDE):
                alone = guide == NO_GUIDE
                place = "without a guide" if alone else f"with the guide at the {guide}"
                names = filter(None, ["alone" if alone else "", group])
                found.append(Part(place + which, ".".join(names), own[own["guide"] == guide]))
        return found

    def methods(self, stored: Stored) -> list[str]:
        """In order, the random order of patches last."""
        return [name for name in stored.methods if name != RANDOM] + [RANDOM]

    def summary(self, stored: Stored) -> pd.DataFrame:
        """Areas of the first part."""
        return auc_table(self.parts(stored)[0].rows, self.methods(stored), stored.seed)

    def tables(self, stored: Stored, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:  # noqa: ARG002
        """Areas of the other parts, and paired differences of all."""
        found, methods = {}, self.methods(stored)
        for number, part in enumerate(self.parts(stored)):
            if number:
                found[f"AUC {part.words}"] = auc_table(part.rows, methods, stored.seed)
            found[f"Paired differences of AUC {part.words}"] = paired_differences(
                part.rows, methods[0], methods[1:], stored.seed
            )
        return found

    def judged(self, stored: Stored) -> pd.DataFrame:
        """The claims of every part and model."""
        tables = (
            (str(model), Table(own, {}, stored.seed, part.words, part.group))
            for part in self.parts(stored)
            for model, own in part.rows.groupby("model", sort=False)
        )
        return judge(self.claims_of(stored), tables)

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """The first part, and the others by heading."""
        methods, (first, *others) = self.methods(stored), self.parts(stored)
        more = {f"The study {p.words}": draw_study(p.rows, methods, stored.seed) for p in others}
        return draw_study(first.rows, methods, stored.seed), more


def gain(first: str, second: str, quantity: str, order: str = "") -> Ask:
    """How much larger a score is by the first method than by the second, on the same pictures."""

    def ask(table: Table) -> Estimate:
        own, other = (scores(table.of(name), quantity, order) for name in (first, second))
        return estimate(own - other, units_of(table.rows), table.seed, kind="mean")

    return ask


def rise(method: str) -> Ask:
    """By how much recognition rises from the first fraction to the second, least relevant first."""

    def ask(table: Table) -> Estimate:
        rows = table.of(method)
        _, values = curves(rows[rows["order"] == "negative"], "accuracy")
        gained = values.iloc[:, 1] - values.iloc[:, 0]
        return estimate(gained, units_of(table.rows), table.seed, kind="mean")

    return ask


def draw_study(rows: pd.DataFrame, methods: Sequence[str], seed: int) -> Figure:
    """Two panels (negative, positive) for each model and quantity.

    Args:
        rows: Of one guide and fill.
        methods: In order.
        seed: Of the bootstrap.
    """
    panels = [
        [
            CurvePanel(
                title=f"{str(model).split('_patch')[0]}: {order}",
                y_label=y_label,
                higher_is_better=order == "negative",
                curves=[
                    _curve(own[(own["method"] == method) & (own["order"] == order)],
                           method, quantity, seed)
                    for method in methods
                ],
            )
            for order in ORDERS
        ]
        for model, own in rows.groupby("model", sort=False)
        for quantity, y_label in QUANTITIES.items()
    ]  # fmt: skip
    return draw_curves(panels)


def _curve(rows: pd.DataFrame, method: str, quantity: str, seed: int) -> Curve:
    fraction, values = curves(rows, quantity)
    units = units_of(rows)
    kind: Kind = "answers" if quantity == "accuracy" else "mean"
    band = estimate_curve(values, units, seed, kind=kind, yes=100)
    area = estimate(areas(rows, quantity), units, seed, kind="mean")
    low, high = band["ci_low"].to_numpy(), band["ci_high"].to_numpy()
    return Curve(method, fraction, band["value"].to_numpy(), low, high,
                 auc=area.value, auc_low=area.low, auc_high=area.high)  # fmt: skip
