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

from torch import nn

from attnguide.models.adapters import huggingface, torchvision
from attnguide.models.adapters.network import Form, convert
from attnguide.models.preprocess import Preprocess

__all__ = ["Form", "convert", "read_form"]


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
    return huggingface.read(module, image_size, size) or torchvision.read(module, image_size)
