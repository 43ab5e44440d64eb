"""A perturbation study drawn and judged: curves with bands, claims about areas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from attnguide.evaluation.perturbation_rows import RANDOM
from attnguide.evaluation.perturbation_tables import (
    areas,
    auc_table,
    curves,
    paired_differences,
    scores,
)
from attnguide.evaluation.statistics import (
    Estimate,
    estimate,
    estimate_curve,
    read_estimate,
    units_of,
)
from attnguide.figures.claims import COLUMNS, sentences
from attnguide.figures.experiment import Stored
from attnguide.findings import Findings
from attnguide.viz.curve_panels import Curve, CurvePanel, draw_curves
from attnguide.viz.style import method_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDERS = ("negative", "positive")
QUANTITIES = {"accuracy": "recognition rate (%)", "probability": "probability of the label (%)"}
ALIKE = 5.0  # points of AUC within which two methods count as alike
CORRECTED = "_libra"  # the end of a method's label with LibraGrad's gradient


def perturbation_findings(stored: Stored, parts: Sequence[tuple[str, pd.DataFrame]]) -> Findings:
    """Curves with bands, areas with intervals, paired differences, claims.

    Args:
        stored: The run.
        parts: Rows of each guide and fill, and what is said of them; the first is the figure.
    """
    seed = stored.seed
    methods = [m for m in stored.methods if m != RANDOM] + [RANDOM]
    tables, figures, claims = {}, {}, []
    for place, part in parts:
        tables[f"AUC {place}"] = table = auc_table(part, methods, seed)
        tables[f"Paired differences of AUC {place}"] = paired_differences(
            part, methods[0], methods[1:], seed
        )
        figures[f"The study {place}"] = draw_study(part, methods, table, seed)
        claims.append(judge_study(part, methods, place, seed))
    judged = pd.concat(claims, ignore_index=True)
    where, own = parts[0]
    return Findings(
        figure=figures.pop(next(iter(figures))),
        summary=tables.pop(next(iter(tables))),
        claims=judged,
        caption=(
            "Share of images still recognised, and probability of the label, while patches are "
            f"filled ({own['fill'].iloc[0]}); n = {own['image_id'].nunique()} images {where}. "
            "Bands and brackets are 95 % intervals over images. Left: least relevant first, higher "
            "is better. Right: most relevant first, lower is better. "
            f"{' '.join(sentences(judged)[:2])} {stored.note}".strip()
        ),
        figures=figures,
        tables=tables,
    )


def draw_study(
    rows: pd.DataFrame, methods: Sequence[str], summary: pd.DataFrame, seed: int
) -> Figure:
    """Two panels (negative, positive) for each model and quantity.

    Args:
        rows: Of one guide and fill.
        methods: In order.
        summary: Lines of `auc_table` of these rows.
        seed: Of the bootstrap.
    """
    panels = [
        [
            CurvePanel(
                title=f"{short_model(str(model))}: {order}",
                y_label=y_label,
                higher_is_better=order == "negative",
                curves=[
                    _curve(own, summary, str(model), method, order, quantity, seed)
                    for method in methods
                ],
            )
            for order in ORDERS
        ]
        for model, own in rows.groupby("model", sort=False)
        for quantity, y_label in QUANTITIES.items()
    ]
    return draw_curves(panels)


def _curve(
    own: pd.DataFrame,
    summary: pd.DataFrame,
    model: str,
    method: str,
    order: str,
    quantity: str,
    seed: int,
) -> Curve:
    part = own[(own["method"] == method) & (own["order"] == order)]
    fraction, values = curves(part, quantity)
    band = estimate_curve(values, units_of(part), seed, kind="mean")
    area = read_estimate(summary, "auc", model=model, method=method, order=order, quantity=quantity)
    return Curve(
        method, fraction, band["value"].to_numpy(), band["ci_low"].to_numpy(),
        band["ci_high"].to_numpy(), auc=area.value, auc_low=area.low, auc_high=area.high,
    )  # fmt: skip


def short_model(name: str) -> str:
    """A timm name without patch size, input size and tag."""
    return name.split("_patch")[0]


def judge_study(rows: pd.DataFrame, methods: Sequence[str], where: str, seed: int) -> pd.DataFrame:
    """Lines of claims.csv: the first method against every other, corrected gradients, the rise.

    Args:
        rows: Of one guide and fill.
        methods: In order, the random order last.
        where: What is said of guide and fill.
        seed: Of the bootstrap.
    """
    lines = []
    for model, own in rows.groupby("model", sort=False):
        for claim, found, bound in _claims(own, methods, seed):
            verdict = found.verdict(**bound)
            values = (str(model), f"{claim} ({where})", found.value, found.low, found.high)
            lines.append(dict(zip(COLUMNS, (*values, found.n, verdict), strict=True)))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _claims(
    own: pd.DataFrame, methods: Sequence[str], seed: int
) -> Iterator[tuple[str, Estimate, dict[str, float]]]:
    first, units = methods[0], units_of(own)
    for rival in methods[1:-1]:
        gap = {
            order: areas(_of(own, first, order), "accuracy")
            - areas(_of(own, rival, order), "accuracy")
            for order in ORDERS
        }
        names = f"{method_label(first)} minus {method_label(rival)}, points of AUC"
        better = estimate(gap["negative"], units, seed, kind="mean")
        worse = estimate(gap["positive"], units, seed, kind="mean")
        yield f"negative test: recognised longer, {names}", better, {"above": 0}
        yield f"positive test: not worse by {ALIKE:g}, {names}", worse, {"below": ALIKE}
    for method in (m for m in methods if m.endswith(CORRECTED)):
        for rival in dict.fromkeys([method.removesuffix(CORRECTED), "gae"]):
            if rival in methods:
                gains = [scores(own[own["method"] == m], "srg") for m in (method, rival)]
                gain = estimate(gains[0] - gains[1], units, seed, kind="mean")
                names = f"{method_label(method)} minus {method_label(rival)}"
                yield f"both tests: more SRG, {names}, points", gain, {"above": 0}
    for method in methods[:-1]:
        fraction, values = curves(_of(own, method, "negative"), "accuracy")
        if len(fraction) > 1:
            rise = estimate(values.iloc[:, 1] - values.iloc[:, 0], units, seed, kind="mean")
            words = f"negative test: rise to {100 * fraction[1]:.0f} % masked, points"
            yield f"{words}, {method_label(method)}", rise, {"above": 0}


def _of(rows: pd.DataFrame, method: str, order: str) -> pd.DataFrame:
    return rows[(rows["method"] == method) & (rows["order"] == order)]
