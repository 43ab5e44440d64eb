"""One forward pass with everything that methods ask for, and the network's own logits."""

from __future__ import annotations

from weakref import WeakSet

import torch
from torch import Tensor, nn

from attnguide.errors import InputError
from attnguide.tracing import blocks
from attnguide.tracing.capture import Pass, Recording, capture, unchanged
from attnguide.tracing.tokens import layers
from attnguide.types import ViT

_COMPARED: WeakSet[nn.Module] = WeakSet()


def forward_pass(
    vit: ViT, images: Tensor, *, gradient: str = "plain", from_images: bool = False
) -> Pass:
    """A pass whose graph begins at the attention of layer 0, or already at the images.

    The last block of a standard network is computed for the tokens alone that the head reads,
    unless the pass begins at the images. The first time, the logits of one image are compared with
    those that the network gives by itself.

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
            f"{vit.name} answers with NaN or infinite logits; check its weights and its inputs"
        )
    _compare(vit, images[:1], logits[:1].detach())
    return Pass(vit.name, recording, logits)


def _from_images(vit: ViT, images: Tensor, recording: Recording) -> Tensor:
    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        recording.tokens.append(args[0])

    recording.images = images.detach().clone().requires_grad_()
    hooks = [block.register_forward_pre_hook(keep) for block in layers(vit)]
    try:
        return vit.logits(recording.images)
    finally:
        for hook in hooks:
            hook.remove()


def _compare(vit: ViT, images: Tensor, logits: Tensor) -> None:
    """Refuse logits that are not the network's own; asked of every network once."""
    if vit.module in _COMPARED:
        return
    with unchanged(vit.module, fused=False), torch.no_grad():
        own = vit.logits(images)
    gap, size = float((own - logits).abs().max()), float(own.abs().max())
    if not gap <= size * _tolerance(vit):
        raise InputError(
            f"{vit.name} gives other logits by itself than while its attention is recorded (they "
            f"differ by {gap:.2g}, the largest is {size:.2g}): it draws random numbers in "
            "evaluation mode, or computes attention in a way that cannot be followed"
        )
    _COMPARED.add(vit.module)


def _tolerance(vit: ViT) -> float:
    """Relative, of logits from two orders of the same products."""
    device = vit.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else vit.dtype
    rounding = torch.finfo(dtype).eps
    if device == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        rounding = max(rounding, 2**-10)
    return float(rounding**0.5)
