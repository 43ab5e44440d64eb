"""Rollout of attention corrected by its gradient, with any correction rule.

Cui, Fan, Chen, arXiv 2605.11392: `gae`, `complete`, `absolute` and `rollout` are this method with
the paper's rules.
"""

from __future__ import annotations

from torch import Tensor

from attnguide import rules
from attnguide.tracing import trace as tracing
from attnguide.tracing.trace import AttentionTrace

SIGNED = True  # with a rule that is
CLASS_SENSITIVE = True
COST = 2.5  # 1 forward, 1 backward

PUBLISHED = {
    "positive": "gae",
    "complete": "complete",
    "absolute": "absolute",
    "centred": "centred",
    "identity": "rollout",
}


def explain(
    trace: AttentionTrace, *, rule: rules.Rule = rules.complete, gradient: str = "plain"
) -> Tensor:
    """(B, rows, cols), signed if the rule is.

    Args:
        trace: The shared pass.
        rule: Attention and its gradient (B, H, N, N) to the matrix (B, N, N) that is propagated.
        gradient: "plain", or "libra" for LibraGrad's (`tracing.libra`).

    Raises:
        ValueError: another gradient, or a network without a rule for LibraGrad.
    """
    return tracing.corrected_rollout(trace, rule, gradient)
