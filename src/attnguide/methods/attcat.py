"""Attentive class activation tokens: tokens times gradient, weighted by how much they are read.

Qiang, Pan, Li, Li, Jang, Zhu, NeurIPS 2022; made for text, carried over to images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attnguide.tracing.trace import AttentionTrace

SIGNED = True
CLASS_SENSITIVE = True
COST = 2.5  # 1 forward, 1 backward


def explain(trace: AttentionTrace, *, attention: bool = True, gradient: str = "plain") -> Tensor:
    """(B, rows, cols), signed: sum over blocks of tokens that enter times gradient.

    Args:
        trace: The shared pass.
        attention: Weight each token of a block by the mean attention that it receives there, over
            heads and all tokens that read. False is the authors' CAT.
        gradient: "plain", or "libra" for LibraGrad's (`tracing.libra`).

    Raises:
        ValueError: another gradient, or a network without a rule for LibraGrad.
    """
    pairs = trace.with_gradient(gradient).tokens_and_gradient()
    terms = [(tokens * flow).sum(-1) for tokens, flow in pairs]
    if attention:
        read = [matrix.mean((1, 2)) for matrix in trace.attention]
        terms = [term * weight for term, weight in zip(terms, read, strict=True)]
    return trace.on_grid(torch.stack(terms).sum(0))
