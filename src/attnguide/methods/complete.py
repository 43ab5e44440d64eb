"""The paper's method: rollout of attention times its complete gradient; signed.

Cui, Fan, Chen, arXiv 2605.11392; Equation 5 in `rules.complete`.
"""

from __future__ import annotations

from torch import Tensor

from attnguide import rules
from attnguide.tracing.trace import AttentionTrace, corrected_rollout


def explain(trace: AttentionTrace) -> Tensor:
    """(B, rows, cols), signed: positive speaks for the target, negative against it."""
    return corrected_rollout(trace, rules.complete)
