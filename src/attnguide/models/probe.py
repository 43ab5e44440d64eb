"""One forward pass when a network is wrapped: what it takes, what it answers, what its head reads.

Attributes of a network may say otherwise (a head replaced by hand, tokens inserted in a subclass);
what it does is believed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnguide.errors import InputError


@dataclass(frozen=True)
class Probe:
    """What one random image showed.

    Attributes:
        logits: (1, C).
        tokens: Shape of what enters the first block, without the batch.
        read: (N,) which tokens of the last block change the logits; None where that is not known.
    """

    logits: Tensor
    tokens: tuple[int, ...]
    read: Tensor | None


def probe(module: Any, size: tuple[int, int], label: str) -> Probe:
    """Run a network in evaluation mode on one random image.

    Args:
        module: With its layers in `blocks`.
        size: (height, width) of the image in pixels.
        label: What messages call it.

    Raises:
        ValueError: it does not run, takes no RGB images, or does not answer with finite logits.
    """
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is not None and first.in_channels != 3 and first is _embedding(module):
        raise InputError(
            f"{label} takes images of {first.in_channels} channels, expected 3 (RGB); make its "
            "first layer take three"
        )
    entered: list[tuple[int, ...]] = []
    left: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
        entered.append(tuple(args[0].shape[1:]))

    def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001
        if not isinstance(output, Tensor) or not torch.is_grad_enabled():
            return None
        left.append(output.detach().requires_grad_())
        return left[-1]

    blocks = list(module.blocks)
    handles = [
        blocks[0].register_forward_pre_hook(enter),
        blocks[-1].register_forward_hook(leave),
    ]
    kept = (*module.parameters(), *module.buffers())
    learned = not any(tensor.is_inference() for tensor in kept)
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(learned), evaluating(module):
            images = noise(module, size)
            logits = answer(module, images)
    except Exception as error:  # whatever the network's code raises
        raise InputError(
            f"{label} does not run on images (1, 3, {size[0]}, {size[1]}) "
            f"({type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else ''})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    _check(logits, label)
    return Probe(logits.detach(), entered[0] if entered else (), _read(logits, left))


def noise(module: nn.Module, size: tuple[int, int], seed: int = 0) -> Tensor:
    """(1, 3, H, W) random pixels where the weights are, of their precision."""
    weights = [p for p in module.parameters() if p.is_floating_point()]
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    return images.to(weights[0]) if weights else images


def answer(module: Any, images: Tensor) -> Any:
    """A network's logits; what it gave if there are none in it.

    Logits may stand in a dict or record under "logits", or be a tuple's only tensor (B, C).
    """
    compiled = "torch._dynamo" in sys.modules
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        output = module(images)  # a compiled one is not compiled for this
    if isinstance(output, Mapping):
        return output.get("logits", output)
    if isinstance(output, tuple | list):
        fits = [part for part in output if isinstance(part, Tensor) and part.ndim == 2]
        return fits[0] if len(fits) == 1 else output
    return getattr(output, "logits", output)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every part's own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _embedding(module: Any) -> nn.Module | None:
    """The layer that reads the pixels."""
    embed = module.patch_embed
    return next((part for part in embed.modules() if isinstance(part, nn.Conv2d)), None)


def _check(logits: Any, label: str) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        what = type(logits).__name__
        if isinstance(logits, Tensor):
            what = f"a tensor of shape {tuple(logits.shape)} for one image"
        raise InputError(
            f"{label} answers with {what}; expected logits (B, C): wrap a network whose forward "
            "gives the logits alone"
        )
    if not bool(torch.isfinite(logits).all()):
        raise InputError(
            f"{label} gives logits that are not finite for a random image; check its weights and "
            "precision"
        )


def _read(logits: Tensor, left: list[Tensor]) -> Tensor | None:
    """Which tokens of the last block have a gradient."""
    if len(left) != 1 or not logits.requires_grad or left[0].ndim != 3:
        return None
    weights = torch.arange(1.0, logits.shape[1] + 1).to(logits)
    try:
        (gradient,) = torch.autograd.grad((logits * weights).sum(), left, allow_unused=True)
    except RuntimeError:  # parts without a gradient: said when something is to be explained
        return None
    if gradient is None or not bool(gradient.any()):
        return None
    return gradient[0].abs().amax(-1).cpu() > 0
