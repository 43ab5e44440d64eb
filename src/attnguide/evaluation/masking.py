"""Logits of images under masks: how patches are replaced or removed, and what is computed after.

A filled patch is embedded on its own, so filling pixels and then embedding equals choosing, patch
by patch, between two tables of tokens. Where the model is timm's own, the tokens of an image and
of its filled version are made once, every mask is such a choice, and the last block computes only
the tokens that the head reads. Any other model gets filled pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnguide.errors import InputError
from attnguide.evaluation.fills import linear_filled
from attnguide.tracing.blocks import is_standard, prefix_block, tokens_read
from attnguide.tracing.tokens import check_free_tokens, kept_logits
from attnguide.types import ViT

PATHS = ("pixels", "tokens", "last block")


@dataclass(frozen=True)
class Network:
    """A model cut in two where masks act.

    Attributes:
        path: "pixels"; "tokens", whose patches are embedded once; or "last block", which is
            "tokens" with the last block computed for the tokens that the head reads.
        enter: (B, 3, H, W) images to what is masked: images, or tokens (B, N, D).
        leave: What is masked to logits (B, C).
        num_prefix: Tokens before the patches.
    """

    path: str
    enter: Callable[[Tensor], Tensor]
    leave: Callable[[Tensor], Tensor]
    num_prefix: int = 0

    @property
    def in_tokens(self) -> bool:
        """Whether masks act on tokens."""
        return self.path != "pixels"


def paths(model: ViT | Callable[[Tensor], Tensor]) -> tuple[str, ...]:
    """The ways in which this model's masked logits can be had exactly, of `PATHS`."""
    if not isinstance(model, ViT) or not has_separable_patches(model):
        return PATHS[:1]
    shorter = tokens_read(model.module, model.num_tokens) < model.num_tokens
    return PATHS if shorter else PATHS[:2]


def network(model: ViT | Callable[[Tensor], Tensor], path: str) -> Network:
    """The model, cut where this path says."""
    if not isinstance(model, ViT):
        return Network("pixels", _as_they_are, model)
    if path == "pixels":
        return Network(path, _as_they_are, Whole(model))
    module: Any = model.module

    def embed(images: Tensor) -> Tensor:
        tokens: Tensor = module.norm_pre(module._pos_embed(module.patch_embed(images)))
        return tokens

    read = tokens_read(module, model.num_tokens) if path == "last block" else model.num_tokens
    return Network(path, embed, Blocks(module, read), model.num_prefix)


def has_separable_patches(vit: ViT) -> bool:
    """Whether this is timm's network and embeds every patch on its own: masks may act on tokens."""
    from timm.layers import PatchEmbed

    embed: Any = getattr(vit.module, "patch_embed", None)
    return (
        is_standard(vit.module)
        and type(embed) is PatchEmbed
        and embed.flatten
        and tuple(embed.proj.stride) == tuple(embed.proj.kernel_size) == tuple(vit.patch_size)
    )


def _as_they_are(images: Tensor) -> Tensor:
    return images


class Whole(nn.Module):
    """A ViT as it is: images (M, 3, H, W) to logits (M, C)."""

    def __init__(self, vit: ViT) -> None:
        """Nothing is copied."""
        super().__init__()
        self.module, self.vit = vit.module, vit

    def forward(self, images: Tensor) -> Tensor:
        """(M, C)."""
        return replace(self.vit, module=self.module).logits(images)


class Blocks(nn.Module):
    """timm's standard network after its embedding: tokens (M, N, D) to logits (M, C)."""

    def __init__(self, module: Any, read: int) -> None:
        """Nothing is copied.

        Args:
            module: A network that `is_standard`.
            read: How many of the first tokens the last block computes.
        """
        super().__init__()
        self.module, self.read = module, read

    def forward(self, x: Tensor) -> Tensor:
        """(M, C)."""
        blocks = self.module.blocks
        if self.read < x.shape[1]:
            x = prefix_block(blocks[-1], blocks[:-1](x), self.read)
        else:
            x = blocks(x)
        logits: Tensor = self.module.forward_head(self.module.norm(x))
        return logits


class Replaced:
    """Masked patches are taken from a filled image."""

    def __init__(
        self, network: Network, images: Tensor, filled: Tensor, grid: tuple[int, int]
    ) -> None:
        """Embed what can be embedded once.

        Args:
            network: Model.
            images, filled: (B, 3, H, W).
            grid: Patches as (rows, cols).
        """
        self.network, self.grid = network, grid
        self.tables = (network.enter(images), network.enter(filled))

    def __call__(self, image: Tensor, keep: Tensor) -> Tensor:
        """(M, C) logits.

        Args:
            image: (M,) which image of the batch.
            keep: (M, P) bool, True where the patch stays.
        """
        clean, other = (table[image] for table in self.tables)
        if self.network.in_tokens:
            stays = F.pad(keep, (self.network.num_prefix, 0), value=True).unsqueeze(-1)
        else:
            stays = in_pixels(keep, self.grid, clean.shape[-2:]).unsqueeze(1)
        return self.network.leave(torch.where(stays, clean, other))


class Imputed:
    """Masked pixels are imputed from their neighbours: `fill="linear"`."""

    def __init__(
        self,
        network: Network,
        images: Tensor,
        grid: tuple[int, int],
        seeds: list[int],
        std: tuple[float, ...],
        dtype: torch.dtype,
    ) -> None:
        """Hold what `fills.linear_filled` takes, and the type in which the network takes it."""
        self.network, self.images, self.grid = network, images, grid
        self.seeds, self.std, self.dtype = seeds, std, dtype

    def __call__(self, image: Tensor, keep: Tensor) -> Tensor:
        """(M, C) logits; as `Replaced`."""
        hidden = ~in_pixels(keep, self.grid, self.images.shape[-2:])
        seeds = [self.seeds[number] for number in image.tolist()]
        pictures = linear_filled(self.images[image], hidden, seeds, self.std)
        return self.network.leave(self.network.enter(pictures.to(self.dtype)))


class Dropped:
    """Masked patches leave the sequence after the position embedding: `fill="drop"`."""

    def __init__(self, vit: ViT, network: Network, images: Tensor) -> None:
        """Embed once, where the network is cut at its tokens; else once per image and mask."""
        self.vit, self.network, self.images = vit, network, images
        self.table = network.enter(images)

    def __call__(self, image: Tensor, kept: Tensor) -> Tensor:
        """(M, C) logits.

        Args:
            image: (M,) which image of the batch.
            kept: (M, K) the patches that stay, in increasing order.
        """
        prefix = self.network.num_prefix
        if self.network.in_tokens:
            first = torch.arange(prefix, device=kept.device).expand(len(kept), -1)
            index = torch.cat([first, kept + prefix], 1)
            return self.network.leave(self.table[image.unsqueeze(1), index])
        rows, cols = self.vit.grid
        keep = torch.zeros(len(kept), rows * cols, dtype=torch.bool, device=kept.device)
        keep.scatter_(1, kept, True)
        logits = [
            kept_logits(
                self.vit, self.images[number : number + 1], mask.unsqueeze(0), 1, lambda: None
            )
            for number, mask in zip(image.tolist(), keep, strict=True)
        ]
        return torch.cat(logits)


def in_pixels(keep: Tensor, grid: tuple[int, int], size: tuple[int, ...]) -> Tensor:
    """(M, H, W) bool of a mask over patches (M, P)."""
    rows, cols = size[0] // grid[0], size[1] // grid[1]
    return keep.view(-1, *grid).repeat_interleave(rows, 1).repeat_interleave(cols, 2)


def check_drop(model: Any, most: int) -> None:
    """Refuse to remove tokens where that is not defined.

    Args:
        model: As in `perturb`.
        most: The largest number of patches that are removed.

    Raises:
        ValueError: no ViT, positions inside the attention, or a head that would read nothing.
    """
    if not isinstance(model, ViT):
        raise InputError(
            f"fill='drop' removes tokens of a ViT, got {type(model).__name__}; make one with "
            "wrap_model, or use fill='zero'"
        )
    if not hasattr(model.module, "blocks"):
        raise InputError(
            f"fill='drop' is not defined for {model.name} ({type(model.module).__name__}), which "
            "keeps no list of its layers in `blocks`; use fill='zero'"
        )
    check_free_tokens("fill='drop'", model, instead="fill='zero'")
    rows, cols = model.grid
    if most == rows * cols and _reads_patches(model):
        raise InputError(
            f"fill='drop' at fraction 1 leaves nothing that the head of {model.name} reads; end "
            "fractions below 1, or use fill='zero'"
        )


def _reads_patches(vit: ViT) -> bool:
    """Whether the head reads patches, or may do so."""
    return vit.readout is None or bool(vit.readout[vit.num_prefix :].any())
