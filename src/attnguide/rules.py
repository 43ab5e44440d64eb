"""Correction rules: one layer's attention and its gradient to the matrix that is propagated.

Every rule maps A and G = d loss / d A, both (B, H, N, N), to E_H[...] (B, N, N). The identity of
the residual connection is added where layers are multiplied, in `propagate.rollout`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Rule = Callable[[Tensor, Tensor], Tensor]


def identity(attention: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG001 (a rule has two)
    """Head mean of the attention itself, blind to the class.

    Paper: Eq. (1)
    """
    return attention.mean(1)


def positive(attention: Tensor, gradient: Tensor) -> Tensor:
    """Attention weighted by the positive part of its gradient (GAE).

    Paper: Eq. (4)
    """
    return gradient.clamp(min=0).mul_(attention).mean(1)


def complete(attention: Tensor, gradient: Tensor) -> Tensor:
    """Attention weighted by its complete, signed gradient: the paper's method.

    Paper: Eq. (5)
    """
    return (gradient * attention).mean(1)


def absolute(attention: Tensor, gradient: Tensor) -> Tensor:
    """Attention weighted by the size of its gradient, whichever sign.

    Paper: Eq. (6)
    """
    return gradient.abs().mul_(attention).mean(1)


def centred(attention: Tensor, gradient: Tensor) -> Tensor:
    """Gradient with respect to the scores before the softmax, A (G - sum of A G over the row).

    Each row sums to 0. A vector added to all values of a layer adds a multiple of A to A G, and
    leaves this as it is: it depends on the network's function, not on where its values have zero.
    """
    weighted = gradient * attention
    return (weighted - attention * weighted.sum(-1, keepdim=True)).mean(1)
