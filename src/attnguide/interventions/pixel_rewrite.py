"""Pixels updated by their gradients until the model reads another class in the same picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attnguide.errors import InputError
from attnguide.losses import difference
from attnguide.models.preprocess import steps_of
from attnguide.tracing.capture import unchanged
from attnguide.types import ViT

LEVELS = 255  # of an 8-bit channel


@dataclass(frozen=True)
class Rewriting:
    """Pictures before and after; every number is taken from 8-bit pictures.

    Attributes:
        original, updated: (B, 3, H, W) uint8.
        before, after: (B, C) logits of the two.
        source, goal: (B,) int64.
        steps: (B,) int64, how many were taken.
    """

    original: Tensor
    updated: Tensor
    before: Tensor
    after: Tensor
    source: Tensor
    goal: Tensor
    steps: Tensor

    @property
    def flipped(self) -> Tensor:
        """(B,) bool, the goal is the updated picture's top-1."""
        return self.after.argmax(-1) == self.goal

    @property
    def largest(self) -> Tensor:
        """(B,) largest change of a channel, in levels of 255."""
        return self._change.abs().amax((1, 2, 3))

    @property
    def psnr(self) -> Tensor:
        """(B,) peak signal-to-noise ratio in dB; infinite where nothing changed."""
        error = self._change.double().square().mean((1, 2, 3))
        return 10 * torch.log10(LEVELS**2 / error)

    @property
    def _change(self) -> Tensor:
        return self.updated.int() - self.original.int()


def rewrite(
    vit: ViT,
    images: Tensor,
    source: Tensor,
    goal: Tensor,
    step: float = 0.5,
    max_steps: int = 40,
    confidence: float = 0.938,
    epsilon: int | None = None,
) -> Rewriting:
    """Descend l_source - l_goal over the pixels, by steps of fixed length.

    After each step the picture is clamped to what a pixel can show. It stops when its 8-bit
    version has the goal as top-1 with `confidence`.

    Args:
        vit: The model; it is left as it was.
        images: (B, 3, H, W), normalised; their 8-bit versions are the originals.
        source: (B,) int64, the class to leave.
        goal: (B,) int64, the class to reach.
        step: L2 length of a step in normalised units, over the whole picture.
        max_steps: At most.
        confidence: Probability of the goal that is enough; the paper's picture reached 0.938.
        epsilon: Largest change of a channel in levels of 255; None for any.

    Raises:
        ValueError: source and goal the same, or a setting out of range.

    Paper: Sec. 4.5, Figure 11.
    """
    check_settings(step, max_steps, confidence, epsilon)
    if bool((source == goal).any()):
        raise InputError("source and goal must be two different classes, got the same one twice")
    source, goal = source.to(vit.device), goal.to(vit.device)
    mean, std = _levels(vit)
    with torch.inference_mode(False), torch.enable_grad(), unchanged(vit.module):
        # everything is kept in levels of 255; the model sees (levels - mean) / std
        original = (images.to(vit.device, vit.dtype) * std + mean).round().clamp(0, LEVELS)
        reach = LEVELS if epsilon is None else epsilon
        low, high = (original - reach).clamp(min=0), (original + reach).clamp(max=LEVELS)
        pixels, steps = original.clone(), torch.zeros_like(source)
        before = after = _logits(vit, (original - mean) / std)
        for _ in range(max_steps):
            going = vit.probabilities(after).gather(1, goal[:, None])[:, 0] < confidence
            if not bool(going.any()):
                break
            leaf = ((pixels[going] - mean) / std).requires_grad_()
            loss = difference(vit.module(leaf), source[going], goal[going]).sum()
            (slope,) = torch.autograd.grad(loss, leaf)
            length = slope.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
            moved = pixels[going] - step * std * slope / length
            pixels[going] = moved.clamp(low[going], high[going])
            after = after.index_put((going,), _logits(vit, (pixels[going].round() - mean) / std))
            steps += going
    return Rewriting(original.byte(), pixels.round().byte(), before, after, source, goal, steps)


def check_settings(
    step: float = 0.5, max_steps: int = 40, confidence: float = 0.938, epsilon: int | None = None
) -> None:
    """Refuse settings of `rewrite` that cannot work.

    Raises:
        ValueError: the first of them.
    """
    if not step > 0 or max_steps < 1:
        raise InputError(f"step and max_steps must be positive, got {step} and {max_steps}")
    if not 0 < confidence < 1:
        hint = f"; pass {confidence / 100:g}" if 1 < confidence < 100 else ""
        raise InputError(
            f"confidence, a probability, must lie between 0 and 1, got {confidence}{hint}"
        )
    if epsilon is not None and not 1 <= epsilon <= LEVELS:
        raise InputError(
            f"epsilon, the largest change in levels of 255, must lie in [1, 255], got {epsilon}"
        )


def _logits(vit: ViT, images: Tensor) -> Tensor:
    with torch.no_grad():
        return vit.module(images)


def _levels(vit: ViT) -> tuple[Tensor, Tensor]:
    """(3, 1, 1) mean and standard deviation of the model's input, in levels of 255."""
    steps = steps_of(vit)
    mean, std = (
        torch.tensor(values, dtype=vit.dtype, device=vit.device).view(3, 1, 1) * LEVELS
        for values in (steps.mean, steps.std)
    )
    return mean, std
