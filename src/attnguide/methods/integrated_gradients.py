"""Integrated Gradients: the gradient averaged on the straight way from a baseline to the image.

Sundararajan, Taly, Yan, ICML 2017, arXiv 1703.01365.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from attnguide.errors import InputError, unknown_name
from attnguide.methods._feedback import check_steps
from attnguide.methods._sampling import patch_sums, weighted_gradient
from attnguide.tracing.trace import AttentionTrace

SIGNED = True
CLASS_SENSITIVE = True
COST = 125  # steps + 1 forwards, steps backwards
SUM = "difference"  # what a map sums to in the limit: `evaluation.sanity`
QUADRATURES = ("gauss_legendre", "midpoint")


def explain(
    trace: AttentionTrace,
    *,
    steps: int = 50,
    quadrature: str = "gauss_legendre",
    baseline: float | Tensor = 0.0,
) -> Tensor:
    """(B, rows, cols), signed: difference to the baseline times the mean gradient.

    In the limit the sum of a map is the difference of the losses of image and baseline. On real
    networks 50 points are far from it: steps is a setting, not an accuracy.

    Args:
        trace: The shared pass.
        steps: Points on the way.
        quadrature: "gauss_legendre", or "midpoint" for points at equal distances.
        baseline: Where the way begins, in normalised space: a number, or a Tensor that spreads to
            (3, H, W). 0 is the mean colour.

    Raises:
        ValueError: steps below 1, another quadrature, a baseline that does not fit.
    """
    check_steps("integrated_gradients", steps, least=1)
    points, weights = rule(quadrature, steps)
    start = _start(trace, baseline)
    points = points.to(trace.images)

    def at(point: Tensor, owner: Tensor) -> Tensor:
        return start + points[point].view(-1, 1, 1, 1) * (trace.images[owner] - start)

    mean = weighted_gradient(trace, weights, at, "integrated_gradients")
    return patch_sums(trace, (trace.images - start) * mean)


def rule(quadrature: str, steps: int) -> tuple[Tensor, Tensor]:
    """Points in [0, 1] and weights that sum to 1, (steps,) float64 each.

    Raises:
        ValueError: another quadrature.
    """
    if quadrature not in QUADRATURES:
        raise unknown_name("quadrature of integrated_gradients", quadrature, QUADRATURES)
    if quadrature == "midpoint":
        points = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        return points, torch.full_like(points, 1 / steps)
    roots, weights = np.polynomial.legendre.leggauss(steps)
    return torch.from_numpy((1 + roots) / 2), torch.from_numpy(weights / 2)


def _start(trace: AttentionTrace, baseline: float | Tensor) -> Tensor:
    """(3, H, W)."""
    shape = trace.images.shape[1:]
    given = tuple(baseline.shape) if isinstance(baseline, Tensor) else repr(baseline)
    try:
        start = torch.as_tensor(baseline).to(trace.images).expand(shape)
    except (RuntimeError, TypeError, ValueError):
        start = torch.tensor(torch.nan)
    if not bool(torch.isfinite(start).all()):
        raise InputError(
            "baseline of integrated_gradients must be a finite number or Tensor, in normalised "
            f"space, that spreads to {tuple(shape)}, got {given}; 0 is the mean colour"
        )
    return start
