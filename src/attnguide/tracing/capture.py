"""Record the attention of every layer, and its gradient; give the model back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnguide.errors import InputError
from attnguide.tracing.libra import LibraBackward
from attnguide.tracing.state import unchanged as unchanged
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
        tokens: L tensors (B, N, D) that enter the blocks, and the images (B, 3, H, W), of a pass
            that begins at the images.
    """

    attention: list[Tensor] = field(default_factory=list)
    query: list[Tensor] = field(default_factory=list)
    key: list[Tensor] = field(default_factory=list)
    value: list[Tensor] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)
    images: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass
class Pass:
    """One forward pass that can be differentiated.

    Attributes:
        name: What messages call the network.
        recording: Its attention.
        logits: (B, C).
        is_freed: Whether its graph is gone.
    """

    name: str
    recording: Recording
    logits: Tensor
    is_freed: bool = False

    def gradient(
        self, objective: Callable[[Tensor], Tensor], inputs: Sequence[Tensor], *, keep: bool = True
    ) -> tuple[Tensor, ...]:
        """D objective / d inputs, by autograd, each image's own.

        Args:
            objective: Logits (B, C) to (B,).
            inputs: Tensors of this pass, such as its attention.
            keep: Whether it will be asked again; if not, the graph is freed on the way.

        Raises:
            ValueError: nothing flows to one of them.
        """
        self.is_freed = not keep
        return gradient_of(self.name, objective, self.logits, inputs, keep=keep)


def gradient_of(
    name: str,
    objective: Callable[[Tensor], Tensor],
    logits: Tensor,
    inputs: Sequence[Tensor],
    *,
    keep: bool = True,
) -> tuple[Tensor, ...]:
    """D objective(logits) / d inputs, where it exists.

    Args:
        name: What messages call the network.
        objective: Logits (B, C) to (B,).
        logits: (B, C), with their graph.
        inputs: Tensors of that graph.
        keep: Whether the graph will be used again.

    Raises:
        ValueError: a loss that does not depend on the logits; a graph that is cut between the
            logits and one of the inputs.
    """
    gradients: Sequence[Tensor | None] = (None,)
    with torch.inference_mode(False), torch.enable_grad():
        loss = objective(logits).sum()
        if logits.requires_grad and not loss.requires_grad:
            raise InputError("the loss does not depend on the logits; nothing can be explained")
        if loss.requires_grad and all(tensor.requires_grad for tensor in inputs):
            try:
                gradients = torch.autograd.grad(loss, inputs, retain_graph=keep, allow_unused=True)
            except torch.utils.checkpoint.CheckpointError as error:
                raise InputError(
                    f"{name} checkpoints gradients in its own forward; turn that off"
                ) from error
    whole = tuple(gradient for gradient in gradients if gradient is not None)
    if len(whole) < len(inputs):
        raise InputError(
            f"no gradient flows from the logits to the attention of {name}: something inside cuts "
            "it (int8 weights, detach, no_grad, checkpointing); use the network before "
            "quantisation, or a method without gradient (rollout, raw_attention, tis)"
        )
    return whole


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
            attention = self.edit(len(self.recording.attention), attention).to(attention)
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
def capture(vit: ViT, *, edit: Edit | None = None, gradient: str = "plain") -> Iterator[Recording]:
    """Record attention (and query, key, value) of the one forward pass made inside.

    A model in training mode is run in evaluation mode inside (no dropout, no drop path).

    Args:
        vit: The model.
        edit: `edit(layer, attention)` returns the attention to use in its place.
        gradient: "plain", or "libra" for LibraGrad's backward pass (`tracing.libra`).

    Raises:
        ValueError: on leaving, when not every layer showed one (B, H, N, N) attention.
    """
    recording = Recording()
    backward = LibraBackward(vit.name) if gradient == "libra" else nullcontext()
    with unchanged(vit.module), _Recorder(recording, edit), backward:
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
