"""Attention rollout: product over layers of identity plus mean attention; blind to the class.

Abnar and Zuidema, ACL 2020, arXiv 2005.00928; the paper's Equations 1 to 3.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.propagate import rollout
from attnguide.tracing.trace import AttentionTrace, layers_from

SIGNED = False
CLASS_SENSITIVE = False
COST = 1  # 1 forward


def explain(trace: AttentionTrace, *, normalize: bool = False, start_layer: int = 0) -> Tensor:
    """(B, rows, cols), non-negative, the same for every target.

    Args:
        trace: The shared pass.
        normalize: Divide rows by their sums (Abnar and Zuidema); with start_layer=0 this is
            exactly 2^-L times the paper's map, the same ranking.
        start_layer: First layer of the product, 0-based.

    Raises:
        ValueError: start_layer beyond the depth.
    """
    layers = layers_from(trace.attention, start_layer)
    matrices = (attention.mean(1) for attention in reversed(layers))
    return trace.on_grid(rollout(matrices, trace.readout, normalize=normalize))
