"""Make a `ViT` from a name, a file, or the user's own network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnguide.errors import InputError, InputTypeError, unknown_name
from attnguide.models.checkpoint import read_weights, sha256
from attnguide.models.preprocess import Preprocess
from attnguide.types import ViT

EMBEDDED = ("creatures", "creatures_contaminated")


def load_model(
    name: str, checkpoint: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> ViT:
    """A vision transformer by name, in evaluation mode, with its preprocessing.

    Args:
        name: "creatures" (embedded, offline), "creatures_contaminated", or any timm
            `VisionTransformer`.
        checkpoint: Local weights with timm's names: `.safetensors`, or a PyTorch file that holds
            tensors only. Without it, timm fetches the pretrained weights from the hub.
        device: Where to put it.

    Raises:
        ValueError: unknown name; weights that do not fit.
        FileNotFoundError: no such checkpoint.
        ConnectionError: pretrained weights asked for, hub out of reach.
    """
    if name in EMBEDDED:
        if checkpoint is not None:
            raise InputError(
                f"{name} brings its own weights; pass a timm model name with {checkpoint}"
            )
        return _load_embedded(name, device)
    module = _create(name, checkpoint)
    digest = ""
    if checkpoint is not None:
        digest = sha256(checkpoint)
    return wrap_model(module.to(device), name=name, weights_sha256=digest)


def check_model(name: str, checkpoint: str | Path | None = None) -> None:
    """Refuse an unknown name or a missing file without loading anything.

    Raises:
        ValueError, FileNotFoundError: as in `load_model`.
    """
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f"checkpoint {str(checkpoint)!r} is not a file; pass the path of a .safetensors file "
            "with timm's weight names"
        )
    if name in EMBEDDED:
        return
    import timm

    if not timm.is_model(name):
        known = [*EMBEDDED, *timm.list_models("*vit*"), *timm.list_models("deit*")]
        raise unknown_name("model", name, known)


def wrap_model(
    module: Any,
    preprocess: Any = None,
    class_names: Sequence[str] | None = None,
    *,
    name: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    weights_sha256: str = "",
) -> ViT:
    """The user's own network, ready to be explained.

    A timm-like network is kept (not copied) and put in evaluation mode. Of another library's
    network a copy in timm's form is kept, after comparing their logits; it itself stays as it is,
    and later changes of its weights are not seen.

    Args:
        module: A timm `VisionTransformer` or one with the same parts (`patch_embed`, `blocks`,
            `num_prefix_tokens`); HuggingFace's image classifiers of ViT, DeiT and DINOv2;
            torchvision's `VisionTransformer`.
        preprocess: PIL images to (B, 3, H, W), HuggingFace's image processor or torchvision's
            preset; by default that of timm's, or of the library's published weights
            (`attnguide.models.adapters`), from which fine-tuned ones may differ.
        class_names: One per class; by default its own, ImageNet's of 1,000, or "class 0", ...
        name: What records call it.
        image_size: (height, width) in pixels that HuggingFace's network is to take.
        weights_sha256: Checksum for the records.

    Raises:
        TypeError: not a network.
        ValueError: none of these; logits that are not reproduced; names or sizes that differ.
    """
    from attnguide.models.adapters import adapt, as_preprocess, check_size

    if not isinstance(module, nn.Module):
        raise InputTypeError(f"expected a torch module, got {type(module).__name__}")
    label = name or type(module).__name__
    preprocess = as_preprocess(preprocess)
    converted = adapt(module, preprocess, image_size)
    if converted is not None:
        module, preprocess = converted.module, preprocess or converted.preprocess
        class_names = converted.class_names if class_names is None else class_names
    net: Any = module
    embed: Any = getattr(module, "patch_embed", None)
    missing = [
        part for part in ("patch_embed", "blocks", "num_prefix_tokens") if not hasattr(module, part)
    ]
    if missing or not hasattr(embed, "patch_size"):
        raise InputError(
            f"{label} ({type(module).__name__}) is not a vision transformer of timm's form: it has "
            f"no {', '.join(missing) or 'patch_embed.patch_size'}; windowed and convolutional "
            "networks (Swin, ConvNeXt) have no token-to-token attention over the whole image"
        )
    size = _pair(getattr(embed, "img_size", None) or (224, 224))
    check_size(label, size, image_size, preprocess)
    patch = _pair(embed.patch_size)
    tokens = net.num_prefix_tokens + (size[0] // patch[0]) * (size[1] // patch[1])
    module.eval()
    names, wnids = _names(module, class_names, label)
    return ViT(
        module=module,
        preprocess=preprocess or _own_preprocess(module, size),
        class_names=names,
        name=label,
        patch_size=patch,
        image_size=size,
        num_prefix=net.num_prefix_tokens,
        readout=_readout(net, tokens),
        wnids=wnids,
        weights_sha256=weights_sha256,
    )


def _create(name: str, checkpoint: str | Path | None) -> nn.Module:
    import timm

    check_model(name, checkpoint)
    if checkpoint is None:
        return _pretrained(name)
    weights = read_weights(checkpoint)
    head = weights.get("head.weight")
    extra = {} if head is None else {"num_classes": len(head)}
    module: nn.Module = timm.create_model(name, pretrained=False, **extra)
    own = module.state_dict()
    wrong = [
        f"{key}: model {tuple(own[key].shape)}, file {tuple(weights[key].shape)}"
        for key in own.keys() & weights.keys()
        if own[key].shape != weights[key].shape
    ]
    absent, surplus = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if wrong or absent or surplus:
        told = [
            f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in (
                ("of another shape", wrong),
                ("missing", absent),
                ("not in the model", surplus),
            )
            if keys
        ]
        raise InputError(
            f"weights {Path(checkpoint).name!r} do not fit {name}: {'; '.join(told)}; "
            "pass the model.name that these weights were made for"
        )
    module.load_state_dict(weights)
    return module


def _pretrained(name: str) -> nn.Module:
    import timm

    try:
        module: nn.Module = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"cannot fetch the pretrained weights of {name} from the hub "
            f"({type(error).__name__}); without network, download the model's .safetensors file "
            "elsewhere and pass its path as checkpoint (model.checkpoint=FILE on the command line)"
        ) from error
    return module


def _load_embedded(name: str, device: str | torch.device) -> ViT:
    from safetensors import safe_open
    from timm.models.vision_transformer import VisionTransformer

    path = resources.files("attnguide") / "assets" / f"{name}.safetensors"
    with resources.as_file(path) as file:
        with safe_open(file, framework="pt") as opened:
            meta = json.loads(opened.metadata()["attnguide"])
            weights = {key: opened.get_tensor(key).float() for key in opened.keys()}  # noqa: SIM118
        digest = sha256(file)
    module = VisionTransformer(**meta["arch"])
    module.load_state_dict(weights)
    size = _pair(meta["image_size"])
    return wrap_model(
        module.to(device),
        Preprocess(size, tuple(meta["mean"]), tuple(meta["std"])),
        meta["class_names"],
        name=name,
        weights_sha256=digest,
    )


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)


def _own_preprocess(module: nn.Module, size: tuple[int, int]) -> Preprocess:
    from timm.data import resolve_data_config

    config = resolve_data_config({}, model=module)
    return Preprocess(
        size,
        tuple(config["mean"]),
        tuple(config["std"]),
        config["crop_pct"],
        config["interpolation"],
        config["crop_mode"],
    )


def _names(
    module: Any, given: Sequence[str] | None, label: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names, and wnids for ImageNet's 1,000 classes."""
    head = getattr(module, "head", None)
    count: int = getattr(module, "num_classes", 0) or getattr(head, "out_features", 0)
    if given is not None:
        if count and len(given) != count:
            raise InputError(f"{label} has {count} classes, got {len(given)} class names")
        return tuple(given), ()
    if count != 1000:
        return tuple(f"class {index}" for index in range(count)), ()
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return tuple(info.index_to_description(i) for i in range(1000)), tuple(info.label_names())


def _readout(module: Any, tokens: int) -> Tensor | None:
    """(N,) share of each token in what the head reads; None where it is not linear in them."""
    prefix = module.num_prefix_tokens
    row = torch.zeros(tokens)
    if getattr(module, "head_dist", None) is not None:  # DeiT: mean of class and distillation head
        row[:2] = 0.5
        return row
    pool = getattr(module, "global_pool", "token" if prefix else "avg")
    if getattr(module, "attn_pool", None) is not None:
        return None
    if pool == "token":
        row[0] = 1
        return row
    if pool == "class_and_mean":  # DINOv2: see attnguide.models.adapters.network.ClassAndMean
        row[0], row[prefix:] = 0.5, 0.5 / (tokens - prefix)
        return row
    if pool == "avg":
        first = 0 if getattr(module, "pool_include_prefix", False) else prefix
        row[first:] = 1 / (tokens - first)
        return row
    return None
