"""Input times gradient: what every pixel adds to a linear reading of the network.

Shrikumar, Greenside, Shcherbina, Kundaje, arXiv 1605.01713.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.methods._sampling import patch_sums
from attnguide.tracing.trace import AttentionTrace

SIGNED = True
CLASS_SENSITIVE = True
COST = 2.5  # 1 forward, 1 backward
SUM = "logit"  # what a map would sum to without biases: `evaluation.sanity`


def explain(trace: AttentionTrace, *, gradient: str = "plain") -> Tensor:
    """(B, rows, cols), signed: normalised pixels times their gradient, summed over each patch.

    A pixel of normalised value 0 gets 0, whatever its effect.

    Args:
        trace: The shared pass.
        gradient: "plain", or "libra" for LibraGrad's (`tracing.libra`).

    Raises:
        ValueError: another gradient, or a network without a rule for LibraGrad.
    """
    return patch_sums(trace, trace.images * trace.with_gradient(gradient).image_gradient)
