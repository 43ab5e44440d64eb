"""Look at the tokens between the parts of a network, or pass on only some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from attnguide.errors import InputError
from attnguide.tracing.capture import unchanged
from attnguide.types import ViT

_POSITION_IN_ATTENTION = ("rope", "rel_pos", "rel_pos_bias", "relative_position_bias_table")


def layers(vit: ViT) -> list[nn.Module]:
    """The blocks, layer 0 first.

    Raises:
        ValueError: a network without `blocks`.
    """
    blocks = getattr(vit.module, "blocks", None)
    if blocks is None:
        raise InputError(
            f"{vit.name} ({type(vit.module).__name__}) keeps no list of its layers in `blocks`; "
            "use a timm VisionTransformer"
        )
    return list(blocks)


def visit(vit: ViT, images: Tensor, parts: Sequence[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """First input and output of every part, from one forward pass without gradients."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(part: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        seen[part] = (args[0], output)

    with unchanged(vit.module), torch.inference_mode(False), torch.no_grad(), ExitStack() as hooks:
        for part in parts:
            hooks.enter_context(part.register_forward_hook(keep))
        vit.module(images)
    return [seen[part] for part in parts]


def visit_tokens(
    vit: ViT, images: Tensor, parts: Sequence[nn.Module]
) -> list[tuple[Tensor, Tensor]]:
    """As `visit`, of parts that take and give tokens (B, N, D).

    Raises:
        ValueError: a part that sees other tokens than the model's grid has.
    """
    seen = visit(vit, images, parts)
    for tokens, _ in seen:
        if tokens.ndim != 3 or tokens.shape[1] != vit.num_tokens:
            raise InputError(
                f"expected tokens (B, {vit.num_tokens}, D) in {vit.name} ({vit.grid} patches and "
                f"{vit.num_prefix} prefix tokens), saw {tuple(tokens.shape)}; use a timm "
                "VisionTransformer whose patches are cut from the image itself"
            )
    return seen


def check_free_tokens(
    method: str, vit: ViT, *, instead: str = "vit_cx, which masks pixels"
) -> None:
    """Refuse a model whose attention needs every token in its place.

    Args:
        method: What removes tokens.
        vit: The model.
        instead: What to use for such a model.

    Raises:
        ValueError: rotary or relative positions inside the attention.
    """
    for part in vit.module.modules():
        for name in _POSITION_IN_ATTENTION:
            if getattr(part, name, None) is not None:
                raise InputError(
                    f"{method} removes tokens, but the attention of {vit.name} depends on their "
                    f"places ({type(part).__name__}.{name}); use {instead}, or a model "
                    "whose positions are added to its tokens"
                )


def kept_logits(
    vit: ViT,
    image: Tensor,
    keep: Tensor,
    batch_size: int,
    done: Callable[[], object],
) -> Tensor:
    """(M, C) logits of one image, seen through prefix tokens and the kept patches alone.

    Removed tokens take no part: they are dropped after the position embedding. The image is
    embedded once per chunk.

    Args:
        vit: The model.
        image: (1, 3, H, W).
        keep: (M, P) bool, as many True in every row.
        batch_size: Rows per forward pass.
        done: Called after each of them.
    """
    patches = keep.nonzero()[:, 1].view(len(keep), -1) + vit.num_prefix
    prefix = torch.arange(vit.num_prefix, device=keep.device).expand(len(keep), -1)
    logits = []
    with unchanged(vit.module), torch.inference_mode(False), torch.no_grad():
        for index in torch.cat([prefix, patches], 1).split(batch_size):

            def select(_: nn.Module, args: tuple[Any, ...], index: Tensor = index) -> Any:
                return args[0][0, index], *args[1:]

            with layers(vit)[0].register_forward_pre_hook(select):
                logits.append(vit.logits(image))
            done()
    return torch.cat(logits)
