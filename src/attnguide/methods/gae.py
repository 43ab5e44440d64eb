"""Generic attention explainability: rollout of attention times positive gradient.

Chefer, Gur, Wolf, ICCV 2021, arXiv 2103.15679; the paper's Equation 4 in `rules.positive`.
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

    `corrected_rollout` with `rules.positive`; `gradient` is explained there.
    """
    return corrected_rollout(trace, rules.positive, gradient)
