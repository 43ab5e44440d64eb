"""Reasoning feedback and attention chains: what TAM and Beyond Intuition have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from attnguide.errors import InputError
from attnguide.tracing.capture import capture, gradient_of
from attnguide.tracing.tokens import layers
from attnguide.tracing.trace import AttentionTrace, at_least_float32
from attnguide.types import ViT

PUBLISHED_DEPTH = 12


def chain_start(
    method: str, vit: ViT, start_layer: int | None, *, first: int, published: int
) -> int:
    """The layer nearest the image, 0-based, at which a chain starts.

    Args:
        method: Who asks.
        vit: The model.
        start_layer: As the publication counts; None for the published layer, and in a model that
            has no such layer for the same share of the depth, rounded down.
        first: What the publication calls the layer nearest the image, 0 or 1.
        published: The published layer, of 12.

    Raises:
        ValueError: start_layer beyond the depth.
    """
    depth = len(layers(vit))
    if start_layer is None:
        own = published - first
        return own if own < depth else own * depth // PUBLISHED_DEPTH
    if not first <= start_layer < first + depth:
        raise InputError(
            f"start_layer of {method} must lie in [{first}, {first + depth - 1}] for {vit.name} "
            f"(layer {first} is nearest the image), or be None, got {start_layer}"
        )
    return start_layer - first


def check_steps(method: str, steps: int, *, least: int, setting: str = "steps") -> None:
    """Refuse too short a path, or too few samples.

    Raises:
        ValueError: no integer, or below `least`.
    """
    if not isinstance(steps, int) or steps < least:
        raise InputError(
            f"{setting} of {method} must be an integer, at least {least}, got {steps!r}"
        )


def reasoning_feedback(trace: AttentionTrace, steps: int) -> Tensor:
    """(B, R, N) F: positive part of the last layer's gradient, averaged on the way to the image.

    The path runs from the normalised input's zero (the mean colour) to the image, both included.
    Positive part after the mean over the path, before the mean over heads. R are the rows that
    the head reads (`read_rows`). Forward passes are shared by all targets, gradients by TAM, BI's
    two forms and all that ask for the same target.

    Source: Yuan et al. 2021; Chen et al. 2023.
    """
    key = ("reasoning feedback", steps, tuple(trace.target.tolist()))
    feedback: Tensor = trace.cached(key, lambda: _feedback(trace, steps))
    return feedback


def _feedback(trace: AttentionTrace, steps: int) -> Tensor:
    rows = read_rows(trace)
    batch, heads, tokens, _ = trace.attention[-1].shape
    total = trace.attention[-1].new_zeros(batch, heads, len(rows), tokens)
    for owner, attention, logits in trace.cached(("path", steps), lambda: _passes(trace, steps)):
        (gradient,) = gradients_for(trace, owner, logits, [attention])
        total.index_add_(0, owner, gradient[:, :, rows])
    return (total / steps).clamp(min=0).mean(1)


def _passes(trace: AttentionTrace, steps: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Owner (M,), last attention and logits of every point on the path."""
    passes = []
    for alpha, owner in along(trace, torch.linspace(0, 1, steps, dtype=trace.images.dtype)):
        attention, logits = last_layer(trace.vit, trace.images[owner] * alpha)
        passes.append((owner, attention, logits))
    return passes


def along(trace: AttentionTrace, alphas: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image at every alpha, in chunks: alpha (M, 1, 1, 1) and the image's index (M,)."""
    batch, device = len(trace.images), trace.images.device
    chunk = 8 if device.type == "cpu" else 64
    for index in torch.arange(len(alphas) * batch).split(chunk):
        alpha = alphas[index // batch].view(-1, 1, 1, 1)
        yield alpha.to(trace.images), (index % batch).to(device)


def last_layer(vit: ViT, images: Tensor, attention: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The last layer's attention (B, H, N, N), as a leaf of the graph, and logits (B, C).

    The graph begins at this attention: a backward pass costs one layer, not all of them.

    Args:
        vit: The model.
        images: (B, 3, H, W).
        attention: Used in place of the last layer's own.
    """
    last = len(layers(vit)) - 1

    def edit(layer: int, own: Tensor) -> Tensor:
        if layer < last:
            return own
        torch.set_grad_enabled(True)  # until no_grad below is left, which sets it back
        return own if attention is None else attention

    with torch.inference_mode(False), torch.no_grad(), capture(vit, edit=edit) as recording:
        logits = vit.logits(images.clone())
    return recording.attention[-1], logits


def gradients_for(
    trace: AttentionTrace,
    owner: Tensor,
    logits: Tensor,
    inputs: Sequence[Tensor],
    *,
    keep: bool = True,
) -> list[Tensor]:
    """D loss / d inputs of a pass, logits (M, C), of which row m belongs to image `owner[m]`.

    As `gradient_of`; float32 at least.
    """

    def objective(answer: Tensor) -> Tensor:
        return objective_of(trace, answer, owner)

    found = gradient_of(trace.vit.name, objective, logits, inputs, keep=keep)
    return [at_least_float32(gradient) for gradient in found]


def objective_of(trace: AttentionTrace, logits: Tensor, owner: Tensor) -> Tensor:
    """(M,) the trace's loss of logits (M, C), of which row m belongs to image `owner[m]`."""
    reference = None if trace.reference is None else trace.reference[owner]
    return trace.loss(logits, trace.target[owner], reference)


def read_rows(trace: AttentionTrace) -> Tensor:
    """(R,) indices of the tokens that the head reads: the class token, or all patches."""
    return trace.readout.nonzero().flatten()


def chain(start: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """(B, R, N) rows `start` of (I + M_n) ... (I + M_1), never the N x N product.

    Args:
        start: (B, R, N).
        matrices: (B, N, N) each, the layer nearest the image first.
    """
    for matrix in reversed(matrices):
        start = start + start @ matrix
    return start


def identity_rows(trace: AttentionTrace) -> Tensor:
    """(B, R, N) rows of the identity that the head reads."""
    rows = read_rows(trace)
    identity = torch.eye(trace.vit.num_tokens, dtype=trace.readout.dtype, device=rows.device)
    return identity[rows].expand(len(trace.images), -1, -1)


def fed_back(
    trace: AttentionTrace, start: Tensor, matrices: Sequence[Tensor], steps: int
) -> Tensor:
    """(B, rows, cols): `chain` times `reasoning_feedback`, the head's mean over what it reads."""
    rows = chain(start, matrices) * reasoning_feedback(trace, steps)
    return trace.on_grid(trace.readout[read_rows(trace)] @ rows)
