"""Generic attention explainability: rollout of attention times positive gradient.

Chefer, Gur, Wolf, ICCV 2021, arXiv 2103.15679; the paper's Equation 4 in `rules.positive`.
"""

from __future__ import annotations

from torch import Tensor

from attnguide import rules
from attnguide.tracing.trace import AttentionTrace, corrected_rollout


def explain(trace: AttentionTrace) -> Tensor:
    """(B, rows, cols), non-negative."""
    return corrected_rollout(trace, rules.positive)
