"""Record the attention of every layer, and its gradient; give the model back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnguide.errors import InputError
from attnguide.types import ViT

Edit = Callable[[int, Tensor], Tensor]
_SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)


@dataclass
class Recording:
    """What one forward pass left behind, layer 0 first.

    Attributes:
        attention: L tensors (B, H, N, N) after softmax; entry [i, j] is how much i reads from j.
        query, key, value: L tensors (B, H, N, D / H), where the model uses PyTorch's attention
            function (timm does); empty otherwise.
    """

    attention: list[Tensor] = field(default_factory=list)
    query: list[Tensor] = field(default_factory=list)
    key: list[Tensor] = field(default_factory=list)
    value: list[Tensor] = field(default_factory=list)

    def add(self, attention: Tensor, query: Tensor, key: Tensor, value: Tensor) -> None:
        """One more layer."""
        self.attention.append(attention)
        self.query.append(query)
        self.key.append(key)
        self.value.append(value)


@dataclass
class Pass:
    """One forward pass that can be differentiated by its attention.

    Attributes:
        recording: Its attention.
        logits: (B, C).
    """

    recording: Recording
    logits: Tensor

    def gradient(
        self, objective: Callable[[Tensor], Tensor], *, keep: bool = True
    ) -> tuple[Tensor, ...]:
        """L tensors (B, H, N, N): d objective / d attention, by autograd, each image's own.

        Args:
            objective: Logits (B, C) to (B,).
            keep: Whether it will be asked again; if not, the pass is freed on the way.
        """
        return torch.autograd.grad(
            objective(self.logits).sum(),
            self.recording.attention,
            retain_graph=keep,
            materialize_grads=True,
        )


class _Recorder(TorchFunctionMode):
    """Spells PyTorch's fused attention out, so that the matrix it hides can be kept or edited."""

    def __init__(self, recording: Recording, edit: Edit | None) -> None:
        super().__init__()
        self.recording, self.edit = recording, edit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        out = func(*args, **kwargs)
        if func in _SOFTMAX and out.ndim == 4 and out.shape[-1] == out.shape[-2]:
            return self._keep(out)
        return out

    def _keep(self, attention: Tensor) -> Tensor:
        if self.edit is not None:
            attention = self.edit(len(self.recording.attention), attention)
        if torch.is_grad_enabled() and not attention.requires_grad:
            attention = attention.detach().requires_grad_()  # the graph begins at layer 0
        self.recording.attention.append(attention)
        return attention

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **other: Any,
    ) -> Tensor:
        if query.shape[-2] != key.shape[-2]:  # attention pooling is no layer
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **other
            )
        if is_causal or other.get("enable_gqa"):
            raise InputError("cannot capture causal or grouped-query attention: not a ViT")
        score = (query * (scale or query.shape[-1] ** -0.5)) @ key.transpose(-2, -1)
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            score = score.masked_fill(~attn_mask, -torch.inf) if hidden else score + attn_mask
        attention = self._keep(score.softmax(-1))
        for kept, tensor in zip(("query", "key", "value"), (query, key, value), strict=True):
            getattr(self.recording, kept).append(tensor)
        return attention @ value


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, no parameter gradients, fused attention; all as before afterwards."""
    parts: list[Any] = list(module.modules())
    modes = [(part, part.training) for part in parts]
    wanted = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    fused = [(part, part.fused_attn) for part in parts if hasattr(part, "fused_attn")]
    try:
        for part, _ in modes:
            part.training = False
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        for part, _ in fused:
            part.fused_attn = True
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
        for part, flag in fused:
            part.fused_attn = flag


@contextmanager
def capture(vit: ViT, *, edit: Edit | None = None) -> Iterator[Recording]:
    """Record attention (and query, key, value) of the one forward pass made inside.

    A model in training mode is run in evaluation mode inside (no dropout, no drop path).

    Args:
        vit: The model.
        edit: `edit(layer, attention)` returns the attention to use in its place.

    Raises:
        ValueError: on leaving, when not every layer showed one (B, H, N, N) attention.
    """
    recording = Recording()
    with unchanged(vit.module), _Recorder(recording, edit):
        yield recording
    depth = len(vit.module.blocks) if hasattr(vit.module, "blocks") else len(recording.attention)
    shapes = [tuple(attention.shape) for attention in recording.attention]
    if len(shapes) != depth or not shapes or any(s[-1] != vit.num_tokens for s in shapes):
        seen = f"{len(shapes)} of them, {sorted(set(shapes))}" if shapes else "none"
        raise InputError(
            f"cannot capture the attention of {vit.name} ({type(vit.module).__name__}): expected "
            f"{depth} layers of (B, H, {vit.num_tokens}, {vit.num_tokens}) after softmax, saw "
            f"{seen}; use a timm VisionTransformer or wrap_model on one"
        )
