"""Rollout of attention times the size of its gradient; nearly blind to the class.

Cui, Fan, Chen, arXiv 2605.11392; Equation 6 in `rules.absolute`.
"""

from __future__ import annotations

from torch import Tensor

from attnguide import rules
from attnguide.tracing.trace import AttentionTrace, corrected_rollout


def explain(trace: AttentionTrace) -> Tensor:
    """(B, rows, cols), non-negative."""
    return corrected_rollout(trace, rules.absolute)
