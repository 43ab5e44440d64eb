"""What a model still knows while patches are filled, and the area under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from attnguide.errors import InputError, unknown_name
from attnguide.types import notebook

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PerturbationCurve:
    """What a model still knows while patches are filled.

    Attributes:
        fraction: (S,) share of the patches that are filled.
        correct: (B, S) bool, top-1 equals the label.
        probability: (B, S) of the label, in [0, 1].
        logit: (B, S) of the label.
        prediction: (B, S) int64, top-1 class.
        order: "positive" (most relevant first) or "negative".
    """

    fraction: Tensor
    correct: Tensor
    probability: Tensor
    logit: Tensor
    prediction: Tensor
    order: str

    @property
    def higher_is_better(self) -> bool:
        """A faithful map keeps the class in negative order and loses it in positive order."""
        return self.order == "negative"

    @overload
    def auc(self, quantity: str = ..., *, interval: Literal[False] = ...) -> float: ...

    @overload
    def auc(self, quantity: str = ..., *, interval: Literal[True]) -> Any: ...

    def auc(self, quantity: str = "accuracy", *, interval: bool = False) -> Any:
        """Mean over images of `auc_per_image`, in percent; an `Estimate` where `interval`."""
        if interval:
            return notebook("perturbations").auc_interval(self, quantity)
        return float(self.auc_per_image(quantity).mean())

    def plot(self, quantity: str = "accuracy") -> Figure:
        """A figure of the curve with its 95 % band over images."""
        return notebook("perturbations").plot_curve(self, quantity)

    def __repr__(self) -> str:
        """One line for people."""
        return notebook("perturbations").curve_line(self)

    def auc_per_image(self, quantity: str = "accuracy") -> Tensor:
        """(B,) area under the curve in percent: a constant curve has itself as AUC.

        Args:
            quantity: "accuracy" (`correct`) or "probability".

        Raises:
            ValueError: another quantity, or a single fraction.
        """
        values = {"accuracy": self.correct, "probability": self.probability}
        if quantity not in values:
            raise unknown_name("quantity", quantity, list(values))
        return 100 * area_under_curve(self.fraction, values[quantity])


def area_under_curve(fraction: Tensor, value: Tensor) -> Tensor:
    """(...,) trapezoid area of `value` (..., S) over `fraction` (S,), divided by its range.

    Raises:
        ValueError: fewer than two fractions, or fractions that do not increase.
    """
    if fraction.numel() < 2 or bool((fraction.diff() <= 0).any()):
        raise InputError(
            f"an area needs at least two increasing fractions, got {fraction.tolist()}"
        )
    fraction = fraction.double()
    return torch.trapezoid(value.double(), fraction, dim=-1) / (fraction[-1] - fraction[0])
