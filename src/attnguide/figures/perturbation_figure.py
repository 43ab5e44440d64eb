"""A perturbation study drawn and judged: curves with bands, claims about areas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attnguide.data.pictures import Item
from attnguide.evaluation.perturbation_rows import (
    BOTH_ORDERS,
    CONTROLS,
    SEAM,
    areas,
    auc_table,
    curves,
    paired_differences,
    scores,
)
from attnguide.evaluation.statistics import (
    NOT_KNOWN,
    Estimate,
    Kind,
    estimate,
    estimate_curve,
    middle_95,
    resample,
    unit_means,
    units_of,
)
from attnguide.figures.claims import Ask, Claim, Table
from attnguide.figures.experiment import Stored, Study
from attnguide.figures.table_figure import TableFigure
from attnguide.models.preprocess import pixels_of
from attnguide.viz.charts import Curve, CurvePanel, draw_curves
from attnguide.viz.style import method_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

MARGIN = 2.0  # points within which a curve lies on its floor or at 100 %
MOST = 0.5  # share of a gain
PUBLISHED = "gae"  # what the paper's gain is measured against
ALIKE = 5.0  # points of AUC within which two methods count as alike
CORRECTED = "_libra"  # the end of a method's label with LibraGrad's gradient
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

    def remarks(self, stored: Stored) -> list[str]:
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
    _, values = curves(rows, quantity)
    units = units_of(rows)
    kind: Kind = "answers" if quantity == "accuracy" else "share"
    band = estimate_curve(values, units, seed, kind=kind, yes=100)
    area = estimate(areas(rows, quantity), units, seed, kind="share", yes=100)
    return Curve(method, band, (area.value, area.low, area.high))


def claims_about(
    methods: Sequence[str], fractions: Sequence[float], guide: float = 0.0
) -> Iterator[Claim]:
    """The first method against every other, corrected gradients, and what the guide does alone."""
    first = methods[0]
    for rival in methods[1:]:
        names = f"{method_label(first)} minus {method_label(rival)}, points of AUC"
        name, both = f"fig12.{first}_minus_{rival}", (first, rival)
        alike = gain(*both, "accuracy", "positive")
        yield Claim(f"{name}.negative", f"negative test: larger area, {names}",
                    gain(*both, "accuracy", "negative"), above=0)  # fmt: skip
        yield Claim(f"{name}.positive", f"positive test: larger by at most {ALIKE:g}, {names}",
                    where_it_can_tell(alike, both), below=ALIKE)  # fmt: skip
    for method in (m for m in methods if m.endswith(CORRECTED)):
        for rival in dict.fromkeys([method.removesuffix(CORRECTED), "gae"]):
            if rival in methods:
                names = f"{method_label(method)} minus {method_label(rival)}"
                yield Claim(f"fig12.{method}_minus_{rival}.srg",
                            f"both tests: more SRG, {names}, points", gain(method, rival, "srg"),
                            above=0, source="ours")  # fmt: skip
    yield from about_the_guide(methods, fractions, guide)


def gain(first: str, second: str, quantity: str, order: str = "") -> Ask:
    """How much larger a score is by the first method than by the second, on the same pictures.

    No difference of areas lies beyond 100 points; one of SRG or ABPC does.
    """
    kind: Kind = "mean" if quantity in BOTH_ORDERS else "share difference"

    def ask(table: Table) -> Estimate:
        own, other = (scores(table.of(name), quantity, order) for name in (first, second))
        return estimate(own - other, units_of(table.rows), table.seed, kind=kind, yes=100)

    return ask


def rise(method: str) -> Ask:
    """By how much recognition rises from the first fraction to the second, least relevant first.

    Not known where it starts near 100 %.
    """

    def ask(table: Table) -> Estimate:
        rows = table.of(method)
        if at_ceiling(table, method):
            return NOT_KNOWN
        _, values = curves(rows[rows["order"] == "negative"], "accuracy")
        gained = values.iloc[:, 1] - values.iloc[:, 0]
        return estimate(gained, units_of(table.rows), table.seed, kind="mean")

    return ask


def where_it_can_tell(ask: Ask, methods: Sequence[str]) -> Ask:
    """The same, but not known where these methods' positive test lies on its floor."""
    return lambda table: NOT_KNOWN if on_floor(table, methods) else ask(table)


def on_floor(table: Table, methods: Sequence[str]) -> bool:
    """Whether the positive test of all these methods loses the class with the first patches.

    The least area is that of a curve that falls from its start to 0 at the first fraction.
    """
    for method in methods:
        rows = table.of(method)
        fraction, values = curves(rows[rows["order"] == "positive"], "accuracy")
        steps = fraction[1:2].sum() - fraction[0], fraction[-1] - fraction[0]
        least = values.iloc[:, 0].mean() * steps[0] / 2 / steps[1] if len(fraction) > 1 else 0.0
        if scores(rows, "accuracy", "positive").mean() > least + MARGIN:
            return False
    return True


def at_ceiling(table: Table, method: str) -> bool:
    """Whether recognition starts so near to 100 % that it cannot rise."""
    _, values = curves(table.of(method).query("order == 'negative'"), "accuracy")
    return bool(values.iloc[:, 0].mean() >= 100 - MARGIN)


def untestable(methods: Sequence[str], tables: Sequence[tuple[str, Table]]) -> Iterator[str]:
    """Sentences about what cannot be judged, since the curves of the first method leave no room."""
    first, *others = methods
    for model, table in tables:
        where = f"{model}, {table.suffix}:"
        low = [method_label(name) for name in others if on_floor(table, (first, name))]
        if low:
            yield (
                f"{where} in the positive test {method_label(first)} and {', '.join(low)} lose the "
                "class with the first patches, so the test cannot separate them and is not judged."
            )
        if at_ceiling(table, first):
            yield f"{where} recognition starts near 100 %, so a rise cannot be judged."


def first_on_guide(method: str) -> Ask:
    """Share of the patches that the negative test masks first, that lie on the guide."""

    def ask(table: Table) -> Estimate:
        rows = table.of(method)
        rows = rows[(rows["order"] == "negative") & (rows["fraction"] > 0)]
        if rows.empty or "on_guide" not in rows:
            return NOT_KNOWN
        rows = rows[rows["fraction"] == rows["fraction"].min()]
        shares = rows.set_index("image_id")["on_guide"]
        return estimate(shares, units_of(table.rows), table.seed, kind="share")

    return ask


def gain_share(first: str) -> Ask:
    """Share of a method's gain of area over GAE, in the negative test, that `seam` reaches.

    A ratio of means over pictures, with a percentile bootstrap; not known where the gain itself may
    be 0 or less, for then the ratio has no meaning, or where there are too few pictures to tell.
    """

    def ask(table: Table) -> Estimate:
        own, other, known = (
            scores(table.of(name), "accuracy", "negative") for name in (first, PUBLISHED, SEAM)
        )
        gained, reached = (unit_means(x - other, units_of(table.rows)) for x in (own, known))
        draws = resample(len(gained), np.random.default_rng(table.seed))
        if not np.percentile(draws @ gained, 2.5) > 0:
            return NOT_KNOWN
        draws = draws[draws @ gained > 0]  # without gain, no ratio
        low, high = middle_95((draws @ reached) / (draws @ gained))
        return Estimate(float(reached.mean() / gained.mean()), low, high, len(gained))

    return ask


def about_the_guide(
    methods: Sequence[str], fractions: Sequence[float], guide: float
) -> Iterator[Claim]:
    """That recognition rises, that the guide is masked first, and what its place alone reaches.

    Args:
        methods: In order, without controls.
        fractions: Of the patches that are filled.
        guide: Share of the canvas that the guide takes.
    """
    for method in methods if len(fractions) > 1 else ():
        start = f"negative test, {method_label(method)}"
        yield Claim(f"fig12.rise.{method}",
                    f"{start}: rise to {100 * fractions[1]:.0f} % masked, points",
                    rise(method), above=0)  # fmt: skip
        yield Claim(f"fig12.guide_first.{method}",
                    f"{start}: share of the patches masked first that lies on the guide",
                    first_on_guide(method), above=guide, methods=(method, SEAM))  # fmt: skip
    first = methods[0]
    pairs = [(first, SEAM)] if first == PUBLISHED else [(first, SEAM), (SEAM, PUBLISHED)]
    for one, other in pairs:
        names = f"{method_label(one)} minus {method_label(other)}"
        yield Claim(f"fig12.{one}_minus_{other}.negative",
                    f"negative test: larger area, {names}, points of AUC",
                    gain(one, other, "accuracy", "negative"), above=0, methods=(one, other),
                    source="ours")  # fmt: skip
    if len(pairs) > 1:
        words = f"share of the gain of {method_label(first)} over GAE that seam reaches"
        yield Claim("fig12.seam_share", f"negative test: {words}", gain_share(first), above=MOST,
                    methods=(first, PUBLISHED, SEAM), source="ours")  # fmt: skip


def seam_notes(first: str, tables: Sequence[tuple[str, Table]]) -> Iterator[str]:
    """A sentence per model and part: the gain over GAE, and how much of it the place alone is."""
    for model, table in tables:
        if first != PUBLISHED and table.has([first, PUBLISHED, SEAM]):
            gaps = ", ".join(
                f"{method_label(one)} minus {method_label(other)} "
                f"{gain(one, other, 'accuracy', 'negative')(table):+.1f}"
                for one, other in ((first, PUBLISHED), (SEAM, PUBLISHED), (first, SEAM))
            )
            yield (
                f"{model}, {table.suffix}, points of AUC in the negative test: {gaps}. Seam knows "
                "on which side the guide is and nothing of the picture; its share of the gain over "
                f"GAE: {gain_share(first)(table)}."
            )
