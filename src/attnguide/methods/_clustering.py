"""The two ways in which masks are grouped: k-means (TIS) and complete linkage (ViT-CX)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


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


def complete_linkage(rows: Tensor, threshold: float) -> Tensor:
    """(D,) cluster label of every row (D, F), all pairs in a cluster closer than `threshold`.

    The distance is 1 - cosine. Labels are numbered as scikit-learn does.
    """
    if len(rows) < 2:
        return torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    from sklearn.cluster import AgglomerativeClustering

    unit = F.normalize(rows, dim=-1)
    distance = (1 - unit @ unit.T).cpu().numpy()
    model = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="complete", distance_threshold=threshold
    )
    return torch.from_numpy(model.fit_predict(distance)).to(rows.device)
