"""Networks of other libraries, carried over into one timm network that gives the same answers.

Methods know one form, timm's `VisionTransformer`; a foreign network is converted to it once, when
it is wrapped, and its logits are compared with the original's. Nothing of the other library is
imported: who has such a network has its library.

Neither HuggingFace's nor torchvision's network knows its preprocessing. Without one the published
weights' is taken, resized to the network's own size:

| network | mean and std | geometry |
|---|---|---|
| HuggingFace ViT | 0.5 | squashed, bilinear |
| HuggingFace DeiT | ImageNet's | squashed, centre crop of 0.875, bicubic |
| HuggingFace DINOv2 | ImageNet's | shorter side, centre crop of 0.875, bicubic |
| torchvision | ImageNet's | shorter side, centre crop of 0.875, bilinear |

Weights may differ: `facebook/deit-base-patch16-224` is a HuggingFace ViT with ImageNet's mean. Pass
the image processor or the preset that came with them.
"""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import to_2tuple
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from attnguide.models.adapters import huggingface
from attnguide.models.adapters.network import Form, convert, has_ancestor, refused, renamed
from attnguide.models.preprocess import Preprocess

__all__ = ["Form", "convert", "read_form"]

_TORCHVISION_STEM = {
    "class_token": "cls_token",
    "conv_proj": "patch_embed.proj",
    "encoder.pos_embedding": "pos_embed",
    "encoder.ln": "norm",
}
_TORCHVISION_BLOCK = r"encoder\.layers\.encoder_layer_(\d+)\."
_TORCHVISION_PARTS = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "self_attention.in_proj_": "attn.qkv.",
    "self_attention.out_proj": "attn.proj",
    "mlp.0": "mlp.fc1",
    "mlp.3": "mlp.fc2",
}


def read_form(
    module: nn.Module, preprocess: Any = None, image_size: int | tuple[int, int] | None = None
) -> Form | None:
    """What a network of HuggingFace or torchvision is in timm's terms; None for all others.

    Args:
        module: The user's network.
        preprocess: What the user passed; a `Preprocess` tells a size.
        image_size: (height, width) in pixels that the network is to take; its own by default.

    Raises:
        ValueError: a network of HuggingFace or torchvision that is no supported vision
            transformer, or has a part without counterpart.
    """
    size = preprocess.size if isinstance(preprocess, Preprocess) else None
    return huggingface.read(module, image_size, size) or _torchvision(module, image_size)


def _torchvision(module: Any, image_size: int | tuple[int, int] | None) -> Form | None:
    """The form of torchvision's `VisionTransformer`; None for a network of another library.

    Raises:
        ValueError: another torchvision network, a convolutional stem, another image size.
    """
    kinds = has_ancestor(module, "torchvision")
    if not kinds:
        return None
    if "VisionTransformer" not in kinds:
        raise refused(
            module,
            "of torchvision's networks, VisionTransformer (vit_b_16, ...) is supported. Windowed "
            "and convolutional ones (Swin, ResNet) have no token-to-token attention over the "
            "whole image",
        )
    size: tuple[int, int] = to_2tuple(module.image_size)
    if image_size is not None and tuple(to_2tuple(image_size)) != size:
        raise refused(
            module,
            f"it takes images of {size}, asked for {image_size}; change its weights with "
            "torchvision.models.vision_transformer.interpolate_embeddings first",
        )
    if not isinstance(module.conv_proj, nn.Conv2d):
        raise refused(module, "it has a convolutional stem, which mixes neighbouring patches")
    state = {k: w for k, w in module.state_dict().items() if not k.startswith("heads.")}
    return Form(
        weights=renamed(state, _TORCHVISION_STEM, _TORCHVISION_BLOCK, _TORCHVISION_PARTS),
        heads=(module.heads,),
        num_heads=module.encoder.layers[0].num_heads,
        image_size=size,
        patch_size=to_2tuple(module.patch_size),
        eps=getattr(module.encoder.ln, "eps", 1e-6),
        activation=nn.GELU,
        kind=VisionTransformer,
        answer=lambda module, images: module(images),
        preprocess=Preprocess(
            size,
            IMAGENET_DEFAULT_MEAN,
            IMAGENET_DEFAULT_STD,
            crop_pct=0.875,
            interpolation="bilinear",
        ),
    )
