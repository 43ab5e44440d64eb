"""Logits of images whose patches are filled, as fast as they can be had exactly.

A filled patch is embedded on its own, so filling pixels and then embedding equals choosing, patch
by patch, between two tables of tokens. Where the model is timm's own, the patches of an image and
of its filled version are embedded once, every mask is such a choice, and the last block computes
only the tokens that the head reads. Any other model gets filled pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnguide.errors import InputError, unknown_name
from attnguide.tracing.plain import rows_read
from attnguide.types import ViT

FILLS = ("zero", "black", "mean", "blur")


def filled(images: Tensor, fill: str | float, black: Tensor | None, patch: int) -> Tensor:
    """(B, 3, H, W) images with every patch filled.

    Args:
        images: (B, 3, H, W), normalised.
        fill: "zero" (0 in normalised space), "black" (0 in image space), "mean" (each image's own
            channel means), "blur" (Gaussian, standard deviation one patch), or a number in
            normalised space.
        black: (3,) normalised value of black; needed by "black" alone.
        patch: Patch height in pixels.

    Raises:
        ValueError: unknown fill, or "black" where the model's normalisation is not known.
    """
    check_fill(fill)
    if isinstance(fill, int | float):
        return torch.full_like(images, fill)
    if fill == "zero":
        return torch.zeros_like(images)
    if fill == "mean":
        return images.mean((-2, -1), keepdim=True).expand_as(images)
    if fill == "black":
        if black is None:
            raise InputError(
                "fill='black' needs the model's normalisation, but its preprocess has no mean and "
                "std; pass the number that black has in normalised space"
            )
        return black.to(images).view(1, 3, 1, 1).expand_as(images)
    from torchvision.transforms.functional import gaussian_blur

    widest = min(images.shape[-2:])
    kernel = min(4 * patch + 1, widest - 1 + widest % 2)
    return gaussian_blur(images, [kernel, kernel], [float(patch), float(patch)])


def check_fill(fill: str | float) -> None:
    """Refuse a fill that does not exist.

    Raises:
        ValueError: neither a name nor a number.
    """
    if not isinstance(fill, int | float) and fill not in FILLS:
        raise unknown_name("fill", fill, [*FILLS, "a number in normalised space"])


class MaskedForward:
    """Logits of one batch of images under any masks."""

    def __init__(
        self,
        model: ViT | Callable[[Tensor], Tensor],
        images: Tensor,
        fill_images: Tensor,
        grid: tuple[int, int],
    ) -> None:
        """Embed what can be embedded once.

        Args:
            model: A ViT, or any callable from (M, 3, H, W) to logits (M, C).
            images, fill_images: (B, 3, H, W).
            grid: Patches as (rows, cols).
        """
        self.grid = grid
        module: Any = model.module if isinstance(model, ViT) else model
        self.in_tokens = isinstance(model, ViT) and has_separable_patches(module, model.grid, grid)
        self.pixels = (images, fill_images)
        if self.in_tokens:
            self.head: Callable[[Tensor], Tensor] = token_forward(module)
            self.tables = tuple(module.patch_embed(x) for x in self.pixels)
        else:
            self.head = module

    def __call__(self, image: Tensor, keep: Tensor) -> Tensor:
        """(M, C) logits.

        Args:
            image: (M,) which image of the batch.
            keep: (M, P) bool, True where the patch stays.
        """
        if self.in_tokens:
            clean, fill = (table[image] for table in self.tables)
            return self.head(torch.where(keep.unsqueeze(-1), clean, fill))
        clean, fill = (pixels[image] for pixels in self.pixels)
        mask = keep.view(-1, 1, *self.grid).to(clean)
        mask = F.interpolate(mask, clean.shape[-2:], mode="nearest")
        return self.head(torch.where(mask.bool(), clean, fill))


def has_separable_patches(module: Any, own_grid: tuple[int, int], grid: tuple[int, int]) -> bool:
    """Whether every patch is embedded on its own, so that masks may act on tokens."""
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    embed: Any = getattr(module, "patch_embed", None)
    return (
        isinstance(module, VisionTransformer)
        and type(module).forward_features is VisionTransformer.forward_features
        and type(embed) is PatchEmbed
        and embed.flatten
        and tuple(embed.proj.stride) == tuple(embed.proj.kernel_size)
        and own_grid == grid
    )


def token_forward(module: Any) -> Callable[[Tensor], Tensor]:
    """The part of a timm VisionTransformer after the patch embedding, (M, P, D) to (M, C).

    Its last block computes only the tokens that the head reads, if it is one of timm's plain ones.
    """
    from timm.layers import Attention
    from timm.models.vision_transformer import Block

    last = module.blocks[-1]
    known = (
        type(last) is Block
        and type(last.attn) is Attention
        and getattr(last.attn, "gate", None) is None
    )

    def forward(tokens: Tensor) -> Tensor:
        x = module.norm_pre(module._pos_embed(tokens))
        rows = rows_read(module, x.shape[1])
        if known and rows < x.shape[1]:
            x = prefix_block(last, module.blocks[:-1](x), rows)
        else:
            x = module.blocks(x)
        logits: Tensor = module.forward_head(module.norm(x))
        return logits

    return forward


def prefix_block(block: Any, x: Tensor, prefix: int) -> Tensor:
    """(M, prefix, D): a timm block's output for the prefix tokens alone, exactly."""
    attn = block.attn
    batch, tokens, _ = x.shape
    y = block.norm1(x)
    q_weight, kv_weight = attn.qkv.weight.split([attn.attn_dim, 2 * attn.attn_dim])
    q_bias, kv_bias = (
        (None, None)
        if attn.qkv.bias is None
        else attn.qkv.bias.split([attn.attn_dim, 2 * attn.attn_dim])
    )
    q = F.linear(y[:, :prefix], q_weight, q_bias).view(batch, prefix, attn.num_heads, attn.head_dim)
    kv = F.linear(y, kv_weight, kv_bias).view(batch, tokens, 2, attn.num_heads, attn.head_dim)
    k, v = kv.permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(attn.q_norm(q.transpose(1, 2)), attn.k_norm(k), v)
    out = attn.proj(attn.norm(out.transpose(1, 2).reshape(batch, prefix, attn.attn_dim)))
    x = x[:, :prefix] + block.ls1(out)
    return x + block.ls2(block.mlp(block.norm2(x)))
