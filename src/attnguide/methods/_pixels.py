"""Gradients by the pixels of the image, and their sum over the square of every patch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attnguide.methods._feedback import gradients_for
from attnguide.methods._sampling import progress
from attnguide.tracing.capture import unchanged
from attnguide.tracing.trace import AttentionTrace, at_least_float32

At = Callable[[Tensor, Tensor], Tensor]


def patch_sums(trace: AttentionTrace, pixels: Tensor) -> Tensor:
    """(B, rows, cols): sum of pixel values (B, 3, H, W) over every patch."""
    (rows, cols), (height, width) = trace.vit.grid, trace.vit.patch_size
    squares = pixels.sum(1)[:, : rows * height, : cols * width]
    return squares.unflatten(2, (cols, width)).unflatten(1, (rows, height)).sum((2, 4))


def weighted_gradient(trace: AttentionTrace, weights: Tensor, at: At, method: str) -> Tensor:
    """(B, 3, H, W): sum over points k of weight k times d loss / d image there.

    Args:
        trace: The shared pass.
        weights: (K,).
        at: Image (M, 3, H, W) of points k (M,) of images (M,).
        method: Name for the progress bar.
    """
    batch = len(trace.images)
    total = torch.zeros_like(at_least_float32(trace.images))
    parts = torch.arange(len(weights) * batch).split(8 if total.device.type == "cpu" else 64)
    with progress(method, len(parts)) as bar:
        for index in parts:
            point, owner = (index // batch).to(total.device), (index % batch).to(total.device)
            weight = weights.to(total)[point].view(-1, 1, 1, 1)
            total.index_add_(0, owner, weight * _gradient(trace, at(point, owner), owner))
            bar.update()
    return total


def _gradient(trace: AttentionTrace, images: Tensor, owner: Tensor) -> Tensor:
    """(M, 3, H, W): d loss / d image of images (M, 3, H, W), of which m stands for `owner[m]`."""
    with torch.inference_mode(False), torch.enable_grad(), unchanged(trace.vit.module):
        images = images.detach().clone().requires_grad_()
        logits = trace.vit.logits(images)
    return gradients_for(trace, owner, logits, [images], keep=False)[0]
