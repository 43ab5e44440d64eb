"""Last layer's attention, class row, averaged over heads.

Baseline of Chefer et al., CVPR 2021. Blind to the class.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.tracing.trace import AttentionTrace

SIGNED = False
CLASS_SENSITIVE = False
COST = 1  # 1 forward


def explain(trace: AttentionTrace) -> Tensor:
    """(B, rows, cols), non-negative, the same for every target."""
    last = trace.attention[-1].mean(1)
    return trace.on_grid(trace.readout @ last)
