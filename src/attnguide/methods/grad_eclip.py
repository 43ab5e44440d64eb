"""Grad-ECLIP: the last layer's gradient times a loosened attention.

Zhao, Wang, Zeng, Zhao, Chan, "Gradient-based Visual Explanation for CLIP", ICML 2024,
arXiv 2502.18816.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attnguide.errors import InputError, unknown_name
from attnguide.methods._feedback import gradients_for, last_layer, read_rows
from attnguide.methods._sampling import min_max
from attnguide.tracing.trace import AttentionTrace, at_least_float32

SIGNED = False
CLASS_SENSITIVE = True
COST = 2.5  # 2 forwards, 1 backward of the last block


def explain(trace: AttentionTrace, *, heads: str = "single") -> Tensor:
    """(B, rows, cols), non-negative.

    Args:
        trace: The shared pass.
        heads: "single" gives the last layer one head of full width, as published, which changes
            the model that is explained; "multi" keeps the model as it is.

    Raises:
        ValueError: another `heads`; a model that reads no class token, or shows no queries.
    """
    if heads not in ("single", "multi"):
        raise unknown_name("heads of grad_eclip", heads, ["single", "multi"])
    _check_class_token(trace)
    query, key = _concatenated(trace)
    if heads == "multi":
        gradient = trace.gradient[-1]
    else:
        attention, logits = trace.cached("single head", lambda: _single_head(trace, query, key))
        owner = torch.arange(len(logits), device=logits.device)
        (gradient,) = gradients_for(trace, owner, logits, [attention])
    rows, prefix = read_rows(trace), trace.vit.num_prefix
    slope = gradient.sum(1)[:, rows, prefix:]  # channel weights times values, summed over channels
    cosine = F.normalize(query[:, rows], dim=-1) @ F.normalize(key[:, prefix:], dim=-1).mT
    relevance = (trace.readout[rows] @ (min_max(cosine) * slope)).clamp(min=0)
    return relevance.unflatten(-1, trace.vit.grid)


def _check_class_token(trace: AttentionTrace) -> None:
    vit = trace.vit
    if bool((trace.readout[vit.num_prefix :] != 0).any()):
        raise InputError(
            f"grad_eclip compares patches with the query of a class token, but {vit.name} reads "
            "the mean of its patches; use a model with global_pool='token', or complete or gradcam"
        )


def _concatenated(trace: AttentionTrace) -> tuple[Tensor, Tensor]:
    """(B, N, D) queries and keys of the last layer, heads side by side."""
    recording = trace.recording
    if len(recording.query) != len(recording.attention):
        raise InputError(
            f"grad_eclip needs the queries and keys of the last attention, which {trace.vit.name} "
            "does not show; use a timm VisionTransformer, or complete or gae"
        )
    query, key = (at_least_float32(each[-1].detach()) for each in (recording.query, recording.key))
    return query.transpose(1, 2).flatten(2), key.transpose(1, 2).flatten(2)


def _single_head(trace: AttentionTrace, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Attention (B, H, N, N), the same in all heads, and logits of the model that uses it."""
    attention = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
    heads = trace.attention[-1].shape[1]
    spread = attention.unsqueeze(1).expand(-1, heads, -1, -1)
    return last_layer(trace.vit, trace.images, spread)
