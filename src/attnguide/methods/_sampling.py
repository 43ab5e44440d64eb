"""What methods share that watch answers or gradients of many masked or changed copies of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attnguide import losses
from attnguide.errors import InputError
from attnguide.methods._feedback import gradients_for, objective_of
from attnguide.tracing.capture import unchanged
from attnguide.tracing.trace import AttentionTrace, at_least_float32

At = Callable[[Tensor, Tensor], Tensor]


def class_score(trace: AttentionTrace, logits: Tensor, image: int) -> Tensor:
    """(M,) score of logits (M, C) of masked copies of one image.

    The target's probability, as published; with another loss than the logit, that loss.
    """
    logits = at_least_float32(logits)
    if trace.loss is losses.logit:
        return trace.vit.probabilities(logits)[:, trace.target[image]]
    owner = torch.full((len(logits),), image, device=logits.device)
    return objective_of(trace, logits, owner)


def min_max(x: Tensor) -> Tensor:
    """The last axis rescaled to [0, 1]; zeros where it is constant."""
    low, high = x.aminmax(dim=-1, keepdim=True)
    span = high - low
    return (x - low) / torch.where(span > 0, span, 1)


def safe_divide(numerator: Tensor, coverage: Tensor) -> Tensor:
    """Quotient; zero where nothing was covered."""
    return torch.where(coverage > 0, numerator / torch.where(coverage > 0, coverage, 1), 0)


def check_seed(method: str, seed: int) -> None:
    """Refuse a seed that some generator does not take.

    Raises:
        ValueError: no integer in [0, 2^32).
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed of {method} must be an integer in [0, 2^32), got {seed!r}")


def check_sampling(method: str, seed: int, batch_size: int) -> None:
    """Refuse settings that every sampling method has.

    Raises:
        ValueError: seed that is no integer in [0, 2^32), batch_size below 1.
    """
    check_seed(method, seed)
    if batch_size < 1:
        raise InputError(f"batch_size of {method} must be at least 1, got {batch_size}")


def progress(method: str, total: int) -> Any:
    """A bar on a terminal's stderr, after two seconds; nothing anywhere else."""
    from tqdm import tqdm

    return tqdm(total=total, desc=method, unit="pass", delay=2, leave=False, disable=None)


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
