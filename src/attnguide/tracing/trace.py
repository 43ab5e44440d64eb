"""What methods are given: one model on one batch, every intermediate result computed once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from attnguide.errors import InputError, unknown_name
from attnguide.losses import Loss, get_loss
from attnguide.propagate import patch_grid, rollout
from attnguide.rules import Rule
from attnguide.tracing import blocks
from attnguide.tracing.capture import Pass, Recording, capture, unchanged
from attnguide.tracing.tokens import layers
from attnguide.types import ViT

BACKWARDS = ("plain", "libra")

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
        backward: str = "plain",
    ) -> None:
        """Nothing is computed yet.

        Args:
            vit: The model.
            images: (B, 3, H, W), normalised.
            target: (B,) int64.
            loss: Name or callable (logits, target, reference) -> (B,).
            reference: (B,) int64, second class of a two-class loss.
            shared: Results that do not depend on the target, passed on by `for_target`.
            backward: As in `with_gradient`.
        """
        self.vit, self.images, self.target = vit, images, target
        self.loss, self.reference = get_loss(loss), reference
        self.shared: dict[Any, Any] = {} if shared is None else shared
        self.backward = backward
        self.keep_graph = True  # False for the last target: the pass is freed as it is walked
        self._others: dict[str, AttentionTrace] = {}  # never itself: a cycle would outlive its use

    def for_target(self, target: Tensor) -> AttentionTrace:
        """The same images with another target; all that is blind to the class is shared."""
        return self._like(target, self.backward)

    def with_gradient(self, backward: str) -> AttentionTrace:
        """The same images and target, with gradients of this kind.

        Args:
            backward: "plain", or "libra" for LibraGrad's (`tracing.libra`).

        Raises:
            ValueError: neither.
        """
        if backward not in BACKWARDS:
            raise unknown_name("gradient", backward, BACKWARDS)
        if backward == self.backward:
            return self
        if backward not in self._others:
            self._others[backward] = self._like(self.target, backward)
        self._others[backward].keep_graph = self.keep_graph
        return self._others[backward]

    def _like(self, target: Tensor, backward: str) -> AttentionTrace:
        return AttentionTrace(
            self.vit,
            self.images,
            target,
            loss=self.loss,
            reference=self.reference,
            shared=self.shared,
            backward=backward,
        )

    def cached(self, key: Any, compute: Callable[[], Any]) -> Any:
        """`compute()` the first time, its result afterwards, for all targets of these images."""
        if key not in self.shared:
            self.shared[key] = compute()
        return self.shared[key]

    @property
    def recording(self) -> Recording:
        """What the forward pass left behind."""
        return self._pass.recording

    @property
    def logits(self) -> Tensor:
        """(B, C), the network's own."""
        return self._pass.logits.detach()

    @property
    def attention(self) -> tuple[Tensor, ...]:
        """L tensors (B, H, N, N), layer 0 first, rows sum to 1; float32 at least."""
        return tuple(at_least_float32(attention.detach()) for attention in self.recording.attention)

    @cached_property
    def gradient(self) -> tuple[Tensor, ...]:
        """L tensors (B, H, N, N): d loss / d attention, each image's own; float32 at least.

        Raises:
            ValueError: no gradient flows from the logits to the attention.
        """
        found = self._differentiable()
        gradients = found.gradient(self.objective, found.recording.attention, keep=self.keep_graph)
        return tuple(map(at_least_float32, gradients))

    def tokens_and_gradient(self) -> list[tuple[Tensor, Tensor]]:
        """Per block, layer 0 first: the tokens that enter it, and d loss / d tokens; (B, N, D).

        Raises:
            ValueError: a network without `blocks`; no gradient flows to them.
        """
        tokens = self._differentiable("tokens").recording.tokens
        gradients = self._input_gradients[1:]
        return [
            (at_least_float32(entered.detach()), gradient)
            for entered, gradient in zip(tokens, gradients, strict=True)
        ]

    @property
    def image_gradient(self) -> Tensor:
        """(B, 3, H, W): d loss / d image.

        Raises:
            ValueError: no gradient flows to it.
        """
        return self._input_gradients[0]

    @cached_property
    def _input_gradients(self) -> tuple[Tensor, ...]:
        """Of the images, and of the tokens that enter every block."""
        found = self._differentiable("tokens")
        inputs = (found.recording.images, *found.recording.tokens)
        gradients = found.gradient(self.objective, inputs, keep=self.keep_graph)
        return tuple(map(at_least_float32, gradients))

    def objective(self, logits: Tensor) -> Tensor:
        """(B,) the loss of `logits` (B, C) at this target."""
        return self.loss(logits, self.target, self.reference)

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
        return at_least_float32(self.vit.readout.to(self.images))

    def on_grid(self, row: Tensor) -> Tensor:
        """(B, rows, cols) of a value per token (B, N)."""
        return patch_grid(row, self.vit.num_prefix, self.vit.grid)

    @property
    def _pass(self) -> Pass:
        """The forward pass that there is, or one that ends at the attention."""
        known = (self.shared.get((start, self.backward)) for start in ("tokens", "attention"))
        return next((found for found in known if found is not None), None) or self._run("attention")

    def _differentiable(self, start: str = "attention") -> Pass:
        """A forward pass whose graph begins there and still stands."""
        known = self.shared.get((start, self.backward))
        return self._run(start) if known is None or known.is_freed else known

    def _run(self, start: str) -> Pass:
        with torch.inference_mode(False), torch.enable_grad():
            found = forward_pass(
                self.vit, self.images, gradient=self.backward, from_images=start == "tokens"
            )
        self.shared[start, self.backward] = found
        return found


def at_least_float32(x: Tensor) -> Tensor:
    """Products of many small numbers are not left to 16 bits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def layers_from(values: tuple[T, ...], start_layer: int) -> tuple[T, ...]:
    """Of one value per layer, those of `start_layer` (0-based) and later.

    Raises:
        ValueError: start_layer outside [0, depth).
    """
    if not 0 <= start_layer < len(values):
        raise InputError(
            f"start_layer must lie in [0, {len(values) - 1}] for this model, got {start_layer}"
        )
    return values[start_layer:]


def corrected_rollout(trace: AttentionTrace, rule: Rule, gradient: str = "plain") -> Tensor:
    """(B, rows, cols): rollout of every layer's attention corrected by its gradient.

    Args:
        trace: The shared pass.
        rule: Attention and gradient (B, H, N, N) to the matrix (B, N, N) that is propagated.
        gradient: As in `AttentionTrace.with_gradient`.

    Raises:
        ValueError: an unknown gradient; LibraGrad of a network with a part it has no rule for.
    """
    trace = trace.with_gradient(gradient)
    pairs = zip(reversed(trace.attention), reversed(trace.gradient), strict=True)
    matrices = (rule(attention, gradient) for attention, gradient in pairs)
    return trace.on_grid(rollout(matrices, trace.readout))


def forward_pass(
    vit: ViT, images: Tensor, *, gradient: str = "plain", from_images: bool = False
) -> Pass:
    """A pass whose graph begins at the attention of layer 0, or already at the images.

    The last block of a standard network is computed for the tokens alone that the head reads,
    unless the pass begins at the images. The logits of one image are compared with those that the
    network gives by itself, every time: a hook may have come, or a part have been changed.

    Args:
        vit: The model.
        images: (B, 3, H, W), normalised.
        gradient: "plain" or "libra".
        from_images: Record the images and the tokens that enter every block, too.

    Raises:
        ValueError: attention that cannot be captured; logits that are not finite, or not those of
            the network's own forward pass.
    """
    with capture(vit, gradient=gradient) as recording:
        if from_images:
            logits = _from_images(vit, images, recording)
        elif blocks.is_standard(vit.module):
            logits = blocks.forward(vit.module, images)
        else:
            logits = vit.logits(images)
    if not bool(torch.isfinite(logits).all()):
        raise InputError(
            f"{vit.name} returned NaN or infinite logits; check its weights and its inputs"
        )
    with unchanged(vit.module, fused=False), torch.no_grad():
        own = vit.logits(images[:1])
    refuse_other_logits(
        vit, own, logits[:1].detach(), "while its attention is recorded", "it draws random numbers "
        "in evaluation mode, or computes attention in a way that cannot be followed"
    )  # fmt: skip
    return Pass(vit.name, recording, logits)


def _from_images(vit: ViT, images: Tensor, recording: Recording) -> Tensor:
    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        recording.tokens.append(args[0])

    recording.images = images.detach().clone().requires_grad_()
    with ExitStack() as hooks:
        for block in layers(vit):
            hooks.enter_context(block.register_forward_pre_hook(keep))
        logits = vit.logits(recording.images)
    return logits


def refuse_other_logits(vit: ViT, own: Tensor, logits: Tensor, when: str, why: str) -> None:
    """Refuse logits that are not the network's own.

    Args:
        vit: The model.
        own: (B, C) that the network gives by itself.
        logits: (B, C) that a shortcut gives.
        when, why: Of the message.

    Raises:
        ValueError: they differ by more than rounding.
    """
    gap, size = float((own - logits).abs().max()), float(own.abs().max())
    if not gap <= size * _tolerance(vit):
        raise InputError(
            f"{vit.name} gives other logits by itself than {when} (they differ by {gap:.2g}, the "
            f"largest is {size:.2g}): {why}"
        )


def _tolerance(vit: ViT) -> float:
    """Relative, of logits from two orders of the same products."""
    device = vit.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else vit.dtype
    rounding = torch.finfo(dtype).eps
    if device == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        rounding = max(rounding, 2**-10)
    return float(rounding**0.5)
