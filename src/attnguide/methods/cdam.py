"""Class-discriminative attention maps: the last block's normalised tokens times their gradient.

Brocki, Chung, arXiv 2312.02364.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.methods._features import patch_features
from attnguide.tracing.trace import AttentionTrace

SIGNED = True
CLASS_SENSITIVE = True
COST = 2.5  # 2 forwards, 1 backward of the last block


def explain(trace: AttentionTrace) -> Tensor:
    """(B, rows, cols), signed: sum over channels of what the last attention reads times gradient.

    The gradient goes through queries, keys and values, not through the residual connection.

    Raises:
        ValueError: a block without one attention module.
    """
    features, gradient = patch_features(trace, -1, "cdam")
    return (features * gradient).sum(-1).unflatten(-1, trace.vit.grid)
