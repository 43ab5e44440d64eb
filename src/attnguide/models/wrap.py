"""Make a `ViT` from the user's own network."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from timm.layers import to_2tuple
from torch import Tensor, nn

from attnguide.errors import InputError
from attnguide.models.checkpoint import state_digest
from attnguide.models.names import read_names
from attnguide.models.preprocess import BESIDE_WEIGHTS, Preprocess, as_preprocess, override
from attnguide.models.probe import Probe, probe, unwrap
from attnguide.types import ViT

LOG = logging.getLogger(__name__)


def wrap_model(
    module: Any,
    preprocess: Any = None,
    class_names: Any = None,
    *,
    name: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    weights_sha256: str = "",
) -> ViT:
    """The user's own network, ready to be explained.

    A timm-like network is kept (not copied) and put in evaluation mode; what a compiler, a trainer
    or an average wraps around it is taken off. Of another library's network a copy in timm's form
    is kept, after comparing their logits; it itself stays as it is, and later changes of its
    weights are not seen. Of a network with a single logit z a copy with the logits -z/2 and z/2 is
    kept, whose probability is the sigmoid of z.

    Args:
        module: A timm `VisionTransformer` or one with the same parts (`patch_embed`, `blocks`);
            HuggingFace's image classifiers of ViT, DeiT and DINOv2; torchvision's
            `VisionTransformer`.
        preprocess: A transform of torchvision or timm; HuggingFace's image processor; a function
            of one PIL image, or of a list, to pixels; or fields of `Preprocess` by name, which
            replace the default's. The default is that of timm's, or of the library's published
            weights (`attnguide.models.adapters`), from which fine-tuned ones may differ.
        class_names: One per class: a list, a dict by index, or a file (`read_names`); by default
            its own, ImageNet's of 1,000, or "class 0", ...
        name: What records call it.
        image_size: (height, width) in pixels that HuggingFace's network is to take.
        weights_sha256: Checksum of the weights file; that of the state dict by default.

    Raises:
        TypeError: not a network.
        ValueError: none of these; logits that are not reproduced; weights that are not finite;
            names or sizes that differ.
    """
    from timm.data import ImageNetInfo

    from attnguide.models.adapters import convert, read_form

    module = unwrap(module)
    label = name or type(module).__name__
    _check_weights(module, label)
    digest = weights_sha256 or state_digest(module)
    given = preprocess if isinstance(preprocess, Mapping) else as_preprocess(preprocess)
    names = None if class_names is None else read_names(class_names)
    form = read_form(module, given, image_size)
    if form is not None:
        module = convert(module, form)
    size, patch, prefix = _geometry(module, label)
    module.eval()
    shown = probe(module, size, label)
    _check_tokens(module, label, shown, size, patch, prefix)
    default = _own_preprocess(module, size) if form is None else form.preprocess
    steps = override(default, given)
    _check_size(label, size, image_size, steps)
    count = shown.logits.shape[1]
    if names is None and form is not None and len(form.class_names or ()) == count:
        names = form.class_names
    if count == 1:
        module, count = _two_logits(module, label), 2
        names = (f"not {names[0]}", *names) if names is not None and len(names) == 1 else names
    return ViT(
        module=module,
        preprocess=steps,
        class_names=_class_names(module, names, count, label),
        name=label,
        patch_size=patch,
        image_size=size,
        num_prefix=prefix,
        readout=_readout(module, prefix, shown.read, patch, size),
        wnids=tuple(ImageNetInfo().label_names()) if names is None and count == 1000 else (),
        weights_sha256=digest,
        multi_label=form is not None and form.multi_label,
    )


def _check_weights(module: nn.Module, label: str) -> None:
    homes = {type(part).__module__ for part in module.modules()}
    is_whole = (not weight.is_floating_point() for weight in module.parameters())
    if any(is_whole) or any(h.startswith(("torch.ao.nn", "bitsandbytes")) for h in homes):
        raise InputError(
            f"{label} has layers of whole numbers, through which no gradient flows; pass the "
            "network as it was before it was quantised"
        )
    kinds = {weight.dtype for weight in module.parameters()} & {torch.float16, torch.bfloat16}
    if kinds:
        told = "%s is kept in %s, whose maps are coarse (LRP's most); else pass it .float()"
        LOG.warning(told, label, *kinds)
    for key, weight in module.named_parameters():
        if weight.is_meta:
            raise InputError(f"weight {key} of {label} is not in memory; load its weights first")
        if not bool(torch.isfinite(weight.detach()).all()):
            raise InputError(
                f"weight {key} of {label} holds NaN or infinite values; take a checkpoint from "
                "before its training diverged"
            )


def check_form(module: Any, label: str) -> None:
    """Refuse a network that has not the parts of timm's vision transformers.

    Raises:
        ValueError: what it lacks.
    """
    missing = [part for part in ("patch_embed", "blocks") if not hasattr(module, part)]
    if not missing and not hasattr(module.patch_embed, "patch_size"):
        missing = ["patch_embed.patch_size"]
    if missing:
        raise InputError(
            f"{label} ({type(module).__name__}) is not a vision transformer of timm's form: it has "
            f"no {', '.join(missing)}; pass one, or a classifier of HuggingFace or torchvision as "
            "it is (Swin and ConvNeXt have no token-to-token attention over the whole image)"
        )


def _geometry(module: Any, label: str) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Image size and patch size in pixels, as (height, width), and the number of prefix tokens."""
    check_form(module, label)
    embed = module.patch_embed
    size = to_2tuple(getattr(embed, "img_size", None) or (224, 224))
    own = to_2tuple(embed.patch_size)
    if getattr(embed, "dynamic_img_pad", False) and (size[0] % own[0] or size[1] % own[1]):
        raise InputError(
            f"{label} pads its images of {size} to a multiple of its patch size {own}, so that its "
            "patches reach beyond the picture; give it an image size that is a multiple"
        )
    rows, cols = getattr(embed, "grid_size", None) or (size[0] // own[0], size[1] // own[1])
    if (size[0] // own[0], size[1] // own[1]) != (rows, cols):  # a convolutional stem before it
        own = size[0] // rows, size[1] // cols
    return size, own, _num_prefix(module)


def _check_size(
    label: str,
    size: tuple[int, int],
    image_size: int | tuple[int, int] | None,
    preprocess: Any,
) -> None:
    """Refuse images of another size than the network takes; a function is asked for two shapes."""
    if image_size is not None and to_2tuple(image_size) != size:
        raise InputError(
            f"{label} takes images of {size}, asked for {image_size}; call "
            "module.set_input_size(img_size=...) first"
        )
    if isinstance(preprocess, Preprocess):
        made = [tuple(preprocess.size)]
    else:
        shapes = [(331, 290), (290, 331)]
        made = [tuple(preprocess([Image.new("RGB", shape)]).shape[-2:]) for shape in shapes]
    for other in made:
        if other != size:
            raise InputError(
                f"{label} takes images of {size}, the preprocessing makes {other}; pass another "
                "preprocess (a resize is followed by a crop), or image_size to a HuggingFace "
                "network"
            )


def _num_prefix(module: Any) -> int:
    declared = getattr(module, "num_prefix_tokens", None)
    if declared is not None:
        return int(declared)
    named = ("cls_token", "dist_token")
    registers = getattr(module, "num_register_tokens", None) or 0  # DINOv2's own class
    return sum(getattr(module, key, None) is not None for key in named) + int(registers)


def _check_tokens(
    module: Any,
    label: str,
    shown: Probe,
    size: tuple[int, int],
    patch: tuple[int, int],
    prefix: int,
) -> None:
    """Refuse other tokens than the grid has, and networks that give features."""
    rows, cols = size[0] // patch[0], size[1] // patch[1]
    expected = prefix + rows * cols
    if len(shown.tokens) != 2 or shown.tokens[0] != expected:
        raise InputError(
            f"{label} gives its first block {shown.tokens} for {size} pixels, expected "
            f"({expected}, D): {rows} x {cols} patches and {prefix} prefix tokens (patch_embed"
            f".grid_size, num_prefix_tokens); prompt tokens and windows are not understood"
        )
    head, width = getattr(module, "head", None), shown.logits.shape[1]
    if width == 0 or (isinstance(head, nn.Identity) and width == shown.tokens[1]):
        raise InputError(
            f"{label} has no classifier (its head is Identity, it returns features); give it "
            "one and train it, or load weights that hold one"
        )


def _two_logits(module: Any, label: str) -> nn.Module:
    """A copy that shares all but its head: -z/2 and z/2 for the one logit z."""
    whole: Any = getattr(module, "head", None)
    last = whole[-1] if isinstance(whole, nn.Sequential) else whole
    if not isinstance(last, nn.Linear) or last.out_features != 1:
        raise InputError(
            f"{label} has one logit, and its `head` does not end in a linear layer; give it two "
            "logits, -z/2 and z/2, whose softmax is the sigmoid of z"
        )
    weight, bias = last.weight.detach(), last.bias
    twice = nn.Linear(last.in_features, 2, bias=bias is not None).to(weight)
    twice.weight.data = torch.cat([-weight / 2, weight / 2])
    if bias is not None:
        twice.bias.data = torch.cat([-bias.detach() / 2, bias.detach() / 2])
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    twin.head = twice if last is whole else nn.Sequential(*list(whole)[:-1], twice)
    twin.num_classes = 2
    LOG.warning(
        "%s has one logit z: explained are two, -z/2 and z/2, so that class 1 has probability "
        "sigmoid(z)",
        label,
    )
    return twin.eval()


def _own_preprocess(module: nn.Module, size: tuple[int, int]) -> Preprocess:
    from timm.data import resolve_data_config

    config = resolve_data_config({}, model=module)
    return Preprocess(size, **{field: config[field] for field in BESIDE_WEIGHTS})


def _class_names(
    module: Any, given: tuple[str, ...] | None, count: int, label: str
) -> tuple[str, ...]:
    """Names as given, as stored with the weights, ImageNet's, or numbered ones."""
    if given is not None:
        if len(given) != count:
            raise InputError(f"{label} has {count} classes, got {len(given)} class names")
        return given
    if count == 1000:
        from timm.data import ImageNetInfo

        level = logging.INFO if getattr(module, "pretrained_cfg", None) else logging.WARNING
        LOG.log(level, "%s: its 1,000 classes are called as ImageNet's; else pass names", label)
        info = ImageNetInfo()
        return tuple(info.index_to_description(index) for index in range(1000))
    stored = (getattr(module, "pretrained_cfg", None) or {}).get("label_names")
    if stored is not None and len(stored) == count:
        return tuple(map(str, stored))
    return tuple(f"class {index}" for index in range(count))


def _readout(
    module: Any,
    prefix: int,
    read: Tensor | None,
    patch: tuple[int, int],
    size: tuple[int, int],
) -> Tensor | None:
    """(N,) share of each token in what the head reads; None where it is not linear in them."""
    tokens = prefix + (size[0] // patch[0]) * (size[1] // patch[1])
    row = _declared_readout(module, prefix, torch.zeros(tokens))
    if row is None or read is None or torch.equal(row > 0, read):
        return row
    return None  # the forward pass pools otherwise than the attributes say


def _declared_readout(module: Any, prefix: int, row: Tensor) -> Tensor | None:
    if getattr(module, "head_dist", None) is not None:  # DeiT: mean of class and distillation head
        row[:2] = 0.5
        return row
    pool = getattr(module, "global_pool", "token" if prefix else "avg")
    if isinstance(pool, bool):  # MAE, RETFound
        pool = "avg" if pool else "token"
    if getattr(module, "attn_pool", None) is not None:
        return None
    if pool == "token":
        row[0] = 1
        return row
    if pool == "class_and_mean":  # DINOv2: see attnguide.models.adapters.network.ClassAndMean
        row[0], row[prefix:] = 0.5, 0.5 / (len(row) - prefix)
        return row
    if pool == "avg":
        first = 0 if getattr(module, "pool_include_prefix", False) else prefix
        row[first:] = 1 / (len(row) - first)
        return row
    return None
