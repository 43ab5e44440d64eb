"""What a network does, seen in one forward pass: which network, tokens, logits, read by the head.

Attributes of a network may say otherwise (a head replaced by hand, tokens inserted in a subclass);
what it does is believed.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from attnguide.errors import InputError, InputTypeError
from attnguide.types import logits_of

LOG = logging.getLogger(__name__)

_LIBRARIES = ("transformers.", "torchvision.")
_FEATURES = re.compile(r"(ViT|DeiT|Dinov2(WithRegisters)?)Model")
_CLASSIFIERS = ("ForImageClassification", "VisionTransformer", "WithTeacher")


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
        ValueError: it does not run, takes no RGB images, or does not return finite logits.
    """
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    embedding = set(module.patch_embed.modules())
    if first is not None and first in embedding and first.in_channels != 3:
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
            logits = _logits(module, noise(module, size))
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


def _check(logits: Any, label: str) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        what = type(logits).__name__
        if isinstance(logits, Tensor):
            what = f"a tensor of shape {tuple(logits.shape)} for one image"
        raise InputError(
            f"{label} returned {what}; expected logits (B, C): wrap a network whose forward "
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


def noise(module: nn.Module, size: tuple[int, int], seed: int = 0) -> Tensor:
    """(1, 3, H, W) random pixels where the weights are, of their precision."""
    weights = [p for p in module.parameters() if p.is_floating_point()]
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    return images.to(weights[0]) if weights else images


def _logits(module: Any, images: Tensor) -> Any:
    """The network's logits, without compiling it for this."""
    compiled = "torch._dynamo" in sys.modules
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        return logits_of(module(images))


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


def unwrap(module: Any) -> nn.Module:
    """The vision transformer in a compiled, parallel, averaged or training wrapper, or itself.

    A wrapper is taken off where it returns what the network in it does, or has no forward pass.

    Raises:
        TypeError: not a torch module.
        ValueError: a wrapper that does more than its network.
    """
    if not isinstance(module, nn.Module):
        ready = "is ready to be explained" if hasattr(module, "num_prefix") else "has no layers"
        raise InputTypeError(
            f"expected a torch module, got {type(module).__name__}, which {ready}; a name or a "
            "folder goes to load_model"
        )
    module = getattr(module, "_orig_mod", module)  # torch.compile
    if _is_transformer(module):
        return module
    inside = _inside(module)
    if not inside:
        _check_classifier(module)
        return module  # whose parts are missing is said where they are looked for
    for name, network in inside.items():
        if _gives_the_same(module, network):
            LOG.info("%s: its network %r is explained", type(module).__name__, name)
            return network
    name, network = next(iter(inside.items()))
    if isinstance(getattr(network, "head", None), nn.Identity):
        raise InputError(
            f"{type(module).__name__} keeps its classifier outside of its vision transformer "
            f"({name}, whose head is Identity); put it there and pass that network: "
            f"wrapper.{name}.head = wrapper.CLASSIFIER; wrap_model(wrapper.{name})"
        )
    raise InputError(
        f"{type(module).__name__} does more than the network in it ({', '.join(inside)}); pass "
        f"that network (wrapper.{name}), and what is done to the pictures before it "
        "as preprocess, e.g. a normalisation as preprocess={'mean': [...], 'std': [...]}"
    )


def _check_classifier(module: nn.Module) -> None:
    """Refuse a class of the user's own around the features of HuggingFace's transformer."""
    for name, part in module.named_modules():
        kind = type(part).__name__
        if name and type(part).__module__.startswith(_LIBRARIES) and _FEATURES.fullmatch(kind):
            whole = f"{kind.removesuffix('Model')}ForImageClassification"
            raise InputError(
                f"{type(module).__name__} keeps its classifier beside HuggingFace's {kind} "
                f"({name}); put it into {whole}, under the names of that class: network = "
                f"{whole}(wrapper.{name}.config), load_state_dict, wrap_model(network)"
            )


def _inside(module: nn.Module) -> dict[str, nn.Module]:
    """The outermost vision transformers in a wrapper, averaged ones first."""
    found: dict[str, nn.Module] = {}
    for name, part in module.named_modules():
        part = getattr(part, "_orig_mod", part)
        beneath = any(name.startswith(f"{above}.") for above in found)
        if name and not beneath and _is_transformer(part):
            found[name] = part
    return dict(sorted(found.items(), key=lambda item: "ema" not in item[0].lower()))


def _is_transformer(module: nn.Module) -> bool:
    """Whether it has timm's parts, or is a classifier of a library that is converted."""
    if hasattr(module, "patch_embed") and hasattr(module, "blocks"):
        return True
    return any(
        kind.__module__.startswith(_LIBRARIES) and kind.__name__.endswith(_CLASSIFIERS)
        for kind in type(module).__mro__
        if not kind.__name__.startswith("TimmWrapper")
    )


def _gives_the_same(wrapper: nn.Module, network: nn.Module) -> bool:
    """Whether the wrapper gives the network's logits, or has no forward pass of its own."""
    home = getattr(type(wrapper).forward, "__module__", "")
    if home.startswith(("torch.nn.modules.module", "pytorch_lightning", "lightning")):
        return True
    images = noise(network, _image_size(network), seed=3)
    try:
        with evaluating(wrapper), torch.no_grad():
            own, inner = _logits(wrapper, images), _logits(network, images)
    except NotImplementedError:
        return True
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{type(wrapper).__name__} does not run on images {tuple(images.shape)} "
            f"({type(error).__name__}: {str(error)[:150]}); pass the network in it"
        ) from error
    if not isinstance(own, Tensor) or not isinstance(inner, Tensor) or own.shape != inner.shape:
        return False
    return torch.allclose(own, inner, rtol=1e-4, atol=1e-5 * float(inner.abs().max()))


def _image_size(network: Any) -> tuple[int, int]:
    holders = (getattr(network, "patch_embed", None), getattr(network, "config", None), network)
    sizes = (getattr(part, name, None) for part in holders for name in ("img_size", "image_size"))
    size: tuple[int, int] = to_2tuple(next((size for size in sizes if size is not None), 224))
    return size
