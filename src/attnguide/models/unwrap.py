"""The vision transformer inside what trainers and compilers wrap around it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from attnguide.errors import InputError, InputTypeError
from attnguide.models.probe import answer, evaluating, noise

LOG = logging.getLogger(__name__)

_ADAPTERS = ("peft.", "adapters.", "loralib.")
_LIBRARIES = ("transformers.", "torchvision.")
_CLASSIFIERS = ("ForImageClassification", "VisionTransformer")


def unwrap(module: Any) -> nn.Module:
    """The vision transformer in a compiled, parallel, averaged or training wrapper, or itself.

    A wrapper is taken off where it answers as the network in it does, or has no answer of its own.

    Raises:
        TypeError: not a torch module, or one of TorchScript.
        ValueError: adapters that are not merged; a wrapper that does more than its network.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise InputTypeError(
            "a TorchScript module hides its layers; pass the network that it was made from"
        )
    if not isinstance(module, nn.Module):
        ready = "is ready to be explained" if hasattr(module, "num_prefix") else "has no layers"
        raise InputTypeError(
            f"expected a torch module, got {type(module).__name__}, which {ready}; a name of a "
            "network goes to load_model"
        )
    for part in module.modules():
        if type(part).__module__.startswith(_ADAPTERS) or hasattr(part, "lora_A"):
            raise InputError(
                f"{type(module).__name__} carries adapters beside its layers "
                f"({type(part).__module__}.{type(part).__name__}); merge them first: "
                "model = model.merge_and_unload()"
            )
    module = getattr(module, "_orig_mod", module)  # torch.compile
    if _is_transformer(module):
        return module
    inside = _inside(module)
    if not inside:
        return module  # whose parts are missing is said where they are looked for
    for name, network in inside.items():
        if _answers_alike(module, network):
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


def _answers_alike(wrapper: nn.Module, network: nn.Module) -> bool:
    """Whether the wrapper gives the network's logits, or has no forward pass of its own."""
    if _is_silent(wrapper):
        return True
    images = noise(network, _image_size(network), seed=3)
    try:
        with evaluating(wrapper), torch.no_grad():
            own, inner = answer(wrapper, images), answer(network, images)
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


def _is_silent(wrapper: nn.Module) -> bool:
    """Whether nobody wrote its forward pass: of Module, or Lightning's."""
    home = getattr(type(wrapper).forward, "__module__", "")
    return home.startswith(("torch.nn.modules.module", "pytorch_lightning", "lightning"))


def _image_size(network: Any) -> tuple[int, int]:
    size: Any = None
    for holder in (getattr(network, "patch_embed", None), getattr(network, "config", None)):
        size = getattr(holder, "img_size", None) or getattr(holder, "image_size", None)
        if size is not None:
            break
    else:
        size = getattr(network, "image_size", 224)
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
