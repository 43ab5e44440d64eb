"""LibraGrad: the forward pass as it is, a backward pass in which every gate is held.

Mehri, Baghshah, Pilehvar, CVPR 2025, arXiv 2411.16760. Query and key, the standard deviation of a
normalisation (not its mean) and the gate of an activation are constants of the backward pass; of a
product of two features each gets half the gradient. What is left is an affine function, whose value
is the sum of all its inputs and biases times their gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attnguide.errors import InputError

_UNKNOWN = frozenset(
    {
        *("elu", "selu", "celu", "mish", "softplus", "softsign", "hardswish", "hardsigmoid"),
        *("hardtanh", "relu6", "tanh", "erf", "glu", "gumbel_softmax", "logsigmoid"),
        *("log_sigmoid", "log_softmax", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "pow"),
        *("square", "reciprocal", "rtruediv", "var", "std", "var_mean", "std_mean", "norm"),
        *("vector_norm", "linalg_norm", "linalg_vector_norm", "normalize", "group_norm"),
        *("instance_norm", "local_response_norm", "cosine_similarity", "sin", "cos", "clamp"),
        *("hardshrink", "softshrink", "tanhshrink", "multi_head_attention_forward"),
    }
)


class LibraBackward(TorchFunctionMode):
    """Forward passes made inside give the same values and get LibraGrad's backward pass."""

    def __init__(self, name: str) -> None:
        """`name` is what messages call the network."""
        super().__init__()
        self.name = name
        self.gates: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.strip("_")
        if not torch.is_grad_enabled() or not any(map(_is_live, (*args, *kwargs.values()))):
            return func(*args, **kwargs)
        if name in _RULES:
            return _RULES[name](func, *args, **kwargs)
        if name in ("mul", "rmul", "imul", "multiply"):
            return self._multiply(func, *args, **kwargs)
        if name == "sigmoid":
            self.gates.append(func(args[0].detach()))
            return self.gates[-1]
        if name in _UNKNOWN or (name in ("div", "truediv", "itruediv") and _is_live(args[1])):
            raise self._refused(name)
        return func(*args, **kwargs)

    def __exit__(self, *error: Any) -> None:
        """Leave.

        Raises:
            ValueError: a sigmoid that was no factor of a product, and so no gate.
        """
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if self.gates and error[0] is None:
            raise self._refused("sigmoid")

    def _multiply(self, func: Any, a: Any, b: Any, **other: Any) -> Tensor:
        self.gates = [gate for gate in self.gates if gate is not a and gate is not b]
        if not (_is_live(a) and _is_live(b)):
            result: Tensor = func(a, b, **other)
            return result
        return (torch.mul(a.detach(), b) + torch.mul(a, b.detach())) / 2

    def _refused(self, name: str) -> InputError:
        return InputError(
            f"LibraGrad (gradient='libra', cp_lrp, attn_lrp) has no rule for {name!r}, which "
            f"{self.name} uses (it has rules for LayerNorm, RMSNorm, GELU, SiLU, QuickGELU and "
            "ReLU); use the plain gradient"
        )


def _is_live(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


class _Held(torch.autograd.Function):
    """A value that was computed elsewhere; its gradient goes to `x` by `back`, and to its bias."""

    @staticmethod
    def forward(
        ctx: Any, _x: Tensor, bias: Tensor | None, value: Tensor, back: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.back, ctx.shape = back, None if bias is None else bias.shape
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        to_bias = gradient.sum_to_size(ctx.shape) if ctx.needs_input_grad[1] else None
        return ctx.back(gradient), to_bias, None, None


def with_gradient_rule(
    x: Tensor, value: Tensor, back: Callable[[Tensor], Tensor], bias: Tensor | None = None
) -> Tensor:
    """`value`, whose gradient by `x` is back(gradient); `bias` was added to it."""
    result: Tensor = _Held.apply(x, bias, value.detach(), back)
    return result


def _attend(func: Any, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
    return func(query.detach(), key.detach(), *args, **kwargs)


def _softmax(func: Any, score: Tensor, *args: Any, **kwargs: Any) -> Any:
    return func(score.detach(), *args, **kwargs)


def _layer_norm(
    func: Any, x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    axes = tuple(range(-len(shape), 0))
    fixed = x.detach()
    value = func(fixed, shape, weight, bias, eps)
    scale = (fixed.var(axes, unbiased=False, keepdim=True) + eps).rsqrt()

    def back(gradient: Tensor) -> Tensor:
        flow = gradient if weight is None else gradient * weight
        return (flow - flow.mean(axes, keepdim=True)) * scale

    return with_gradient_rule(x, value, back, bias)


def _rms_norm(
    func: Any, x: Tensor, shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor:
    fixed = x.detach()
    value = func(fixed, shape, weight, eps)
    axes = tuple(range(-len(shape), 0))
    least = torch.finfo(x.dtype).eps if eps is None else eps
    scale = (fixed.square().mean(axes, keepdim=True) + least).rsqrt()
    return with_gradient_rule(x, value, lambda g: (g if weight is None else g * weight) * scale)


def _gelu(func: Any, x: Tensor, approximate: str = "none") -> Tensor:
    fixed = x.detach()
    if approximate == "tanh":
        gate = (math.sqrt(2 / math.pi) * (fixed + 0.044715 * fixed**3)).tanh().add(1).div(2)
    else:
        gate = (fixed * math.sqrt(0.5)).erf().add(1).div(2)
    return with_gradient_rule(x, func(fixed, approximate=approximate), lambda g: g * gate)


def _silu(func: Any, x: Tensor, inplace: bool = False) -> Tensor:  # noqa: ARG001 (PyTorch's)
    fixed = x.detach()
    return with_gradient_rule(x, func(fixed), lambda g: g * fixed.sigmoid())


_RULES: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": _attend,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "gelu": _gelu,
    "silu": _silu,
}
