"""What methods share that watch the model's answers to many masked copies of one image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnguide import losses
from attnguide.errors import InputError
from attnguide.methods._feedback import objective_of
from attnguide.tracing.trace import AttentionTrace, at_least_float32


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
