"""Beyond Intuition, token-wise: attention perception times reasoning feedback.

Chen, Li, Yu, Dou, Xiong, "Beyond Intuition: Rethinking Token Attributions inside Transformers",
TMLR 2023.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attnguide.errors import InputError
from attnguide.methods._feedback import chain_start, check_steps, fed_back, identity_rows
from attnguide.methods._sampling import safe_divide
from attnguide.tracing.blocks import effective_weight
from attnguide.tracing.capture import unchanged
from attnguide.tracing.tokens import layers, visit_tokens
from attnguide.tracing.trace import AttentionTrace, at_least_float32
from attnguide.types import ViT

SIGNED = False
CLASS_SENSITIVE = True
COST = 24  # steps + 2 forwards, steps backwards of the last block


def explain(trace: AttentionTrace, *, start_layer: int | None = None, steps: int = 20) -> Tensor:
    """(B, rows, cols), non-negative.

    Args:
        trace: The shared pass.
        start_layer: Layer of the chain nearest the image, 1-based as published; None is the
            published 7 of 12 layers, and the same share of another depth, rounded down.
        steps: Points from the grey image to the image at which the gradient is taken.

    Raises:
        ValueError: start_layer beyond the depth, fewer than two steps, a model whose attention
            shows no values or no output projection.
    """
    check_steps("bi_token", steps, least=2)
    start = chain_start("bi_token", trace.vit, start_layer, first=1, published=7)
    shares = trace.cached("token shares", lambda: _token_shares(trace))
    pairs = zip(trace.attention, shares, strict=True)
    matrices = [attention.mean(1) * share.unsqueeze(1) for attention, share in pairs]
    return fed_back(trace, identity_rows(trace), matrices[start:], steps)


def _token_shares(trace: AttentionTrace) -> list[Tensor]:
    """L tensors (B, N): size of what a token offers to the others, over its own size."""
    vit, values = trace.vit, trace.recording.value
    blocks = layers(vit)
    weights = [_projection(vit, block) for block in blocks if _has_projection(block)]
    if not len(values) == len(weights) == len(blocks):
        raise InputError(
            f"bi_token needs the values and the output projection of every attention, which "
            f"{vit.name} does not show; use a timm VisionTransformer, or bi_head"
        )
    stream = visit_tokens(vit, trace.images, blocks)
    shares = []
    for value, weight, (tokens, _) in zip(values, weights, stream, strict=True):
        offer = at_least_float32(value.detach()).transpose(1, 2).flatten(2) @ weight.mT
        shares.append(safe_divide(offer.norm(dim=-1), at_least_float32(tokens).norm(dim=-1)))
    return shares


def _has_projection(block: Any) -> bool:
    return hasattr(getattr(getattr(block, "attn", None), "proj", None), "weight")


def _projection(vit: ViT, block: Any) -> Tensor:
    """(D, D) output projection of a block's attention, with its layer scale if it has one."""
    with unchanged(vit.module):
        weight = at_least_float32(effective_weight(block.attn.proj, vit.module.embed_dim))
    scale = getattr(getattr(block, "ls1", None), "gamma", None)
    return weight if scale is None else weight * scale.detach().unsqueeze(-1)
