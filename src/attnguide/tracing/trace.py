"""What methods are given: one model on one batch, every intermediate result computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from attnguide.errors import InputError
from attnguide.losses import Loss, get_loss
from attnguide.propagate import patch_grid, rollout
from attnguide.rules import Rule
from attnguide.tracing.capture import Pass, Recording, capture
from attnguide.tracing.plain import PlainPass, is_plain
from attnguide.types import ViT

T = TypeVar("T")


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
        """What the forward pass left behind."""
        return self._forward.recording

    @property
    def logits(self) -> Tensor:
        """(B, C)."""
        return self._forward.logits.detach()

    @property
    def attention(self) -> tuple[Tensor, ...]:
        """L tensors (B, H, N, N), layer 0 first, rows sum to 1."""
        return tuple(attention.detach() for attention in self.recording.attention)

    @cached_property
    def gradient(self) -> tuple[Tensor, ...]:
        """L tensors (B, H, N, N): d loss / d attention, each image's own."""
        with torch.inference_mode(False), torch.enable_grad():
            return self._forward.gradient(self.objective, keep=self.keep_graph)

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
            raise InputError(
                f"{self.vit.name} pools its tokens neither by a class token nor by their mean, so "
                "no row of a rollout belongs to its output; use a model with global_pool='token' "
                "or 'avg', or a method that needs no rollout (gradcam, layercam, tis, vit_cx)"
            )
        return self.vit.readout.to(self.images)

    def on_grid(self, row: Tensor) -> Tensor:
        """(B, rows, cols) of a value per token (B, N)."""
        return patch_grid(row, self.vit.num_prefix, self.vit.grid)

    @property
    def _forward(self) -> Pass:
        return self.once("forward", self._run)

    def _run(self) -> Pass:
        with torch.inference_mode(False), torch.enable_grad():
            if is_plain(self.vit.module):
                return PlainPass(self.vit.module, self.images)
            with capture(self.vit) as recording:
                logits = self.vit.module(self.images)
        return Pass(recording, logits)


def layers_from(layers: tuple[T, ...], start_layer: int) -> tuple[T, ...]:
    """Layers `start_layer` (0-based) and later.

    Raises:
        ValueError: start_layer outside [0, depth).
    """
    if not 0 <= start_layer < len(layers):
        raise InputError(
            f"start_layer must lie in [0, {len(layers) - 1}] for this model, got {start_layer}"
        )
    return layers[start_layer:]


def corrected_rollout(trace: AttentionTrace, rule: Rule) -> Tensor:
    """(B, rows, cols): rollout of every layer's attention corrected by its gradient."""
    layers = zip(reversed(trace.attention), reversed(trace.gradient), strict=True)
    matrices = (rule(attention, gradient) for attention, gradient in layers)
    return trace.on_grid(rollout(matrices, trace.readout))
