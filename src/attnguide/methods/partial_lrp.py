"""Partial LRP: the relevance of the last layer's attention, averaged over heads.

Voita et al., ACL 2019, arXiv 1905.09418, as the baseline of Chefer et al., CVPR 2021.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.methods._lrp.layer_rules import SEPARATE
from attnguide.methods._lrp.record import record
from attnguide.methods._lrp.relevance import descend
from attnguide.tracing.trace import AttentionTrace

SIGNED = False
CLASS_SENSITIVE = True
COST = 3  # 2 forwards, then a descent through the last block


def explain(trace: AttentionTrace, *, start_layer: int = 0) -> Tensor:
    """(B, rows, cols), non-negative: mean over heads of the positive relevance of the class row.

    Only the last block is entered; the original descends through all blocks for the same map.

    Args:
        trace: The shared pass.
        start_layer: Where the descent may end, 0-based, as in `lrp`; the map is read at the last
            layer, before any of them, so every valid one gives the same map.

    Raises:
        ValueError: start_layer beyond the depth; blocks without published relevance rules.
    """
    last = next(descend(trace, record(trace, "partial_lrp", start_layer), SEPARATE))
    return trace.on_grid(trace.readout @ last.attention.clamp(min=0).mean(1))
