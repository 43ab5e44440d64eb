"""The paper's method: rollout of attention times its complete gradient; signed.

Cui, Fan, Chen, arXiv 2605.11392; Equation 5 in `rules.complete`.
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

    `corrected_rollout` with `rules.complete`; `gradient` is explained there.
    """
    return corrected_rollout(trace, rules.complete, gradient)
