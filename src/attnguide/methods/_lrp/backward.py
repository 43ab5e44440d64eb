"""LibraGrad's backward pass with other rules for attention and affine layers: AttnLRP, CP-LRP.

Without them it is CP-LRP: queries, keys, deviations and gates are held. The gamma rule of affine
layers is a gradient too: weights of the favoured sign count more.

Source of the gamma rule: Montavon, Binder, Lapuschkin, Samek, Mueller, "Layer-Wise Relevance
Propagation: An Overview", 2019, for inputs of both signs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnguide.errors import InputError
from attnguide.methods._lrp.layer_rules import signed_parts
from attnguide.tracing.capture import gradient_of, unchanged
from attnguide.tracing.libra import LibraBackward, with_gradient_rule
from attnguide.tracing.tokens import layers
from attnguide.tracing.trace import AttentionTrace, at_least_float32
from attnguide.types import ViT

Hook = Callable[..., Tensor]
_OF_SUM, _OF_INPUT = 1e-6, 1e-10  # added to what is divided by


def shared_attention_gradient(trace: AttentionTrace) -> Tensor:
    """(B, 3, H, W): d loss / d image, with a quarter for query and key and a half for the value."""
    return _image_gradient(trace, "attn_lrp", _SharedAttention(trace.vit.name), {})


def gamma_gradient(trace: AttentionTrace, gamma: float, gamma_conv: float) -> Tensor:
    """(B, 3, H, W): d loss / d image, with the gamma rule outside the attention; 0 is no rule."""
    hooks: dict[nn.Module, Hook] = {}
    for name, part in trace.vit.module.named_modules():
        if isinstance(part, nn.Conv2d) and gamma_conv:
            hooks[part] = partial(gamma_convolution, gamma_conv)
        elif isinstance(part, nn.Linear) and gamma and not _in_attention(name):
            hooks[part] = partial(gamma_linear, gamma)
    key = ("cp_lrp", gamma, gamma_conv)
    return _image_gradient(trace, key, LibraBackward(trace.vit.name), hooks)


def _image_gradient(
    trace: AttentionTrace, key: Any, backward: LibraBackward, hooks: dict[nn.Module, Hook]
) -> Tensor:
    """The forward pass is shared by all targets."""
    images, logits = trace.cached(key, lambda: _run(trace, backward, hooks))
    (gradient,) = gradient_of(trace.vit.name, trace.objective, logits, [images])
    return at_least_float32(gradient)


def _run(
    trace: AttentionTrace, backward: LibraBackward, hooks: dict[nn.Module, Hook]
) -> tuple[Tensor, Tensor]:
    """The images, as the leaf of the graph, and logits."""
    with torch.inference_mode(False), torch.enable_grad(), unchanged(trace.vit.module):
        images = trace.images.detach().clone().requires_grad_()
        with ExitStack() as handles, backward:
            for part, hook in hooks.items():
                handles.enter_context(part.register_forward_hook(hook))
            logits = trace.vit.logits(images)
    if isinstance(backward, _SharedAttention):
        backward.check(trace.vit)
    return images, logits


class _SharedAttention(LibraBackward):
    """Query and key get a quarter of their gradient, the value a half."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.seen = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **other: Any) -> Any:
        self.seen += 1
        query, key, value = _scaled(query, 1 / 4), _scaled(key, 1 / 4), _scaled(value, 1 / 2)
        return F.scaled_dot_product_attention(query, key, value, *args, **other)

    def check(self, vit: ViT) -> None:
        """Refuse a network whose attention is computed in another way."""
        if self.seen < len(layers(vit)):
            raise InputError(
                f"attn_lrp shares the gradient of attention, and {vit.name} computes only "
                f"{self.seen} of {len(layers(vit))} by PyTorch's attention function; use cp_lrp"
            )


def _scaled(x: Tensor, share: float) -> Tensor:
    """The same, with a share of the gradient."""
    return with_gradient_rule(x, x, lambda gradient: gradient * share)


def _in_attention(name: str) -> bool:
    return not {"attn", "attn_pool"}.isdisjoint(name.split("."))


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

    return with_gradient_rule(inputs, output, backward)


def _away_from_zero(x: Tensor, epsilon: float) -> Tensor:
    """A little more of the same sign; + at 0."""
    return x + torch.where(x < 0, -epsilon, epsilon)
