"""Token features, their gradient, and maps of positive evidence (the GradCAM family)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from attnguide.errors import InputError
from attnguide.tracing.capture import gradient_of, unchanged
from attnguide.tracing.tokens import layers
from attnguide.tracing.trace import AttentionTrace, at_least_float32

NAMED = 5  # images in a warning


def patch_features(trace: AttentionTrace, layer: int, method: str) -> tuple[Tensor, Tensor]:
    """Features of the patches that the attention of `layer` reads, and d loss / d features.

    This is the input of the block's attention module: in a timm Block the output of `norm1`. The
    output of the last block will not do: a class token no longer reads it, its gradient is zero.

    Args:
        trace: The shared pass.
        layer: Block, 0-based; negative counts from the last.
        method: Name for the error.

    Returns:
        Two tensors (B, P, D); the forward pass is shared by all targets and methods.

    Raises:
        ValueError: no such layer, or a block without one attention module.
    """
    blocks = layers(trace.vit)
    depth = len(blocks)
    if not isinstance(layer, int) or not -depth <= layer < depth:
        raise InputError(f"layer must be an integer in [{-depth}, {depth - 1}], got {layer!r}")
    attention = getattr(blocks[layer], "attn", None)
    if not isinstance(attention, nn.Module):
        raise InputError(
            f"method {method!r} needs blocks with one attention module 'attn', and block {layer} "
            f"of {trace.vit.name} is a {type(blocks[layer]).__name__}; use rollout, gae or complete"
        )
    tokens, logits = trace.cached(("features", layer % depth), lambda: _forward(trace, attention))
    (gradient,) = gradient_of(trace.vit.name, trace.objective, logits, [tokens])
    first = trace.vit.num_prefix
    features, slope = at_least_float32(tokens.detach()), at_least_float32(gradient)
    return features[:, first:], slope[:, first:]


def _forward(trace: AttentionTrace, attention: nn.Module) -> tuple[Tensor, Tensor]:
    """Tokens that `attention` reads, as the leaf of a graph, and logits."""
    leaf: list[Tensor] = []

    def cut(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        leaf.append(inputs[0].detach().requires_grad_())
        return leaf[0], *inputs[1:]

    vit, begin = trace.vit, attention.register_forward_pre_hook
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        unchanged(vit.module),
        begin(cut),  # while no other thread uses the network
    ):
        logits = vit.logits(trace.images.clone())
    return leaf[0], logits


def positive_evidence(trace: AttentionTrace, method: str, patches: Tensor) -> Tensor:
    """(B, rows, cols) positive part of a value per patch (B, P).

    A map without any positive value is all zero: it stays so, and a warning names such images.
    """
    maps = torch.unflatten(patches.clamp(min=0), -1, trace.vit.grid)
    empty = (maps == 0).flatten(1).all(1).nonzero().flatten().tolist()
    if empty:
        classes = [trace.vit.class_names[int(trace.target[place])] for place in empty]
        named = [f"{c!r} in images[{place}]" for c, place in zip(classes, empty, strict=True)]
        named[NAMED:] = [f"{len(empty) - NAMED} more"] if len(empty) > NAMED else []
        warnings.warn(
            f"{len(empty)} of {len(maps)} maps of method {method!r} are all zero and rank nothing: "
            f"it found no positive evidence for {', '.join(named)}",
            stacklevel=2,
        )
    return maps
