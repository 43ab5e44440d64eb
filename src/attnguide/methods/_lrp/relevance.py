"""Relevance carried from the classifier down, block by block."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnguide.methods._lrp import layer_rules as rules
from attnguide.methods._lrp.layer_rules import Family
from attnguide.methods._lrp.record import Record
from attnguide.tracing.trace import AttentionTrace


class Step(NamedTuple):
    """What one block leaves behind.

    Attributes:
        attention: (B, H, N, N) relevance of its attention matrix, signed.
        tokens: (B, N, D) relevance of its input.
    """

    attention: Tensor
    tokens: Tensor


def descend(trace: AttentionTrace, record: Record, family: Family) -> Iterator[Step]:
    """Blocks from the last to the first; a block is computed when it is asked for.

    Relevance starts as the gradient of the loss by the logits: one-hot for the logit, as
    published; for a two-class loss the reference class starts with the opposite sign.
    """
    relevance = family.linear(_start(trace), record.head)
    relevance = _unpool(relevance, record.final, trace.readout)
    for layer, block in reversed(list(enumerate(trace.vit.module.blocks))):
        step = _through(record, layer, block, relevance, family)
        relevance = step.tokens
        yield step


def _start(trace: AttentionTrace) -> Tensor:
    """(B, C) gradient of the loss by the logits."""
    with torch.inference_mode(False), torch.enable_grad():
        logits = trace.logits.clone().requires_grad_()
        return torch.autograd.grad(trace.objective(logits).sum(), logits)[0]


def _unpool(relevance: Tensor, tokens: Tensor, readout: Tensor) -> Tensor:
    """(B, N, D) from relevance (B, K D) of what K heads read.

    One head reads the pooled feature. Of two features the first is the class token, the second
    the rest of the readout: the distillation token, or DINOv2's mean of the patches.
    """
    features = torch.unflatten(relevance, -1, (-1, tokens.shape[-1])).unbind(1)
    first = torch.eye(len(readout)).to(readout)[0]
    rows = [readout] if len(features) == 1 else [first, 2 * readout - first]
    pairs = zip(features, rows, strict=True)
    return torch.stack([rules.mean(feature, tokens, row) for feature, row in pairs]).sum(0)


def _through(record: Record, layer: int, block: Any, relevance: Tensor, family: Family) -> Step:
    """One block: residual, MLP, residual, attention, each in turn."""
    seen, linear = record.seen, record.linear
    tokens, attended = seen[block][0], seen[block.drop_path1][1]
    middle, mixed = seen[block.norm2][0], seen[block.drop_path2][1]
    attention, key = record.attention[layer], record.key[layer]

    skipped, branch = family.add(relevance, middle, mixed)
    branch = family.linear(family.linear(branch, linear[block.mlp.fc2]), linear[block.mlp.fc1])
    relevance = rules.fork(skipped + branch, middle)

    skipped, branch = family.add(relevance, tokens, attended)
    context = family.linear(branch, linear[block.attn.proj])
    context = torch.unflatten(context, -1, (attention.shape[1], -1)).transpose(1, 2)
    of_attention, of_value = rules.product(context, attention, record.value[layer])
    of_query, of_key = rules.product(of_attention, record.query[layer], key.transpose(-2, -1))
    parts = torch.stack([of_query, of_key.transpose(-2, -1), of_value], 1)  # (B, 3, H, N, D / H)
    branch = family.linear(parts.permute(0, 3, 1, 2, 4).flatten(2), linear[block.attn.qkv])
    return Step(of_attention, rules.fork(skipped + branch, tokens))


@cache
def warn_float32(method: str) -> None:
    """Say, once in a process, that float32 does not determine the map of this method."""
    warnings.warn(
        f"method {method!r} is ill-conditioned in float32: it divides by sums that nearly cancel, "
        "and its maps can differ from the float64 ones beyond recognition; use "
        "vit.module.double() and images.double()",
        stacklevel=3,
    )
