"""Attention maps as the only parameters: where does attention go when a logit is minimised?

The attention after softmax of every layer and head is a free parameter: values are computed anew
from it in every forward pass, queries and keys play no part. Plain gradient descent lowers the
target's logit, and after every step the complete correction explains the model as it then is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnguide import rules
from attnguide.errors import InputError
from attnguide.tracing.capture import Pass, capture
from attnguide.tracing.trace import AttentionTrace, corrected_rollout
from attnguide.types import ViT


@dataclass(frozen=True)
class Descent:
    """What happened on the way down; S counts the start (0) and every step.

    Attributes:
        logits: (S, B, C).
        relevance: (S, B, rows, cols), complete correction of the target's logit, raw.
        other: (2, B, rows, cols), that of the other class's logit at the start and at the end; None
            where no other class is given.
        row_error: (S, B) largest distance of a row's sum from 1, over layers and heads.
        negative: (S, B) share of the attention's entries below zero.
    """

    logits: Tensor
    relevance: Tensor
    other: Tensor | None
    row_error: Tensor
    negative: Tensor


def descend(
    vit: ViT,
    images: Tensor,
    target: Tensor,
    other: Tensor | None = None,
    *,
    lr: float = 4e-4,
    steps: int = 32,
) -> Descent:
    """Gradient descent of the target's logit over the attention maps.

    Nothing keeps the maps a distribution: `row_error` and `negative` tell how far they have left.

    Args:
        vit: The model; it is left as it was.
        images: (B, 3, H, W), normalised.
        target: (B,) int64, the class whose logit is lowered.
        other: (B,) int64, the class that attention moves to, explained too.
        lr: Learning rate; the paper uses 4e-4.
        steps: How many; the paper does not say.

    Raises:
        ValueError: a rate or a number of steps that is not positive, or a model whose head reads
            no fixed tokens.

    Paper: Sec. 4.4.1, Figure 6.
    """
    if not lr > 0 or steps < 1:
        raise InputError(f"lr and steps must be positive, got lr={lr} and steps={steps}")
    images, target = images.to(vit.device, vit.dtype), target.to(vit.device)
    attention: Sequence[Tensor] | None = None
    logits, relevance, others, errors, negative = [], [], [], [], []
    for step in range(steps + 1):
        trace = _trace(vit, images, target, attention)
        relevance.append(corrected_rollout(trace, rules.complete))
        if other is not None and step in (0, steps):
            of_other = trace.for_target(other.to(vit.device))
            others.append(corrected_rollout(of_other, rules.complete))
        logits.append(trace.logits)
        errors.append(torch.stack([_row_error(a) for a in trace.attention]).amax(0))
        negative.append(
            torch.stack([(a < 0).to(a).mean((1, 2, 3)) for a in trace.attention]).mean(0)
        )
        attention = [a - lr * g for a, g in zip(trace.attention, trace.gradient, strict=True)]
    return Descent(
        torch.stack(logits),
        torch.stack(relevance),
        torch.stack(others) if others else None,
        torch.stack(errors),
        torch.stack(negative),
    )


def _trace(
    vit: ViT, images: Tensor, target: Tensor, attention: Sequence[Tensor] | None
) -> AttentionTrace:
    """The model with this attention, each layer's a leaf of the graph; at first with its own."""

    def edit(layer: int, own: Tensor) -> Tensor:
        return own.detach() if attention is None else attention[layer]

    with torch.inference_mode(False), torch.enable_grad(), capture(vit, edit=edit) as recording:
        logits = vit.logits(images)
    found = Pass(vit.name, recording, logits)
    return AttentionTrace(vit, images, target, shared={("attention", "plain"): found})


def _row_error(attention: Tensor) -> Tensor:
    """(B,) of (B, H, N, N)."""
    return (attention.sum(-1) - 1).abs().amax((1, 2))
