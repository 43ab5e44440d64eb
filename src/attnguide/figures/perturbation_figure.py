"""A perturbation study drawn and judged: curves with bands, claims about areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnguide.data.pictures import Item
from attnguide.evaluation.perturbation_rows import (
    CONTROLS,
    areas,
    auc_table,
    curves,
    paired_differences,
)
from attnguide.evaluation.statistics import Kind, estimate, estimate_curve, units_of
from attnguide.figures.claims import Table
from attnguide.figures.experiment import Stored, Study
from attnguide.figures.perturbation_claims import seam_notes, untestable
from attnguide.figures.table_figure import TableFigure
from attnguide.models.preprocess import pixels_of
from attnguide.viz.curve_panels import Curve, CurvePanel, draw_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

NO_GUIDE = "none"
SHOWN = 20  # pictures that trackers show
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

    def of(self, methods: Sequence[str]) -> list[str]:
        """Those of the methods that have rows here."""
        present = set(self.rows["method"].unique())
        return [name for name in methods if name in present]


@dataclass
class PerturbationFigure(TableFigure):
    """Curves, areas, paired differences and claims of every guide and fill."""

    key = ("image_id", "model", "guide", "fill", "method", "order", "fraction")

    def seen(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> dict[str, Tensor]:
        """What the model saw of the first pictures, for trackers."""
        views = {item.id: next(iter(own.values())) for item, own in batch if item.number < SHOWN}
        return {
            f"{study.vit.name} {i}": pixels_of(study.vit.preprocess, v.image)
            for i, v in views.items()
        }

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
        """In order, the controls last."""
        return [*self.compared(stored), *(name for name in CONTROLS if name in stored.methods)]

    def summary(self, stored: Stored) -> pd.DataFrame:
        """Areas of the first part."""
        part = self.parts(stored)[0]
        return auc_table(part.rows, part.of(self.methods(stored)), stored.seed)

    def tables(self, stored: Stored, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:  # noqa: ARG002
        """Areas of the other parts, and paired differences of all."""
        found = {}
        for number, part in enumerate(self.parts(stored)):
            methods = part.of(self.methods(stored))
            if number:
                found[f"AUC {part.words}"] = auc_table(part.rows, methods, stored.seed)
            found[f"Paired differences of AUC {part.words}"] = paired_differences(
                part.rows, methods[0], methods[1:], stored.seed
            )
        return found

    def compared(self, stored: Stored) -> list[str]:
        """In order, without controls."""
        return [name for name in stored.methods if name not in CONTROLS]

    def models_and_parts(self, stored: Stored) -> list[tuple[str, Table]]:
        """A table of every part and model."""
        return [
            (str(model), Table(own, {}, stored.seed, part.words, part.group))
            for part in self.parts(stored)
            for model, own in part.rows.groupby("model", sort=False)
        ]

    def further(self, stored: Stored) -> list[str]:
        """What the guide's place alone reaches, and what the tests cannot tell."""
        compared, tables = self.compared(stored), self.models_and_parts(stored)
        return [*seam_notes(compared[0], tables), *untestable(compared, tables)]

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """The first part, and the others by heading."""
        first, *others = [
            (part.words, draw_study(part.rows, part.of(self.methods(stored)), stored.seed))
            for part in self.parts(stored)
        ]
        return first[1], {f"The study {words}": figure for words, figure in others}


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
    area = estimate(areas(rows, quantity), units, seed, kind="share", yes=100)
    low, high = band["ci_low"].to_numpy(), band["ci_high"].to_numpy()
    return Curve(method, fraction, band["value"].to_numpy(), low, high,
                 auc=area.value, auc_low=area.low, auc_high=area.high)  # fmt: skip
