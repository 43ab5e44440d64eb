"""Relevance propagation with attention held: input times gradient of an edited backward pass.

Ali, Schnake, Eberle, Montavon, Mueller, Wolf, ICML 2022; for images Achtibat et al., ICML 2024,
arXiv 2402.05602.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.errors import InputError
from attnguide.methods._lrp.backward import gamma_gradient
from attnguide.methods._sampling import patch_sums
from attnguide.tracing.trace import AttentionTrace

SIGNED = True
CLASS_SENSITIVE = True
COST = 4  # 2 forwards, 1 backward; with gamma, affine layers take about 5 times as long in it
SUM = "logit"  # what a map would sum to without biases: `evaluation.sanity`


def explain(
    trace: AttentionTrace, *, gamma: float | None = None, gamma_conv: float = 0.25
) -> Tensor:
    """(B, rows, cols), signed: normalised pixels times their edited gradient, summed per patch.

    The gradient is LibraGrad's (`tracing.libra`): queries, keys, LayerNorm's deviation and GELU's
    gate are held. Biases and the position embedding keep their relevance, so a map does not sum to
    the logit.

    Args:
        trace: The shared pass.
        gamma: Of the gamma rule for the linear layers outside the attention, zero or more; the
            authors tried 0.01 to 1. None is no rule anywhere, 0 no rule for these layers.
        gamma_conv: The same for the patch embedding, used where gamma is given.

    Raises:
        ValueError: a negative gamma; a part of the network for which there is no rule.
    """
    for name, value in (("gamma", gamma), ("gamma_conv", gamma_conv)):
        if value is not None and not 0 <= value < float("inf"):
            raise InputError(f"{name} of cp_lrp must be zero or more, got {value}; 0.05 is usual")
    if gamma is None:
        edited = trace.with_gradient("libra").image_gradient
    else:
        edited = gamma_gradient(trace, gamma, gamma_conv)
    return patch_sums(trace, trace.images * edited)
