"""Deep integrated explanations: attention injected in growing shares, rollouts added up.

Barkan, Elisha, Weill, Asher, Eshel, Koenigstein, CIKM 2023, arXiv 2310.15368.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attnguide.errors import InputError
from attnguide.methods._feedback import along, check_steps, gradients_for
from attnguide.propagate import rollout
from attnguide.tracing.capture import capture
from attnguide.tracing.tokens import layers as blocks_of
from attnguide.tracing.trace import AttentionTrace

SIGNED = False
CLASS_SENSITIVE = True
COST = 46  # layers x (steps + 1) + 1 forwards, layers x (steps + 1) backwards


def explain(
    trace: AttentionTrace, *, steps: int = 10, layers: int = 2, own_attention: bool = False
) -> Tensor:
    """(B, rows, cols), positive.

    Args:
        trace: The shared pass.
        steps: Intervals of the path from no attention to full attention, both ends included.
        layers: How many layers are injected, one after the other, counted from the last.
        own_attention: Inject each layer's own attention, as the text says; the authors' code,
            and the default, injects the last layer's everywhere.

    Raises:
        ValueError: steps below 1, layers outside [1, depth], a model without readout.
    """
    depth = len(blocks_of(trace.vit))
    check_steps("dix", steps, least=1)
    if not 1 <= layers <= depth:
        raise InputError(
            f"layers of dix must lie in [1, {depth}] for {trace.vit.name}, got {layers}"
        )
    rows = [
        _injected(trace, layer, trace.attention[layer if own_attention else -1], steps)
        for layer in range(depth - layers, depth)
    ]
    return trace.on_grid(torch.stack(rows).sum(0))


def _injected(trace: AttentionTrace, layer: int, attention: Tensor, steps: int) -> Tensor:
    """(B, N) rollout of positive contributions, averaged while one layer is injected."""
    total = [torch.zeros_like(a[:, 0]) for a in trace.attention]
    points = torch.arange(steps + 1, dtype=trace.readout.dtype) / steps
    for alpha, owner in along(trace, points):
        contributions = _contributions(trace, layer, alpha * attention[owner], owner)
        for summed, contribution in zip(total, contributions, strict=True):
            summed.index_add_(0, owner, contribution)
    return rollout((t / len(points) for t in reversed(total)), trace.readout, normalize=True)


def _contributions(
    trace: AttentionTrace, layer: int, attention: Tensor, owner: Tensor
) -> list[Tensor]:
    """L tensors (M, N, N): head mean of relu(A G), with `attention` used in one layer."""

    def edit(current: int, own: Tensor) -> Tensor:
        return attention if current == layer else own

    modes = torch.inference_mode(False), torch.enable_grad()
    with modes[0], modes[1], capture(trace.vit, edit=edit) as seen:
        logits = trace.vit.logits(trace.images[owner])
    gradients = gradients_for(trace, owner, logits, seen.attention, keep=False)
    pairs = zip(seen.attention, gradients, strict=True)
    return [gradient.mul(a.detach()).clamp_(min=0).mean(1) for a, gradient in pairs]
