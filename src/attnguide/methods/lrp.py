"""Layer-wise relevance propagation from the logit to the patches or pixels.

Binder et al. 2016, arXiv 1604.00825, as the baseline of Chefer et al., CVPR 2021.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from attnguide.errors import InputError
from attnguide.methods._lrp.layer_rules import SEPARATE, add_separate, bounded
from attnguide.methods._lrp.record import record
from attnguide.methods._lrp.relevance import descend, warn_float32
from attnguide.tracing.trace import AttentionTrace, at_least_float32

SIGNED = True
CLASS_SENSITIVE = True
COST = 6.5  # 2 forwards, then a descent of about 4


def explain(trace: AttentionTrace, *, start_layer: int = 0, pixels: bool = False) -> Tensor:
    """(B, rows, cols) or, for pixels, (B, H, W); signed, summed over channels.

    Relevance descends by the separate rules, prefix tokens and position embedding keep theirs.
    The map of patches is the sum of the map of pixels over each patch.

    Ill-conditioned: against float64, float32 maps of a ViT-Tiny differ by 0.5 of their largest
    value (median of 26; worst 2.0; Spearman median 0.82, worst -0.97). A warning says so, once.

    Args:
        trace: The shared pass.
        start_layer: Stop at the tokens that enter this layer, 0-based; 0 goes on through the
            position embedding, as published.
        pixels: Go on through the patch embedding (z^B rule).

    Raises:
        ValueError: start_layer beyond the depth, or above 0 for pixels; blocks without published
            relevance rules; pixels of a model whose patches are not one convolution.
    """
    if pixels and start_layer != 0:
        raise InputError(f"pixels=True needs start_layer=0, got {start_layer}; pass one of them")
    if pixels:
        _check_convolution(trace)
    passed = record(trace, "lrp", start_layer)
    if trace.images.dtype != torch.float64:
        warn_float32("lrp")
    steps = descend(trace, passed, SEPARATE)
    last = next(islice(steps, len(passed.attention) - start_layer - 1, None))
    if start_layer > 0:
        return trace.on_grid(last.tokens.sum(-1))
    patches = last.tokens[:, trace.vit.num_prefix :]
    patches, _ = add_separate(patches, passed.patches, passed.position)
    if not pixels:
        return torch.unflatten(patches.sum(-1), -1, trace.vit.grid)
    return _pixels(trace, patches)


def _check_convolution(trace: AttentionTrace) -> None:
    embed: Any = trace.vit.module.patch_embed
    parts = (type(embed), type(getattr(embed, "proj", None)), type(getattr(embed, "norm", None)))
    if parts != (PatchEmbed, nn.Conv2d, nn.Identity):
        names = ", ".join(part.__name__ for part in parts)
        raise InputError(
            f"method 'lrp' with pixels=True needs patches made by one convolution, and "
            f"{trace.vit.name} makes them with {names}; use pixels=False, or merge adapters first"
        )


def _pixels(trace: AttentionTrace, patches: Tensor) -> Tensor:
    """(B, H, W) from the relevance of patches (B, P, D)."""
    relevance = torch.unflatten(patches.transpose(1, 2), -1, trace.vit.grid)
    embed: Any = trace.vit.module.patch_embed
    weight = at_least_float32(embed.proj.weight.detach())
    return bounded(relevance, at_least_float32(trace.images), weight, trace.vit.patch_size).sum(1)
