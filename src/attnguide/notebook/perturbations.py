"""Perturbation curves for the eye, and their areas with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnguide.errors import InputError
from attnguide.evaluation.perturbation import PerturbationCurve
from attnguide.viz.overlay import as_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attnguide.evaluation.statistics import Estimate


# Column of the curve, and the words on its axis.
QUANTITIES = {
    "accuracy": ("correct", "recognised (%)"),
    "probability": ("probability", "probability of the label (%)"),
}


def plot_curve(curve: PerturbationCurve, quantity: str = "accuracy") -> Figure:
    """The curve with a 95 % band over images, and its area.

    Args:
        curve: Of many images.
        quantity: "accuracy" or "probability".
    """
    import pandas as pd

    from attnguide.evaluation.statistics import Kind, estimate_curve
    from attnguide.viz.charts import Curve, CurvePanel, draw_curves

    area = auc_interval(curve, quantity)
    column, words = QUANTITIES[quantity]
    values = 100 * as_values(getattr(curve, column)).astype(float)
    kind: Kind = "answers" if quantity == "accuracy" else "share"
    table = pd.DataFrame(values, columns=curve.fraction.tolist())
    band = estimate_curve(table, kind=kind, yes=100)
    ends, label = (area.value, area.low, area.high), f"mean of {area.n} images"
    line = Curve("complete", band, ends, label)
    title = f"{curve.order} order"
    return draw_curves([[CurvePanel(title, words, curve.higher_is_better, [line])]])


def auc_interval(curve: PerturbationCurve, quantity: str = "accuracy") -> Estimate:
    """Area under the curve in percent, with its 95 % interval over images."""
    return _mean(curve.auc_per_image(quantity))


def compare_auc(
    first: PerturbationCurve, second: PerturbationCurve, quantity: str = "accuracy"
) -> Estimate:
    """Area of the first curve minus that of the second, image by image, in percentage points.

    Args:
        first, second: Of the same images in the same order.
        quantity: "accuracy" or "probability".

    Raises:
        ValueError: curves of other images, orders or fractions.
    """
    if first.order != second.order:
        raise InputError(f"both curves need one order, got {first.order} and {second.order}")
    if len(first.correct) != len(second.correct):
        numbers = f"{len(first.correct)} and {len(second.correct)}"
        raise InputError(f"both curves must be of the same images, got {numbers}")
    if not torch.equal(first.fraction, second.fraction):
        raise InputError("both curves need the same fractions")
    return _mean(first.auc_per_image(quantity) - second.auc_per_image(quantity))


def curve_line(curve: PerturbationCurve) -> str:
    """One line for people."""
    count, steps = curve.correct.shape
    ends = f"{float(curve.fraction[0]):g} to {float(curve.fraction[-1]):g}"
    area = f", AUC {curve.auc():.1f} %" if steps > 1 and count else ""
    better = "higher" if curve.higher_is_better else "lower"
    return (
        f"PerturbationCurve({curve.order} order: {count} image{'s' * (count != 1)}, {steps} "
        f"fractions from {ends}{area}, {better} is better)"
    )


def _mean(values: Tensor) -> Estimate:
    """Over images, with its interval."""
    import pandas as pd

    from attnguide.evaluation.statistics import estimate

    return estimate(pd.Series(as_values(values).astype(float)), kind="mean")
