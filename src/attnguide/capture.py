"""Record the attention of every layer, and its gradient; give the model back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnguide.losses import Loss, get_loss
from attnguide.propagate import patch_grid, rollout
from attnguide.rules import Rule
from attnguide.types import ViT

T = TypeVar("T")
Edit = Callable[[int, Tensor], Tensor]
_SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)


@dataclass
class Recording:
    """What one forward pass left behind, layer 0 first; tensors stay in the autograd graph.

    Attributes:
        attention: L tensors (B, H, N, N) after softmax; entry [i, j] is how much i reads from j.
        query, key, value: L tensors (B, H, N, D / H), where the model uses PyTorch's attention
            function (timm does); empty otherwise.
    """

    attention: list[Tensor] = field(default_factory=list)
    query: list[Tensor] = field(default_factory=list)
    key: list[Tensor] = field(default_factory=list)
    value: list[Tensor] = field(default_factory=list)


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
            raise ValueError("cannot capture causal or grouped-query attention: not a ViT")
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
        raise ValueError(
            f"cannot capture the attention of {vit.name} ({type(vit.module).__name__}): expected "
            f"{depth} layers of (B, H, {vit.num_tokens}, {vit.num_tokens}) after softmax, saw "
            f"{seen}; use a timm VisionTransformer or wrap_model on one"
        )


class AttentionTrace:
    """Everything methods need of one model on one batch, computed once, when first asked for.

    Methods that ask for the same thing share it: however many rules and methods, there is one
    forward pass, and one backward pass per target.
    """

    def __init__(
        self,
        vit: ViT,
        images: Tensor,
        target: Tensor,
        *,
        loss: str | Loss = "logit",
        reference: Tensor | None = None,
        shared: dict[Any, Any] | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            vit: The model.
            images: (B, 3, H, W), normalised.
            target: (B,) int64.
            loss: Name or callable (logits, target, reference) -> (B,).
            reference: (B,) int64, second class of a two-class loss.
            shared: Results that do not depend on the target, passed on by `retarget`.
        """
        self.vit, self.images, self.target = vit, images, target
        self.loss, self.reference = loss, reference
        self.shared: dict[Any, Any] = {} if shared is None else shared
        self.keep_graph = True  # False for the last target: the pass is freed as it is walked

    def retarget(self, target: Tensor) -> AttentionTrace:
        """The same images with another target; all that is blind to the class is shared."""
        return AttentionTrace(
            self.vit,
            self.images,
            target,
            loss=self.loss,
            reference=self.reference,
            shared=self.shared,
        )

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """`compute()` the first time, its result afterwards, for all targets of these images."""
        if key not in self.shared:
            self.shared[key] = compute()
        return self.shared[key]

    @property
    def recording(self) -> Recording:
        """The forward pass, in the autograd graph."""
        return self._forward[0]

    @property
    def logits(self) -> Tensor:
        """(B, C)."""
        return self._forward[1].detach()

    @property
    def attention(self) -> tuple[Tensor, ...]:
        """L tensors (B, H, N, N), layer 0 first, rows sum to 1."""
        return tuple(attention.detach() for attention in self.recording.attention)

    @cached_property
    def gradient(self) -> tuple[Tensor, ...]:
        """L tensors (B, H, N, N): d loss / d attention, each image's own."""
        with torch.inference_mode(False), torch.enable_grad():
            return torch.autograd.grad(
                self.objective(self._forward[1]).sum(),
                self.recording.attention,
                retain_graph=self.keep_graph,
                materialize_grads=True,
            )

    def objective(self, logits: Tensor) -> Tensor:
        """(B,) the loss of `logits` (B, C) at this target."""
        return get_loss(self.loss)(logits, self.target, self.reference)

    @property
    def readout(self) -> Tensor:
        """(N,) weights of the tokens that the head reads.

        Raises:
            ValueError: the head pools in a way that has none.
        """
        if self.vit.readout is None:
            raise ValueError(
                f"{self.vit.name} pools its tokens neither by a class token nor by their mean, so "
                "no row of a rollout belongs to its output; use a model with global_pool='token' "
                "or 'avg', or a method that needs no rollout (gradcam, layercam, tis, vit_cx)"
            )
        return self.vit.readout.to(self.images)

    def on_grid(self, row: Tensor) -> Tensor:
        """(B, rows, cols) of a value per token (B, N)."""
        return patch_grid(row, self.vit.num_prefix, self.vit.grid)

    @property
    def _forward(self) -> tuple[Recording, Tensor]:
        return self.once("forward", self._run)

    def _run(self) -> tuple[Recording, Tensor]:
        with torch.inference_mode(False), torch.enable_grad(), capture(self.vit) as recording:
            logits = self.vit.module(self.images)
        return recording, logits


def layers_from(layers: tuple[T, ...], start_layer: int) -> tuple[T, ...]:
    """Layers `start_layer` (0-based) and later.

    Raises:
        ValueError: start_layer outside [0, depth).
    """
    if not 0 <= start_layer < len(layers):
        raise ValueError(
            f"start_layer must lie in [0, {len(layers) - 1}] for this model, got {start_layer}"
        )
    return layers[start_layer:]


def corrected_rollout(trace: AttentionTrace, rule: Rule) -> Tensor:
    """(B, rows, cols): rollout of every layer's attention corrected by its gradient."""
    matrices = [rule(a, g) for a, g in zip(trace.attention, trace.gradient, strict=True)]
    return trace.on_grid(rollout(matrices, trace.readout))
