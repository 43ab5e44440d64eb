"""Make a `ViT` from a name, with weights from a file or from the hub."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attnguide.errors import InputError, unknown_name
from attnguide.models.checkpoint import (
    fetching,
    find_weights,
    load_weights,
    read_settings,
    read_weights,
    sha256,
)
from attnguide.models.names import names_inside, read_names
from attnguide.models.preprocess import BESIDE_WEIGHTS, Preprocess, check_fields, override
from attnguide.models.wrap import check_form, wrap_model
from attnguide.types import ViT

LOG = logging.getLogger(__name__)
EMBEDDED = ("creatures", "creatures_contaminated", "creatures_contaminated60", "creatures_masked")
EXPLAINED = ("vision_transformer", "deit")  # timm's files whose every network can be explained


def load_model(
    name: str | Path,
    checkpoint: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    class_names: Any = None,
    preprocess: Any = None,
    label: str | None = None,
) -> ViT:
    """A vision transformer by name, in evaluation mode, with its preprocessing.

    Args:
        name: "creatures" or another of `EMBEDDED` (offline), or any timm `VisionTransformer`,
            also as `timm/NAME`, `hf-hub:OWNER/NAME` or `local-dir:FOLDER`; or a classifier of
            HuggingFace's transformers: a folder that `save_pretrained` wrote, or OWNER/NAME.
        checkpoint: Local weights with timm's names, as trainers write them: a file, or a folder
            with one. Class names, normalisation, crop and pooling that stand beside the weights
            are taken. Without it, timm fetches the pretrained weights from the hub.
        device: Where to put it.
        class_names, preprocess: As in `wrap_model`.
        label: What records call it; its name by default.

    Raises:
        ValueError: unknown name; weights that do not fit.
        FileNotFoundError: no such checkpoint.
        ConnectionError: pretrained weights asked for, hub out of reach.
    """
    name = str(name)
    if Path(name).is_file():
        raise InputError(
            f"{name!r} is a file of weights; pass load_model(NAME, checkpoint={name!r}) with the "
            "name of its network"
        )
    if checkpoint is None and _is_huggingface(name):
        from attnguide.models.sources import HuggingFace

        source = HuggingFace(name, class_names=class_names, preprocess=preprocess, label=label)
        source.check()
        return next(source.load(device))
    check_model(name, checkpoint)
    import timm

    known, digest = name.removeprefix("timm/"), ""
    if name in EMBEDDED:
        module, own, names, digest = _embedded(name)
        preprocess = override(own, preprocess)
        class_names = names if class_names is None else class_names
    elif checkpoint is None:
        with nullcontext() if known.startswith("local-dir:") else fetching(known):
            module = timm.create_model(known, pretrained=True)
    else:
        weights, stored = read_weights(checkpoint), read_settings(checkpoint)
        module, digest = _create(known, weights, checkpoint, stored.get("gp")), sha256(checkpoint)
        preprocess = _stored_steps(stored, preprocess, checkpoint)
        class_names = class_names or _stored_names(stored, module.num_classes, checkpoint)
    return wrap_model(
        module.to(device), preprocess, class_names, name=label or known, weights_sha256=digest
    )


def _is_huggingface(name: str) -> bool:
    """Whether this is a folder, or OWNER/NAME, that timm does not know under this name."""
    return ":" not in name and (Path(name).is_dir() or "/" in name.removeprefix("timm/"))


def check_model(name: str, checkpoint: str | Path | None = None) -> None:
    """Refuse an unknown name or a missing file without loading anything.

    Raises:
        ValueError, FileNotFoundError: as in `load_model`.
    """
    if checkpoint is not None:
        if name in EMBEDDED:
            raise InputError(
                f"{name} brings its own weights; pass a timm model name with {checkpoint}"
            )
        find_weights(checkpoint)
    if name in EMBEDDED or name.startswith("hf-hub:"):
        return
    if name.startswith("local-dir:"):
        if not (Path(name.removeprefix("local-dir:")) / "config.json").is_file():
            raise InputError(f"{name!r} names no folder with a config.json of timm")
        return
    import timm

    known = name.removeprefix("timm/")
    if not timm.is_model(known):
        names = [n for module in EXPLAINED for n in timm.list_models(module=module)]
        raise unknown_name("model or folder", name, [*EMBEDDED, *names])
    with torch.device("meta"):
        check_form(timm.create_model(known), name)


def _create(name: str, weights: Mapping[str, Any], checkpoint: str | Path, pooling: Any) -> Any:
    """A network of timm with the weights of a file, pooled as its trainer said."""
    import timm

    layers = {key.split(".")[1] for key in weights if re.match(r"head\.\d+\.", key)}
    if len(layers) == 1:  # a Sequential of dropout and one layer
        begin = f"head.{layers.pop()}."
        weights = {key.replace(begin, "head."): weight for key, weight in weights.items()}
    head = weights.get("head.weight")
    extra: dict[str, Any] = {} if head is None else {"num_classes": len(head)}
    if "fc_norm.weight" in weights and "norm.weight" not in weights:  # as MAE fine-tunes
        extra["global_pool"] = "avg"
    elif pooling:
        LOG.info("%s: its pooling %r is taken", Path(checkpoint).name, pooling)
        extra |= {"global_pool": pooling, "fc_norm": "fc_norm.weight" in weights}
    with fetching(name) if name.startswith("hf-hub:") else nullcontext():
        module: nn.Module = timm.create_model(name, pretrained=False, **extra)
    load_weights(module, weights, checkpoint, name)
    return module


def _stored_steps(stored: Mapping[str, Any], given: Any, checkpoint: str | Path) -> Any:
    """Normalisation and crop that a trainer wrote beside its weights, under those that are given.

    Unknown values are left out: "random" is a filter of training.
    """
    if given is not None and not isinstance(given, Mapping):
        return given
    steps = {}
    for field in BESIDE_WEIGHTS:
        if stored.get(field):
            with suppress(InputError):
                check_fields({field: stored[field]})
                steps[field] = stored[field]
    if steps:
        told = ", ".join(f"{field} {value}" for field, value in steps.items())
        LOG.info("%s: its preprocessing is taken: %s", Path(checkpoint).name, told)
    return {**steps, **(given or {})} or None


def _stored_names(stored: Mapping[str, Any], count: int, checkpoint: str | Path) -> Any:
    """Class names that a trainer wrote beside its weights; None where they are not `count`."""
    with suppress(InputError):
        names = read_names(names_inside(stored))
        if len(names) == count:
            LOG.info("%s: its class names are taken: %s, ...", Path(checkpoint).name, names[0])
            return names
    return None


def _embedded(name: str) -> tuple[nn.Module, Preprocess, list[str], str]:
    """An embedded network, its preprocessing, class names and checksum."""
    from safetensors import safe_open
    from timm.layers import to_2tuple
    from timm.models.vision_transformer import VisionTransformer

    path = resources.files("attnguide") / "assets" / f"{name}.safetensors"
    with resources.as_file(path) as file:
        with safe_open(file, framework="pt") as opened:
            meta = json.loads(opened.metadata()["attnguide"])
            weights = {key: opened.get_tensor(key).float() for key in opened.keys()}  # noqa: SIM118
        digest = sha256(file)
    module = VisionTransformer(**meta["arch"])
    module.load_state_dict(weights)
    size = to_2tuple(meta["image_size"])
    own = Preprocess(size, tuple(meta["mean"]), tuple(meta["std"]))
    return module, own, meta["class_names"], digest
