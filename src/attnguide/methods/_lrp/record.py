"""One forward pass that keeps what relevance propagation needs of every block."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from attnguide.errors import InputError
from attnguide.methods._lrp.layer_rules import Linear
from attnguide.tracing.blocks import effective_weight, linear_layers, why_not_standard
from attnguide.tracing.capture import capture, unchanged
from attnguide.tracing.tokens import layers, visit
from attnguide.tracing.trace import AttentionTrace, at_least_float32, layers_from
from attnguide.types import ViT

Seen = dict[nn.Module, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Record:
    """Activations of one forward pass, layer 0 first.

    Attributes:
        seen: Input and output of blocks, of their second norms and of both branches, by part.
        linear: Its linear layers with their inputs, by layer.
        attention: L tensors (B, H, N, N) after softmax.
        query, key, value: L tensors (B, H, N, D / H).
        patches: (B, P, D) output of the patch embedding.
        position: (B, P, D) what is added to it, the position embedding.
        final: (B, N, D) tokens that are pooled.
        head: The classifier; of a distilled model both heads as one layer on both features.
    """

    seen: Seen
    linear: dict[nn.Module, Linear]
    attention: list[Tensor]
    query: list[Tensor]
    key: list[Tensor]
    value: list[Tensor]
    patches: Tensor
    position: Tensor
    final: Tensor
    head: Linear


def record(trace: AttentionTrace, method: str, start_layer: int = 0) -> Record:
    """The recorded pass of these images, made once for all targets and LRP methods.

    It holds about as much memory as the graph of the shared pass, and as much again for what the
    linear layers keep.

    Raises:
        ValueError: a model with parts for which the published rules say nothing; start_layer
            beyond the depth.
    """
    _check_standard(trace.vit, method)
    layers_from(tuple(layers(trace.vit)), start_layer)
    return trace.cached("lrp", lambda: _run(trace))


def _run(trace: AttentionTrace) -> Record:
    module: Any = trace.vit.module
    parts = _parts(module)
    with capture(trace.vit) as recording:
        pairs = visit(trace.vit, trace.images, parts)
    seen = {
        part: (at_least_float32(entered), at_least_float32(left))
        for part, (entered, left) in zip(parts, pairs, strict=True)
    }
    columns = (recording.attention, recording.query, recording.key, recording.value)
    with unchanged(module):  # adapters are asked for what they add
        linear = {
            layer: Linear(entered, at_least_float32(effective_weight(layer, entered.shape[-1])))
            for layer in [*chain(*map(linear_layers, module.blocks)), *_heads(module)]
            for entered in [seen[layer][0]]
        }
    attention, query, key, value = (list(map(at_least_float32, column)) for column in columns)
    patches = seen[module.patch_embed][1].flatten(1, -2)
    return Record(
        {part: pair for part, pair in seen.items() if part not in linear},
        linear,
        attention,
        query,
        key,
        value,
        patches=patches,
        position=seen[module.pos_drop][0][:, trace.vit.num_prefix :] - patches,
        final=seen[module.norm][1],
        head=_as_one([linear[head] for head in _heads(module)]),
    )


def _parts(module: Any) -> list[nn.Module]:
    """Everything whose input or output is kept."""
    parts = [module.patch_embed, module.pos_drop, module.norm, *_heads(module)]
    for block in module.blocks:
        parts += [block, block.drop_path1, block.norm2, block.drop_path2, *linear_layers(block)]
    return parts


def _heads(module: Any) -> list[Any]:
    return [h for h in (module.head, getattr(module, "head_dist", None)) if h is not None]


def _as_one(heads: list[Linear]) -> Linear:
    """Several heads average their logits: one layer on their inputs side by side."""
    weight = torch.cat([head.weight for head in heads], -1)
    return Linear(torch.cat([head.inputs for head in heads], -1), weight / len(heads))


def _check_standard(vit: ViT, method: str) -> None:
    """Refuse, by name, every part that the published rules do not cover."""
    found = why_not_standard(vit.module)
    if not found and not all(isinstance(head, nn.Linear) for head in _heads(vit.module)):
        found = f"its head is a {type(vit.module.head).__name__}"
    if found:
        raise InputError(
            f"method {method!r} has relevance rules for standard timm VisionTransformer blocks "
            f"only (Block with Attention and Mlp), and {vit.name} is none: {found}; use a method "
            "without LRP, such as complete, gae, rollout or gradcam"
        )
