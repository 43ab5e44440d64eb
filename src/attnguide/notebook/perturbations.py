"""Perturbation curves for the eye, and their areas with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide.errors import InputError
from attnguide.evaluation.curve import PerturbationCurve
from attnguide.viz.overlay import as_values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from attnguide.evaluation.statistics import Estimate


def plot_curve(curve: PerturbationCurve, quantity: str = "accuracy") -> Figure:
    """The curve with a 95 % band over images, and its area.

    Args:
        curve: Of many images.
        quantity: "accuracy" or "probability".
    """
    from attnguide.evaluation.statistics import estimate_curve
    from attnguide.viz.curves import Curve, CurvePanel, draw_curves

    area = auc_interval(curve, quantity)
    values = 100 * as_values(getattr(curve, _column(curve, quantity))).astype(float)
    band = estimate_curve(_frame(values), yes=100)
    line = Curve(
        "complete",
        curve.fraction.tolist(),
        list(band["value"]),
        list(band["ci_low"]),
        list(band["ci_high"]),
        area.value,
        area.low,
        area.high,
        label=f"mean of {area.n} images",
    )
    words = {"accuracy": "recognised (%)", "probability": "probability of the label (%)"}
    title = f"{curve.order} order"
    return draw_curves([[CurvePanel(title, words[quantity], curve.higher_is_better, [line])]])


def auc_interval(curve: PerturbationCurve, quantity: str = "accuracy") -> Estimate:
    """Area under the curve in percent, with its 95 % interval over images."""
    from attnguide.evaluation.statistics import estimate

    return estimate(_series(curve.auc_per_image(quantity)), kind="mean")


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
    from attnguide.evaluation.statistics import estimate

    if first.order != second.order:
        raise InputError(f"both curves need one order, got {first.order} and {second.order}")
    if len(first.correct) != len(second.correct):
        raise InputError(
            "both curves must be of the same images, got "
            f"{len(first.correct)} and {len(second.correct)}"
        )
    if not torch.equal(first.fraction, second.fraction):
        raise InputError("both curves need the same fractions")
    gap = first.auc_per_image(quantity) - second.auc_per_image(quantity)
    return estimate(_series(gap), kind="mean")


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


def _column(curve: PerturbationCurve, quantity: str) -> str:
    curve.auc_per_image(quantity)  # refuses an unknown quantity
    return {"accuracy": "correct", "probability": "probability"}[quantity]


def _series(values: Tensor) -> pd.Series[float]:
    import pandas as pd

    return pd.Series(as_values(values).astype(float))


def _frame(values: NDArray[np.float64]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(values)
