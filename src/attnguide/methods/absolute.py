"""Rollout of attention times the size of its gradient; nearly blind to the class.

Cui, Fan, Chen, arXiv 2605.11392; Equation 6 in `rules.absolute`.
"""

from __future__ import annotations

from torch import Tensor

from attnguide import rules
from attnguide.tracing.trace import AttentionTrace, corrected_rollout

SIGNED = False
CLASS_SENSITIVE = True
COST = 2.5  # 1 forward, 1 backward


def explain(trace: AttentionTrace, *, gradient: str = "plain") -> Tensor:
    """(B, rows, cols), non-negative.

    `corrected_rollout` with `rules.absolute`; `gradient` is explained there.
    """
    return corrected_rollout(trace, rules.absolute, gradient)
