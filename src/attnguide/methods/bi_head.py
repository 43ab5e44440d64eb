"""Beyond Intuition, head-wise: attention perception times reasoning feedback.

Chen, Li, Yu, Dou, Xiong, "Beyond Intuition: Rethinking Token Attributions inside Transformers",
TMLR 2023.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.methods._feedback import chain_start, check_steps, fed_back, identity_rows
from attnguide.methods._sampling import safe_divide
from attnguide.tracing.trace import AttentionTrace

SIGNED = False
CLASS_SENSITIVE = True
COST = 24  # steps + 1 forwards, 1 backward, and steps backwards of the last block


def explain(trace: AttentionTrace, *, start_layer: int | None = None, steps: int = 20) -> Tensor:
    """(B, rows, cols), non-negative.

    Args:
        trace: The shared pass.
        start_layer: Layer of the chain nearest the image, 1-based as published; None is the
            published 4 of 12 layers, and the same share of another depth, rounded down.
        steps: Points from the grey image to the image at which the gradient is taken.

    Raises:
        ValueError: start_layer beyond the depth, fewer than two steps.
    """
    check_steps("bi_head", steps, least=2)
    start = chain_start("bi_head", trace.vit, start_layer, first=1, published=4)
    pairs = zip(trace.attention, trace.gradient, strict=True)
    matrices = [weighted_heads(a, g) for a, g in list(pairs)[start:]]
    return fed_back(trace, identity_rows(trace), matrices, steps)


def weighted_heads(attention: Tensor, gradient: Tensor) -> Tensor:
    """(B, N, N) mean over heads, each weighted by the mean size of A^T G; weights sum to 1.

    Heads whose gradient is zero altogether weigh nothing.
    """
    size = (attention.mT @ gradient).abs().mean((-2, -1))
    weight = safe_divide(size, size.sum(-1, keepdim=True))
    return (weight[..., None, None] * attention).sum(1)
