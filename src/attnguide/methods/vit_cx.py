"""ViT-CX: causal effect of the patterns that the last layer's channels show.

Xie, Li, Cao, Zhang, "ViT-CX: Causal Explanation of Vision Transformers", IJCAI 2023,
arXiv 2211.03064.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnguide.errors import InputError
from attnguide.methods._sampling import check_sampling, class_score, min_max, progress, safe_divide
from attnguide.tracing.capture import unchanged
from attnguide.tracing.tokens import layers, visit_tokens
from attnguide.tracing.trace import AttentionTrace, at_least_float32
from attnguide.types import ViT

SIGNED = True
CLASS_SENSITIVE = True
COST = 400  # 2 forwards per mask: 17 to 34 of a photograph, at most one a patch


def explain(
    trace: AttentionTrace,
    *,
    distance_threshold: float = 0.1,
    noise: float = 0.1,
    seed: int = 0,
    pixels: bool = False,
    batch_size: int = 50,
) -> Tensor:
    """(B, rows, cols), or (B, H, W) with `pixels`; signed.

    One sweep serves all targets. Images are treated one by one, so a batch changes nothing.

    Args:
        trace: The shared pass.
        distance_threshold: Masks are merged when all pairs are closer, as 1 - cosine, in [0, 1].
        noise: Standard deviation of what replaces masked pixels, in normalised space.
        seed: Of the noise; the same for every image.
        pixels: The published map of pixels instead of its mean in every patch.
        batch_size: Masks per pass.

    Raises:
        ValueError: settings out of range; a block without `attn`.
    """
    vit = trace.vit
    check_sampling("vit_cx", seed, batch_size)
    _check(vit, distance_threshold, noise)

    def sweep() -> list[tuple[Tensor, ...]]:
        found = [masks_of(vit, image, distance_threshold) for image in trace.images.split(1)]
        passes = sum(-(-len(masks) // batch_size) for masks in found)
        with progress("vit_cx", passes) as bar:
            pairs = zip(trace.images.split(1), found, strict=True)
            return [
                (shares(masks), *_answers(vit, image, masks, noise, seed, batch_size, bar.update))
                for image, masks in pairs
            ]

    sweeps = trace.cached(("vit_cx", distance_threshold, noise, seed), sweep)
    maps = []
    for index, (share, masked, noisy) in enumerate(sweeps):
        plain = class_score(trace, trace.logits[index : index + 1], index)
        effect = class_score(trace, masked, index) - class_score(trace, noisy, index) + plain
        maps.append(torch.tensordot(effect, share, 1))
    relevance = torch.stack(maps)
    return relevance if pixels else F.avg_pool2d(relevance, vit.patch_size)


def masks_of(vit: ViT, image: Tensor, distance_threshold: float) -> Tensor:
    """(K, H, W) in [0, 1]: one mask per cluster of similar channels; image is (1, 3, H, W).

    Channels are those of the normalised input of the last attention. Constant ones are left out.
    """
    [(tokens, _)] = visit_tokens(vit, image, [_last_attention(vit)])
    channels = at_least_float32(tokens[0, vit.num_prefix :].T)
    varied = channels[channels.amax(-1) > channels.amin(-1)]  # before rounding makes up a contrast
    enlarged = F.interpolate(
        varied.unflatten(-1, vit.grid).unsqueeze(1), vit.image_size, mode="bilinear"
    )
    masks = min_max(enlarged.flatten(1))
    labels = complete_linkage(masks, distance_threshold)
    summed = masks.new_zeros(int(labels.max()) + 1 if len(labels) else 0, masks.shape[-1])
    summed.index_add_(0, labels, masks)
    return min_max(summed).unflatten(-1, vit.image_size)


def complete_linkage(rows: Tensor, threshold: float) -> Tensor:
    """(D,) cluster label of every row (D, F), all pairs in a cluster closer than `threshold`.

    The distance is 1 - cosine. Labels are numbered as scikit-learn does.
    """
    if len(rows) < 2:
        return torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    from sklearn.cluster import AgglomerativeClustering

    unit = F.normalize(rows, dim=-1)
    distance = (1 - unit @ unit.T).cpu().numpy()
    model = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="complete", distance_threshold=threshold
    )
    return torch.from_numpy(model.fit_predict(distance)).to(rows.device)


def shares(masks: Tensor) -> Tensor:
    """(K, H, W) weight of every mask at every pixel; their sum is 1 / K, or 0 without coverage."""
    return safe_divide(masks, masks.sum(0)) / max(len(masks), 1)


def _answers(
    vit: ViT,
    image: Tensor,
    masks: Tensor,
    noise: float,
    seed: int,
    batch_size: int,
    done: Callable[[], object],
) -> tuple[Tensor, Tensor]:
    """(K, C) logits of the masked image with noise, and of the whole image with the same noise."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(masks), *image.shape[1:], generator=generator, dtype=torch.float32)
    masked, noisy = [], []
    with unchanged(vit.module), torch.inference_mode(False), torch.no_grad():
        for mask, draw in zip(masks.split(batch_size), drawn.split(batch_size), strict=True):
            kept = mask.unsqueeze(1).to(image)
            extra = draw.to(image) * noise * (1 - kept)
            masked.append(vit.logits(image * kept + extra))
            noisy.append(vit.logits(image + extra))
            done()
    return torch.cat(masked), torch.cat(noisy)


def _check(vit: ViT, distance_threshold: float, noise: float) -> None:
    if not 0 <= distance_threshold <= 1:
        raise InputError(
            "distance_threshold of vit_cx must lie in [0, 1] (1 - cosine; the publication uses "
            f"0.1), got {distance_threshold}"
        )
    if not 0 <= noise < float("inf"):
        raise InputError(
            f"noise of vit_cx is a standard deviation: zero or more, got {noise}; the publication "
            "uses 0.1"
        )
    _last_attention(vit)


def _last_attention(vit: ViT) -> nn.Module:
    attention = getattr(layers(vit)[-1], "attn", None)
    if not isinstance(attention, nn.Module):
        raise InputError(
            "vit_cx takes its masks from the input of the last attention, but the last block of "
            f"{vit.name} has no part `attn`; use a timm VisionTransformer, or tis"
        )
    return attention
