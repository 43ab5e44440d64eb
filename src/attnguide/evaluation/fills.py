"""What stands where a patch is masked: one value, a blur, its neighbours' mean, or nothing.

zero, black, mean, blur and numbers give a whole filled image, of which any patch can be taken.
`linear` depends on the mask. `drop` fills nothing: the patch's token leaves the sequence.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide.errors import InputError, unknown_name

FILLS = ("zero", "black", "mean", "blur", "linear", "drop")
NOISE = 0.01  # standard deviation of linear's noise, in image space [0, 1]
_DIRECT, _DIAGONAL = 1 / 6, 1 / 12


def check_fill(fill: str | float) -> None:
    """Refuse a fill that does not exist.

    Raises:
        ValueError: neither a name nor a finite number.
    """
    number = isinstance(fill, int | float) and not isinstance(fill, bool)
    if number and not np.isfinite(fill):
        raise InputError(f"fill must be finite, got {fill}; the mean colour is fill='zero'")
    if not number and fill not in FILLS:
        raise unknown_name("fill", fill, [*FILLS, "a number in normalised space"])


def filled(images: Tensor, fill: str | float, preprocess: object, patch: int) -> Tensor:
    """(B, 3, H, W) images with every patch filled.

    Args:
        images: (B, 3, H, W), normalised.
        fill: "zero" (0 in normalised space), "black" (0 in image space), "mean" (each image's own
            channel means), "blur" (Gaussian, standard deviation one patch), or a number in
            normalised space.
        preprocess: Its `mean` and `std` say where black is; needed by "black" alone.
        patch: Patch height in pixels.

    Raises:
        ValueError: unknown fill, or "black" where the model's normalisation is not known.
    """
    check_fill(fill)
    if isinstance(fill, int | float):
        return torch.full_like(images, fill)
    if fill == "zero":
        return torch.zeros_like(images)
    if fill == "mean":
        return images.mean((-2, -1), keepdim=True).expand_as(images)
    if fill == "black":
        mean, std = normalisation(preprocess, fill)
        black = [-m / s for m, s in zip(mean, std, strict=True)]
        return torch.stack([torch.full_like(images[:, 0], value) for value in black], 1)
    if fill != "blur":
        raise InputError(f"fill={fill!r} gives no image: it depends on which patches are masked")
    from torchvision.transforms.functional import gaussian_blur

    widest = min(images.shape[-2:])
    kernel = min(4 * patch + 1, widest - 1 + widest % 2)
    return gaussian_blur(images, [kernel, kernel], [float(patch), float(patch)])


def normalisation(preprocess: object, fill: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Channel means and standard deviations that `fill` needs.

    Raises:
        ValueError: the preprocessing does not state them.
    """
    mean, std = getattr(preprocess, "mean", None), getattr(preprocess, "std", None)
    if mean is None or std is None:
        raise InputError(
            f"fill={fill!r} needs the model's normalisation, but its preprocess has no mean and "
            "std; pass a number in normalised space"
        )
    return tuple(map(float, mean)), tuple(map(float, std))


def impute(image: NDArray[np.float64], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(3, H, W) image whose hidden pixels are the weighted mean of their neighbours.

    One linear equation per hidden pixel u_i: (sum_j w_ij) u_i = sum_j w_ij (u_j or x_j), over the
    neighbours j inside the image, w = 1/6 for the 4 direct and 1/12 for the 4 diagonal ones. Where
    no pixel is visible, every pixel is the mean of its channel.

    Args:
        image: (channels, H, W).
        hidden: (H, W).

    Source: Rong et al., ICML 2022 (ROAD), noisy linear imputation, here without the noise.
    """
    from scipy.sparse import diags_array as diags
    from scipy.sparse.linalg import splu

    if hidden.all():
        return np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape).copy()
    out = image.copy()
    if hidden.any():
        gone = hidden.ravel()
        weights = _neighbours(*hidden.shape)[gone]
        matrix = diags(weights.sum(1)) - weights[:, gone]
        known = weights[:, ~gone] @ image.reshape(len(image), -1)[:, ~gone].T
        # symmetric and positive definite: ordered so, and without pivoting, it is faster
        factor = splu(
            matrix.tocsc(), "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
        out[:, hidden] = factor.solve(known).T
    return out


@cache
def _neighbours(height: int, width: int) -> Any:
    """Sparse (H W, H W): weight of every pixel for every other, 0 but for its neighbours."""
    from scipy.sparse import diags_array, eye_array, kron

    down, across = (diags_array([1.0, 1.0], offsets=[-1, 1], shape=(n, n)) for n in (height, width))
    direct = kron(eye_array(height), across) + kron(down, eye_array(width))
    return (_DIRECT * direct + _DIAGONAL * kron(down, across)).tocsr()


def linear_filled(
    images: Tensor, hidden: Tensor, seeds: list[int], std: tuple[float, ...]
) -> Tensor:
    """(M, 3, H, W) images with hidden pixels imputed and noise added to these.

    The noise is drawn per pixel and channel by a generator seeded per image and number of hidden
    pixels, so it is the same in every batch.

    Args:
        images: (M, 3, H, W), normalised.
        hidden: (M, H, W) bool.
        seeds: One per image.
        std: Of the normalisation; the noise is 0.01 in image space.
    """
    scale = NOISE / np.array(std).reshape(3, 1, 1)
    made = []
    pictures, masks = images.double().cpu().numpy(), hidden.cpu().numpy()
    for image, mask, seed in zip(pictures, masks, seeds, strict=True):
        noise = np.random.default_rng([seed, int(mask.sum())]).standard_normal(image.shape)
        made.append(impute(image, mask) + mask * scale * noise)
    return torch.from_numpy(np.stack(made)).to(images)


def seeds_of(images: Tensor) -> list[int]:
    """A number per image that depends on its pixels alone."""
    pixels: Any = images.float().cpu().numpy()
    return [_number(image.tobytes()) for image in pixels]


def seed_of_name(name: str, seed: int) -> int:
    """A number in [0, 2^63) that depends on an image's name and the seed alone."""
    return _number(f"{seed}:{name}".encode())


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1
