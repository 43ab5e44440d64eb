"""The gamma rule of affine layers, as a gradient: weights of the favoured sign count more.

Source: Montavon, Binder, Lapuschkin, Samek, Mueller, "Layer-Wise Relevance Propagation: An
Overview", 2019, for inputs of both signs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnguide.methods._lrp.rules import signed_parts
from attnguide.tracing.libra import held

_OF_SUM, _OF_INPUT = 1e-6, 1e-10


def gamma_linear(gamma: float, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """The output of a linear layer, with the rule for its derivative; a forward hook."""
    return _affine(gamma, inputs[0], output, layer.weight, layer.bias)


def gamma_convolution(
    gamma: float, layer: Any, inputs: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    """The same for a convolution, seen as a linear layer on the squares that it cuts out."""
    squares = F.unfold(inputs[0], layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT
    rows = _affine(gamma, squares, output.flatten(2).mT, layer.weight.flatten(1), layer.bias)
    return rows.mT.unflatten(-1, output.shape[2:])


def _affine(
    gamma: float, inputs: Tensor, output: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """`output` = inputs Wᵀ + b (..., out), with the rule for its derivative.

    R = gradient times output is shared among the inputs: where the output is positive, in
    proportion to the terms of the sum, those that are positive counted 1 + gamma times; where it
    is negative, the negative ones.
    """
    u, value, weight = inputs.detach(), output.detach(), weight.detach()
    b = torch.zeros_like(weight[:, 0]) if bias is None else bias.detach()
    (up, un), (wp, wn), (bp, bn) = (signed_parts(x) for x in (u, weight, b))
    p, q = weight + gamma * wp, weight + gamma * wn
    above = up @ p.T + un @ q.T + (b + gamma * bp)
    below = up @ q.T + un @ p.T + (b + gamma * bn)

    def backward(gradient: Tensor) -> Tensor:
        relevance = gradient * value
        first = torch.where(value > 0, relevance / _away_from_zero(above, _OF_SUM), 0)
        second = torch.where(value < 0, relevance / _away_from_zero(below, _OF_SUM), 0)
        shared = up * (first @ p + second @ q) + un * (first @ q + second @ p)
        return shared / _away_from_zero(u, _OF_INPUT)

    return held(inputs, output, backward)


def _away_from_zero(x: Tensor, epsilon: float) -> Tensor:
    """A little more of the same sign; + at 0."""
    return x + torch.where(x < 0, -epsilon, epsilon)
