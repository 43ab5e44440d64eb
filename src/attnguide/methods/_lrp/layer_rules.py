"""Relevance rules: the relevance of a layer's output to the relevance of its inputs.

Two published families share all rules but two, the linear layer and the residual addition:
`BALANCED` of Chefer et al., CVPR 2021, arXiv 2012.09838 (T-Attr), and `SEPARATE`, their version of
Binder et al. 2016, arXiv 1604.00825 (full and partial LRP). Relevance has the shape of the
activation it belongs to, image first, and images never mix.

Softmax, activation functions, normalisation, dropout and layer scale pass relevance unchanged.
Biases receive none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

EPSILON = 1e-9


def divide(relevance: Tensor, activation: Tensor) -> Tensor:
    """R / (activation + 1e-9), and 0 where the activation is exactly 0.

    The constant is added whatever the sign, as published, so it is no protection for negative
    activations: this is one source of the ill-conditioning of these methods.
    """
    shifted = activation + EPSILON
    shifted.masked_fill_(shifted == 0, EPSILON)
    return (relevance / shifted).masked_fill_(activation == 0, 0)


def signed_parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """The non-negative and the non-positive part of `x`."""
    return x.clamp(min=0), x.clamp(max=0)


@dataclass
class Linear:
    """A linear layer on the inputs (B, ..., in) it saw; what is blind to the class is kept.

    Attributes:
        inputs: (B, ..., in).
        weight: (out, in).
    """

    inputs: Tensor
    weight: Tensor

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor]:
        """W⁺ and W⁻, both (out, in)."""
        return signed_parts(self.weight)

    @cached_property
    def evidence(self) -> tuple[Tensor, Tensor]:
        """x⁺W⁺ and x⁻W⁻, both (B, ..., out) and non-negative."""
        pairs = zip(signed_parts(self.inputs), self.weights, strict=True)
        above, below = (F.linear(x, weight) for x, weight in pairs)
        return above, below

    def spread(self, above: Tensor, below: Tensor) -> Tensor:
        """(B, ..., in): x⁺ ⊙ (above W⁺) + x⁻ ⊙ (below W⁻)."""
        positive, negative = signed_parts(self.inputs)
        return positive * (above @ self.weights[0]) + negative * (below @ self.weights[1])


def linear_balanced(relevance: Tensor, layer: Linear) -> Tensor:
    """z⁺ rule: both kinds of evidence share one denominator, relevance is conserved."""
    share = divide(relevance, layer.evidence[0] + layer.evidence[1])
    return layer.spread(share, share)


def linear_separate(relevance: Tensor, layer: Linear) -> Tensor:
    """z⁺ rule with a denominator for each kind: up to twice the relevance comes out."""
    above, below = layer.evidence
    return layer.spread(divide(relevance, above), divide(relevance, below))


def add_separate(relevance: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of the terms of a + b, in proportion to them."""
    share = divide(relevance, a + b)
    return a * share, b * share


def add_balanced(relevance: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """`add_separate`, then each term rescaled so that the total of every image is conserved.

    Differs: the original sums over the whole tensor, which mixes the images of a batch; here each
    image has its own sums. The same for one image.
    """
    of_a, of_b = add_separate(relevance, a, b)
    total, sum_a, sum_b = (
        part.sum(tuple(range(1, part.ndim)), keepdim=True) for part in (relevance, of_a, of_b)
    )
    size = sum_a.abs() + sum_b.abs()
    return (
        of_a * divide(divide(sum_a.abs(), size) * total, sum_a),
        of_b * divide(divide(sum_b.abs(), size) * total, sum_b),
    )


def product(relevance: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of the factors of a @ b, half of it each."""
    share = divide(relevance, a @ b)
    return a * (share @ b.transpose(-2, -1)) / 2, b * (a.transpose(-2, -1) @ share) / 2


def fork(relevance: Tensor, x: Tensor) -> Tensor:
    """Relevance of `x` that several branches read, from the sum of theirs."""
    return x * divide(relevance, x)


def mean(relevance: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
    """(B, N, D) relevance of tokens whose weighted sum, weights (N,), has the given one (B, D).

    A class token, weight 1, receives all of it.
    """
    parts = tokens * weights.unsqueeze(-1)
    return parts * divide(relevance, parts.sum(1)).unsqueeze(1)


def bounded(relevance: Tensor, images: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """z^B rule: relevance (B, D, rows, cols) of a convolution of images to that of their pixels.

    The bounds are the smallest and the largest value of each image.

    Returns:
        (B, 3, H, W); sums to the incoming relevance.
    """
    positive, negative = signed_parts(weight)
    low = images.amin((1, 2, 3), keepdim=True).expand_as(images)
    high = images.amax((1, 2, 3), keepdim=True).expand_as(images)
    terms = ((images, weight, 1), (low, positive, -1), (high, negative, -1))
    total = sum(sign * F.conv2d(x, w, stride=stride) for x, w, sign in terms)
    share = relevance / (total + EPSILON)
    return torch.stack(
        [sign * x * conv2d_input(x.shape, w, share, stride) for x, w, sign in terms]
    ).sum(0)


@dataclass(frozen=True)
class Family:
    """The two rules in which the published families differ."""

    linear: Callable[[Tensor, Linear], Tensor]
    add: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


BALANCED = Family(linear_balanced, add_balanced)
SEPARATE = Family(linear_separate, add_separate)
