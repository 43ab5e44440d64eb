"""LeGrad: the positive gradient of attention, every layer with a score of its own.

Bousselham, Boggust, Chaybouti, Strobelt, Kuehne, ICCV 2025, arXiv 2404.03214.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from attnguide.errors import InputError
from attnguide.tracing.capture import capture, gradient_of, unchanged
from attnguide.tracing.tokens import layers as blocks_of
from attnguide.tracing.trace import AttentionTrace, at_least_float32

SIGNED = False
CLASS_SENSITIVE = True
COST = 3  # 2 forwards, per layer 1 backward of one block


def explain(trace: AttentionTrace, *, layers: int | None = 2) -> Tensor:
    """(B, rows, cols), non-negative: mean over heads and reading tokens of positive gradient.

    The score of a layer is what the head says of the mean of all its output tokens. This is not
    the model's own loss where the head reads a class token.

    Args:
        trace: The shared pass.
        layers: How many, counted from the last; None for all.

    Raises:
        ValueError: layers outside [1, depth], a network without final `norm` and `forward_head`.
    """
    depth = len(blocks_of(trace.vit))
    count = depth if layers is None else layers
    if not isinstance(count, int) or not 1 <= count <= depth:
        raise InputError(
            f"layers of legrad must be an integer in [1, {depth}] for {trace.vit.name}, or None "
            f"for all, got {layers!r}"
        )
    _check_head(trace)
    attention, outputs = trace.cached(("legrad", count), lambda: _run(trace, count))
    maps = [_gradient(trace, *pair) for pair in zip(attention, outputs, strict=True)]
    return trace.on_grid(torch.stack(maps).sum(0))


def _run(trace: AttentionTrace, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Attention (B, H, N, N) and output (B, N, D) of the last blocks, on one graph."""
    blocks = blocks_of(trace.vit)
    first = len(blocks) - count
    outputs: list[Tensor] = []

    def begin(layer: int, attention: Tensor) -> Tensor:
        if layer == first:
            torch.set_grad_enabled(True)  # until no_grad below is left, which sets it back
        return attention

    with ExitStack() as hooks:
        for block in blocks[first:]:
            keep = block.register_forward_hook(lambda _, __, output: outputs.append(output))
            hooks.enter_context(keep)
        with torch.inference_mode(False), torch.no_grad(), capture(trace.vit, edit=begin) as seen:
            trace.vit.logits(trace.images.clone())
    return seen.attention[first:], outputs


def _gradient(trace: AttentionTrace, attention: Tensor, output: Tensor) -> Tensor:
    """(B, N): mean over heads and rows of the positive d score / d attention of one block."""
    module: Any = trace.vit.module
    with torch.inference_mode(False), torch.enable_grad(), unchanged(module):
        mean = output.mean(1, keepdim=True).expand_as(output)  # whatever the head reads is the mean
        logits = module.forward_head(module.norm(mean))
    (gradient,) = gradient_of(trace.vit.name, trace.objective, logits, [attention])
    return at_least_float32(gradient).clamp(min=0).mean((1, 2))


def _check_head(trace: AttentionTrace) -> None:
    module = trace.vit.module
    missing = [part for part in ("norm", "forward_head") if not hasattr(module, part)]
    if missing:
        raise InputError(
            f"legrad scores every layer by the model's final norm and head, and {trace.vit.name} "
            f"({type(module).__name__}) has no {' and no '.join(missing)}; use complete or gae"
        )
