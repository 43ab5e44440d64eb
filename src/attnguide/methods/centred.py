"""Rollout of the gradient before the softmax: complete correction without its free zero point.

Ours, after Cui, Fan, Chen, arXiv 2605.11392; `rules.centred`. The attention's gradient through the
softmax (Sundararajan et al., ICML 2017, on implementation invariance).
"""

from __future__ import annotations

from torch import Tensor

from attnguide import rules
from attnguide.tracing.trace import AttentionTrace, corrected_rollout

SIGNED = True
CLASS_SENSITIVE = True
COST = 2.5  # 1 forward, 1 backward


def explain(trace: AttentionTrace, *, gradient: str = "plain") -> Tensor:
    """(B, rows, cols), signed: positive speaks for the target, negative against it.

    `corrected_rollout` with `rules.centred`; `gradient` is explained there.
    """
    return corrected_rollout(trace, rules.centred, gradient)
