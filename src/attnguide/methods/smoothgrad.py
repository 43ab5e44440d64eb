"""SmoothGrad: the gradient averaged over noisy copies of the image.

Smilkov, Thorat, Kim, Viegas, Wattenberg, arXiv 1706.03825.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attnguide.errors import InputError
from attnguide.methods._feedback import check_steps
from attnguide.methods._sampling import check_seed, patch_sums, weighted_gradient
from attnguide.tracing.trace import AttentionTrace

SIGNED = True
CLASS_SENSITIVE = True
COST = 41  # samples + 1 forwards, samples backwards


def explain(
    trace: AttentionTrace,
    *,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
    times_input: bool = False,
    noise_tensor: Tensor | None = None,
) -> Tensor:
    """(B, rows, cols), signed: mean gradient, summed over the pixels and colours of each patch.

    Every image gets the same noise, whatever its batch, and no global random state is touched.

    Args:
        trace: The shared pass.
        samples: Noisy copies.
        noise: Standard deviation, as a share of the image's range in normalised space.
        seed: Of the noise, drawn in float32.
        times_input: Multiply the mean gradient by the image itself, without noise.
        noise_tensor: (samples, 3, H, W) in the place of the standard normal draw.

    Raises:
        ValueError: samples below 1, negative noise, a seed out of range, noise_tensor of another
            shape.
    """
    check_seed("smoothgrad", seed)
    check_steps("smoothgrad", samples, least=1, setting="samples")
    if not 0 <= noise < float("inf"):
        raise InputError(
            f"noise of smoothgrad is a share of the image's range: zero or more, got {noise}; "
            "0.1 is usual"
        )
    drawn = _noise(trace, samples, seed, noise_tensor)
    low, high = trace.images.flatten(1).aminmax(dim=1)
    deviation = (noise * (high - low)).view(-1, 1, 1, 1)

    def at(point: Tensor, owner: Tensor) -> Tensor:
        return trace.images[owner] + deviation[owner] * drawn[point]

    weights = torch.full((samples,), 1 / samples, dtype=torch.float64)
    mean = weighted_gradient(trace, weights, at, "smoothgrad")
    return patch_sums(trace, mean * trace.images if times_input else mean)


def _noise(trace: AttentionTrace, samples: int, seed: int, given: Tensor | None) -> Tensor:
    """(samples, 3, H, W)."""
    shape = (samples, *trace.images.shape[1:])
    if given is None:
        generator = torch.Generator().manual_seed(seed)
        given = torch.randn(shape, generator=generator, dtype=torch.float32)
    elif not isinstance(given, Tensor) or given.shape != shape:
        found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise InputError(f"noise_tensor of smoothgrad must be a Tensor {shape}, got {found}")
    return given.to(trace.images)
