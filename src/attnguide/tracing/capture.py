"""Record the attention of every layer, and its gradient; give the model back as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnguide.errors import InputError
from attnguide.tracing.libra import LibraBackward
from attnguide.types import ViT

Edit = Callable[[int, Tensor], Tensor]
_SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)
_FLAGS = {
    "training": False,
    "fused_attn": True,
    "grad_checkpointing": False,  # timm
    "gradient_checkpointing": False,  # HuggingFace
}
_GUARD = Lock()
_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


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
        """As `gradient_of`; without `keep` the graph is freed on the way."""
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
    """D objective(logits) / d inputs, by autograd, each image's own.

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
    """Replaces PyTorch's fused attention by explicit operations, whose matrix is kept or edited."""

    def __init__(self, recording: Recording, edit: Edit | None) -> None:
        super().__init__()
        self.recording, self.edit = recording, edit
        # Of the last attention, which products make anyway: when the next one comes they take the
        # place of the views, so that the larger tensor behind these can go.
        self.copies: tuple[Tensor, ...] = (torch.empty(0),) * 3

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
        columns = (self.recording.query, self.recording.key, self.recording.value)
        for column, tensor, copy in zip(columns, (query, key, value), self.copies, strict=True):
            column[-1:] = [copy, tensor] if column else [tensor]
        query, value = query.contiguous(), value.contiguous()
        key = key.transpose(-2, -1).contiguous().transpose(-2, -1)
        self.copies = (query, key, value)
        score = (query * (scale or query.shape[-1] ** -0.5)) @ key.transpose(-2, -1)
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            score = score.masked_fill(~attn_mask, -torch.inf) if hidden else score + attn_mask
        attention = self._keep(score.softmax(-1))
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


@contextmanager
def unchanged(module: nn.Module, *, fused: bool = True) -> Iterator[None]:
    """The network for one thread alone: evaluating, eager, without parameter gradients.

    Training mode, unfused attention, gradient checkpointing, compiled code (in whichever way it was
    compiled) and `requires_grad` are put aside, weights that were made in inference mode are
    replaced by copies; all is as before afterwards, also after an error.

    Args:
        module: The network.
        fused: Let timm's attention call PyTorch's attention function, which shows queries and
            values; False leaves that as it is.
    """
    with _lock_of(module), _EAGER, ExitStack() as undo:
        for part in module.modules():
            own = vars(part)
            for name, value in _FLAGS.items():
                if name in own and own[name] != value and (fused or name != "fused_attn"):
                    undo.callback(setattr, part, name, own[name])
                    setattr(part, name, value)
            _replace_inference_tensors(part, undo)
        for parameter in module.parameters():
            if parameter.requires_grad:
                undo.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        yield


def _replace_inference_tensors(part: nn.Module, undo: ExitStack) -> None:
    """They can be neither differentiated through nor changed back."""
    tables: tuple[Any, ...] = (part._parameters, part._buffers)
    for table in tables:
        for name, tensor in table.items():
            if tensor is not None and tensor.is_inference():
                undo.callback(table.__setitem__, name, tensor)
                with torch.inference_mode(False):
                    copy = tensor.detach().clone()
                    weight = nn.Parameter(copy, requires_grad=False)
                    table[name] = weight if table is part._parameters else copy


def _lock_of(module: nn.Module) -> Any:
    with _GUARD:
        return _LOCKS.setdefault(module, RLock())


class _Eager:
    """Nothing runs compiled while at least one thread is inside."""

    def __init__(self) -> None:
        self._lock, self._inside, self._stance = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1 and "torch._dynamo" in sys.modules:  # else nothing is compiled
                self._stance.enter_context(torch.compiler.set_stance("force_eager"))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stance.close()


_EAGER = _Eager()
