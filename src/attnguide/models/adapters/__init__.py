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

from timm.layers import to_2tuple
from torch import nn

from attnguide.errors import InputError
from attnguide.models.adapters import huggingface, torchvision
from attnguide.models.adapters.network import Converted, convert
from attnguide.models.adapters.processors import as_preprocess
from attnguide.models.preprocess import Preprocess

__all__ = ["Converted", "adapt", "as_preprocess", "check_size"]


def adapt(
    module: nn.Module, preprocess: Any = None, image_size: int | tuple[int, int] | None = None
) -> Converted | None:
    """The converted network, its default preprocessing and class names; None for all others.

    Args:
        module: The user's network; read, run once in evaluation mode, and not kept.
        preprocess: What the user passed, already through `as_preprocess`.
        image_size: (height, width) in pixels that the network is to take; its own by default.

    Raises:
        ValueError: a network of HuggingFace or torchvision that is no supported vision
            transformer, has a part without counterpart, or whose logits are not reproduced.
    """
    given = preprocess.size if isinstance(preprocess, Preprocess) else None
    for library in (huggingface, torchvision):
        form = library.read(module, image_size, given)
        if form is not None:
            return convert(module, form)
    return None


def check_size(
    label: str,
    size: tuple[int, int],
    image_size: int | tuple[int, int] | None,
    preprocess: Any,
) -> None:
    """Refuse images of another size than the network takes.

    Args:
        label: What messages call the network.
        size: (height, width) in pixels that it takes.
        image_size: What the user asked for.
        preprocess: What the user passed; only a `Preprocess` tells its size.

    Raises:
        ValueError: one of them differs.
    """
    if image_size is not None and tuple(to_2tuple(image_size)) != size:
        raise InputError(
            f"{label} takes images of {size}, asked for {image_size}; call "
            "module.set_input_size(img_size=...) first"
        )
    if isinstance(preprocess, Preprocess) and tuple(preprocess.size) != size:
        raise InputError(
            f"{label} takes images of {size}, the preprocessing makes {tuple(preprocess.size)}; "
            "pass another preprocess, or image_size to a HuggingFace network"
        )
