"""Losses: what is differentiated. Each maps (logits (B, C), target (B,), reference (B,)) to (B,).

`reference` is the second class of a two-class loss; losses of one class do not use it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from torch import Tensor

from attnguide.errors import InputError, unknown_name

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def logit(logits: Tensor, target: Tensor, reference: Tensor | None = None) -> Tensor:  # noqa: ARG001
    """(B,) logit of the target.

    Paper: Eq. (7)
    """
    return _pick(logits, target)


def log_probability(logits: Tensor, target: Tensor, reference: Tensor | None = None) -> Tensor:  # noqa: ARG001
    """(B,) logarithm of the target's probability: unlike the logit, it reads all classes.

    Raises:
        ValueError: a single logit, whose probability is always 1.
    """
    if logits.shape[-1] < 2:
        raise InputError(
            "log_probability compares a class with all others, and this model has a single logit, "
            "whose probability is always 1; use loss='logit'"
        )
    return _pick(logits.log_softmax(-1), target)


def relative_contrast(logits: Tensor, target: Tensor, reference: Tensor | None) -> Tensor:
    """(B,) (l1 - l2) / l1, of target and reference class.

    Its direction is meaningful only where both logits are positive: a warning says where not.

    Raises:
        ValueError: no reference class.

    Paper: Eq. (8)
    """
    first, second = _both(logits, target, reference)
    bad = int(((first <= 0) | (second <= 0)).sum())
    if bad:
        warnings.warn(
            f"relative_contrast needs both logits positive; {bad} of {len(first)} images have one "
            "that is not, and their maps mean little there: use loss='difference'",
            stacklevel=2,
        )
    return (first - second) / first


def difference(logits: Tensor, target: Tensor, reference: Tensor | None) -> Tensor:
    """(B,) l1 - l2, the first alternative that the paper names to its two-class loss.

    Raises:
        ValueError: no reference class.
    """
    first, second = _both(logits, target, reference)
    return first - second


def ratio(logits: Tensor, target: Tensor, reference: Tensor | None) -> Tensor:
    """(B,) l1 / l2, the second alternative that the paper names to its two-class loss.

    Raises:
        ValueError: no reference class.
    """
    first, second = _both(logits, target, reference)
    return first / second


LOSSES: dict[str, Loss] = {
    loss.__name__: loss for loss in (logit, log_probability, relative_contrast, difference, ratio)
}
ONE_CLASS = frozenset({"logit", "log_probability"})
TWO_CLASS = frozenset(LOSSES) - ONE_CLASS


def get_loss(name: str | Loss) -> Loss:
    """The loss of that name, or the callable itself.

    Raises:
        ValueError: unknown name.
    """
    if callable(name):
        return name
    if name not in LOSSES:
        raise unknown_name("loss", name, list(LOSSES))
    return LOSSES[name]


def loss_name(loss: str | Loss) -> str:
    """What records call a loss."""
    return loss if isinstance(loss, str) else getattr(loss, "__name__", "callable")


def _pick(logits: Tensor, index: Tensor) -> Tensor:
    return logits.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def _both(logits: Tensor, target: Tensor, reference: Tensor | None) -> tuple[Tensor, Tensor]:
    if reference is None:
        raise InputError("a two-class loss compares two classes; pass reference=<second class>")
    return _pick(logits, target), _pick(logits, reference)
