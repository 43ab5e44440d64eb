"""Image classifiers of HuggingFace's transformers, from version 4.50 on: ViT, DeiT, DINOv2.

The first versions of DINOv2 with registers (4.50 is one) count the registers among the patches
whose mean the head reads. They are refused, for their logits are not those of the converted form.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, ImageNetInfo
from timm.layers import to_2tuple
from timm.layers.activations import QuickGELU
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from attnguide.models.adapters.network import ClassAndMean, Form, has_ancestor, refused, renamed
from attnguide.models.names import read_names
from attnguide.models.preprocess import Preprocess

LOG = logging.getLogger(__name__)
_GELU_TANH = partial(nn.GELU, approximate="tanh")
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_python": nn.GELU,
    "gelu_fast": _GELU_TANH,
    "gelu_new": _GELU_TANH,
    "gelu_python_tanh": _GELU_TANH,
    "gelu_pytorch_tanh": _GELU_TANH,
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}
_STEM = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}
_BLOCK = r"(?:encoder\.)?layers?\.(\d+)\."
_PARTS = {  # transformers 4 and 5 name some parts differently
    "attention.attention.query": "attn.q",
    "attention.attention.key": "attn.k",
    "attention.attention.value": "attn.v",
    "attention.output.dense": "attn.proj",
    "attention.q_proj": "attn.q",
    "attention.k_proj": "attn.k",
    "attention.v_proj": "attn.v",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.fc2",
}
_JOINED = {"attn.qkv": ("attn.q", "attn.k", "attn.v"), "mlp.fc1": ("mlp.gate", "mlp.up")}


@dataclass(frozen=True)
class _Family:
    """What the classes of one architecture have in common.

    Attributes:
        preprocess: Of the published checkpoints; the size is filled in.
        heads: Names of the classifiers.
        kind: timm's form.
        resizes: Whether it interpolates its position embedding by itself.
    """

    preprocess: Preprocess
    heads: tuple[str, ...] = ("classifier",)
    kind: type[nn.Module] = VisionTransformer
    resizes: bool = False


_IMAGENET = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
_VIT = _Family(Preprocess((0, 0), interpolation="bilinear", crop_mode="squash"))
_DEIT = _Family(Preprocess((0, 0), *_IMAGENET, crop_pct=0.875, crop_mode="squash"))
_DINOV2 = _Family(Preprocess((0, 0), *_IMAGENET, crop_pct=0.875), kind=ClassAndMean, resizes=True)
_TEACHER = replace(
    _DEIT,
    heads=("cls_classifier", "distillation_classifier"),
    kind=VisionTransformerDistilled,
)
FAMILIES = {
    "ViTForImageClassification": _VIT,
    "DeiTForImageClassification": _DEIT,
    "DeiTForImageClassificationWithTeacher": _TEACHER,
    "Dinov2ForImageClassification": _DINOV2,
    "Dinov2WithRegistersForImageClassification": _DINOV2,
}


def read(
    module: Any, image_size: int | tuple[int, int] | None, given: tuple[int, int] | None
) -> Form | None:
    """The form of a HuggingFace network; None for a network of another library.

    Args:
        module: The network.
        image_size: (height, width) in pixels asked for; the configured one by default, and for
            DINOv2, which takes any, that of the preprocessing.
        given: Size of the user's preprocessing.

    Raises:
        ValueError: another HuggingFace network, or a part that has no counterpart.
    """
    kinds = has_ancestor(module, "transformers")
    if not kinds:
        return None
    name = next((kind for kind in kinds if kind in FAMILIES), "")
    if not name:
        raise refused(
            module,
            f"of HuggingFace's networks, {', '.join(FAMILIES)} are supported. Windowed and "
            "convolutional ones (Swin, ConvNeXt) have no token-to-token attention over the whole "
            "image; of a TimmWrapper pass its .timm_model",
        )
    family, config = FAMILIES[name], module.config
    own = to_2tuple(config.image_size)
    wanted = image_size or (given if family.resizes and given else own)
    size, patch = tuple(to_2tuple(wanted)), tuple(to_2tuple(config.patch_size))
    _check(module, config, size, patch)
    multi_label = config.problem_type == "multi_label_classification" and config.num_labels > 1
    if multi_label:
        LOG.warning("%s: the probability of a class is the sigmoid of its logit", name)
    resized = size != own and not family.resizes
    return Form(
        weights=_weights(module, family, size, patch, resized or family.resizes),
        heads=tuple(getattr(module, head) for head in family.heads),
        num_heads=config.num_attention_heads,
        image_size=size,
        patch_size=patch,
        eps=config.layer_norm_eps,
        activation=_activation(module, config),
        kind=family.kind,
        answer=partial(_logits, interpolate_pos_encoding=True) if resized else _logits,
        preprocess=replace(family.preprocess, size=size),
        class_names=_class_names(config),
        multi_label=multi_label,
    )


def _check(module: Any, config: Any, size: tuple[int, ...], patch: tuple[int, ...]) -> None:
    if config.num_channels != 3:
        raise refused(module, f"it takes {config.num_channels} channels, expected 3 (RGB)")
    if config.num_labels < 1:
        raise refused(module, "it has no classifier (num_labels is 0); give it one")
    if config.problem_type == "regression":
        raise refused(module, "it gives a score and no classes (problem_type is regression)")
    if any(length % step for length, step in zip(size, patch, strict=True)):
        raise refused(module, f"image_size {size} is no multiple of its patch size {patch}")


def _activation(module: Any, config: Any) -> Callable[[], nn.Module]:
    if getattr(config, "use_swiglu_ffn", False):
        return nn.SiLU
    if config.hidden_act not in _ACTIVATIONS:
        raise refused(
            module,
            f"its activation {config.hidden_act!r} has no counterpart; known are "
            f"{', '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[config.hidden_act]


def _weights(
    module: Any, family: _Family, size: tuple[int, ...], patch: tuple[int, ...], interpolate: bool
) -> dict[str, Tensor]:
    base = getattr(module, module.base_model_prefix)
    unused = ("embeddings.mask_token", "embeddings.position_embeddings")
    state = {key: tensor for key, tensor in base.state_dict().items() if key not in unused}
    weights = _joined(renamed(state, _STEM, _BLOCK, _PARTS))
    position = base.embeddings.position_embeddings.detach()
    if interpolate:
        prefix = 2 if "dist_token" in weights else 1
        tokens = prefix + (size[0] // patch[0]) * (size[1] // patch[1])
        position = _interpolated(module, base.embeddings, tokens, size)
    if "reg_token" in weights:  # registers have no position
        weights["cls_token"] = weights["cls_token"] + position[:, :1]
        position = position[:, 1:]
    elif "dist_token" in weights and len(family.heads) == 1:  # nobody reads it: one more register
        weights["reg_token"] = weights.pop("dist_token")
    return weights | {"pos_embed": position}


def _joined(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value as one layer, as timm has them; gate and input of SwiGLU likewise."""
    result = dict(weights)
    for whole, parts in _JOINED.items():
        for key in weights:
            first = re.fullmatch(rf"(blocks\.\d+)\.{re.escape(parts[0])}\.(\w+)", key)
            names = [f"{first[1]}.{part}.{first[2]}" for part in parts] if first else []
            if first and result.keys() >= set(names):
                result[f"{first[1]}.{whole}.{first[2]}"] = torch.cat([result.pop(n) for n in names])
    return result


def _interpolated(module: Any, embeddings: Any, tokens: int, size: tuple[int, ...]) -> Tensor:
    """(1, N, D) positions for another image size, by the original's own rule."""
    table = embeddings.position_embeddings.detach()
    try:
        return embeddings.interpolate_pos_encoding(
            table.new_empty(1, tokens, table.shape[-1]), *size
        )
    except (RuntimeError, TypeError) as error:
        raise refused(
            module, f"its position embedding cannot be interpolated to {size} ({error})"
        ) from error


def _logits(module: Any, images: Tensor, **settings: bool) -> Tensor:
    return module(pixel_values=images, return_dict=True, **settings).logits


def _class_names(config: Any) -> tuple[str, ...] | None:
    """Names of the configuration; None for its fillers LABEL_0, ... and for ImageNet's own.

    ImageNet's are left to timm, which knows the WordNet ids that belong to them.
    """
    if not config.id2label:
        return None
    names = read_names(config.id2label)  # its keys may be text
    if all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        return None
    if len(names) == 1000:
        known = ImageNetInfo().label_descriptions()
        same = [a.split(",")[0] == b.split(",")[0] for a, b in zip(names, known, strict=True)]
        if sum(same) >= 900:  # lists differ in a few spellings
            return None
    return names
