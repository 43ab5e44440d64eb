"""Transition attention maps: a Markov chain of attention, weighted by an averaged gradient.

Yuan, Li, Xiong, Cao, Dou, "Explaining Information Flow Inside Vision Transformers Using Markov
Chain", NeurIPS 2021 workshop XAI4Debugging.
"""

from __future__ import annotations

from torch import Tensor

from attnguide.methods._feedback import chain_start, check_steps, fed_back, read_rows
from attnguide.tracing.trace import AttentionTrace

SIGNED = False
CLASS_SENSITIVE = True
COST = 20  # steps + 1 forwards, steps backwards of the last block


def explain(trace: AttentionTrace, *, start_layer: int | None = None, steps: int = 20) -> Tensor:
    """(B, rows, cols), non-negative.

    Args:
        trace: The shared pass.
        start_layer: Layer of the chain nearest the image, 0-based as published; None is the
            published 4 of 12 layers, and the same share of another depth, rounded down.
        steps: Points from the grey image to the image at which the gradient is taken.

    Raises:
        ValueError: start_layer beyond the depth, fewer than two steps.
    """
    check_steps("tam", steps, least=2)
    start = chain_start("tam", trace.vit, start_layer, first=0, published=4)
    attention = [layer.mean(1) for layer in trace.attention]
    return fed_back(trace, attention[-1][:, read_rows(trace)], attention[start:-1], steps)
