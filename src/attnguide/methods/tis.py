"""Transformer input sampling: how the class fares when only some tokens are let in.

Englebert, Stassin, Nanfack, Mahmoudi, Siebert, Cornu, De Vleeschouwer, "Explaining through
Transformer Input Sampling", ICCV workshops 2023.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attnguide.errors import InputError
from attnguide.methods._sampling import check_sampling, class_score, min_max, progress, safe_divide
from attnguide.tracing.tokens import check_free_tokens, kept_logits, layers, visit_tokens
from attnguide.tracing.trace import AttentionTrace, at_least_float32
from attnguide.types import ViT

SIGNED = False
CLASS_SENSITIVE = True
COST = 410  # n_masks forwards of half length, 2 whole

PUBLISHED_MASKS = 1024


def explain(
    trace: AttentionTrace,
    *,
    n_masks: int | None = None,
    tokens_ratio: float = 0.5,
    normalise: bool = True,
    seed: int = 0,
    batch_size: int = 128,
) -> Tensor:
    """(B, rows, cols): mean class probability of the masks that keep a patch.

    One sweep serves all targets. Images are treated one by one, so a batch changes nothing.

    Args:
        trace: The shared pass.
        n_masks: Masks per image; None is the published 1024, or as many as there are channels in
            all layers where there are fewer.
        tokens_ratio: Share of the patches that a mask keeps, in (0, 1].
        normalise: Rescale the map to [0, 1], as published.
        seed: Of the k-means that makes the masks; the same for every image.
        batch_size: Masks per forward pass.

    Raises:
        ValueError: settings out of range; a model that cannot do without some of its tokens.
    """
    _check_ratio(trace.vit, tokens_ratio)
    n_masks = _possible_masks(trace.vit, n_masks)
    check_sampling("tis", seed, batch_size)
    check_free_tokens("tis", trace.vit)

    def sweep() -> list[tuple[Tensor, Tensor]]:
        passes = len(trace.images) * -(-n_masks // batch_size)
        with progress("tis", passes) as bar:
            results = []
            for image in trace.images.split(1):
                keep = token_masks(trace.vit, image, n_masks, tokens_ratio, seed)
                logits = kept_logits(trace.vit, image, keep, batch_size, bar.update)
                results.append((keep, logits))
        return results

    sweeps = trace.cached(("tis", n_masks, tokens_ratio, seed), sweep)
    maps = torch.stack(
        [
            mean_over_masks(class_score(trace, logits, index), keep)
            for index, (keep, logits) in enumerate(sweeps)
        ]
    )
    return (min_max(maps) if normalise else maps).unflatten(-1, trace.vit.grid)


def token_masks(vit: ViT, image: Tensor, n_masks: int, tokens_ratio: float, seed: int) -> Tensor:
    """(M, P) bool: each mask keeps the patches where a cluster of channels is largest.

    Channels are those of every layer's output; image is (1, 3, H, W).
    """
    outputs = [output[0, vit.num_prefix :] for _, output in visit_tokens(vit, image, layers(vit))]
    channels = at_least_float32(torch.cat(outputs, -1)).T.contiguous()
    centroids = k_means(channels, n_masks, seed)
    count = int(tokens_ratio * centroids.shape[-1])
    largest = centroids.argsort(dim=-1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(centroids, dtype=torch.bool).scatter_(-1, largest, True)


def k_means(
    samples: Tensor, count: int, seed: int, *, max_steps: int = 100, tolerance: float = 1e-4
) -> Tensor:
    """(count, F) centroids of samples (S, F): Lloyd's algorithm on all samples at once.

    Starts at `count` distinct samples drawn by NumPy's legacy generator, as TIS does. A centroid
    without samples stays where it is. Stops when the summed squared move is at most `tolerance`.
    """
    drawn = np.random.RandomState(seed).choice(len(samples), count, replace=False)
    centroids = samples[torch.from_numpy(drawn).to(samples.device)]
    for _ in range(max_steps):
        nearest = (2 * samples @ centroids.T - centroids.square().sum(-1)).argmax(-1)
        member = F.one_hot(nearest, count).to(samples)
        size = member.sum(0).unsqueeze(-1)
        mean = member.T @ samples / size.clamp(min=1)
        moved = torch.where(size > 0, mean, centroids)
        shift = (moved - centroids).square().sum()
        centroids = moved
        if shift <= tolerance:
            break
    return centroids


def mean_over_masks(score: Tensor, keep: Tensor) -> Tensor:
    """(P,) mean score (M,) of the masks (M, P) that keep a patch; 0 where none does."""
    keep = keep.to(score)
    return safe_divide(score @ keep, keep.sum(0))


def _check_ratio(vit: ViT, tokens_ratio: float) -> None:
    rows, cols = vit.grid
    if not 0 < tokens_ratio <= 1 or int(tokens_ratio * rows * cols) < 1:
        raise InputError(
            f"tokens_ratio of tis must lie in (0, 1] and keep at least one of {rows * cols} "
            f"patches, got {tokens_ratio}; the publication uses 0.5"
        )


def _possible_masks(vit: ViT, n_masks: int | None) -> int:
    blocks = layers(vit)
    width = next(blocks[0].parameters()).shape[-1]  # of a norm or of a projection of the tokens
    most = len(blocks) * width
    if n_masks is None:
        return min(PUBLISHED_MASKS, most)
    if not 1 <= n_masks <= most:
        raise InputError(
            f"n_masks of tis must lie in [1, {most}] for {vit.name} ({len(blocks)} layers x "
            f"{width} channels to make masks from), got {n_masks}"
        )
    return n_masks
