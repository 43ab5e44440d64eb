"""The steps of complete correction in numbers, and the matrices that Figure 2 draws."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attnguide.evaluation.localisation import correlation
from attnguide.propagate import rollout
from attnguide.rules import complete
from attnguide.store.maps import as_columns
from attnguide.tracing.trace import AttentionTrace, corrected_rollout
from attnguide.types import ViT


def pipeline_rows(
    vit: ViT, ids: Sequence[str], images: Tensor, targets: Tensor, shown: Sequence[bool]
) -> pd.DataFrame:
    """One row per picture: how much is negative, and how the product of layers compares.

    `negative` is the share of |gradient x attention| below zero; `first_order` the correlation of
    the map with the plain sum over layers; `gap` the largest difference between carrying the class
    row through the layers and the class row of the whole product, over the largest relevance.
    Rows of pictures that are shown hold map and matrices.

    Args:
        vit: The model.
        ids: B names.
        images: (B, 3, H, W), normalised.
        targets: (B,) int64.
        shown: B, whether the picture is drawn.
    """
    images, targets = images.to(vit.device, vit.dtype), targets.to(vit.device)
    trace = AttentionTrace(vit, images, targets)
    relevance = corrected_rollout(trace, complete)
    matrices = [complete(a, g) for a, g in zip(trace.attention, trace.gradient, strict=True)]
    plain = trace.on_grid(torch.stack([trace.readout @ m for m in matrices]).sum(0)).cpu()
    whole = torch.eye(vit.num_tokens, dtype=relevance.dtype, device=vit.device)
    for matrix in matrices:
        whole = whole + matrix @ whole
    gap = (trace.on_grid(trace.readout @ whole) - relevance).abs().amax((1, 2))
    parts = [a * g for a, g in zip(trace.attention, trace.gradient, strict=True)]
    below = torch.stack([part.clamp(max=0).abs().sum((1, 2, 3)) for part in parts]).sum(0)
    size = torch.stack([part.abs().sum((1, 2, 3)) for part in parts]).sum(0)
    table = {
        "image_id": list(ids),
        "target": targets.tolist(),
        "target_name": [vit.class_names[target] for target in targets],
        "negative": (below / size).double().tolist(),
        "first_order": [correlation(a, b) for a, b in zip(relevance.cpu(), plain, strict=True)],
        "gap": (gap / relevance.abs().amax((1, 2))).double().tolist(),
        "steps": [pack_steps(trace, matrices, n) if s else None for n, s in enumerate(shown)],
    }
    maps = [as_columns(own if s else None) for own, s in zip(relevance, shown, strict=True)]
    return pd.DataFrame(table).join(pd.DataFrame(maps))


def pack_steps(trace: AttentionTrace, matrices: Sequence[Tensor], index: int) -> bytes:
    """Everything that the drawing needs of one picture of a batch, as the bytes of an npz file."""
    depth = len(matrices)
    layers = sorted({0, (depth - 1) // 2, depth - 1})
    own = [matrix[index : index + 1] for matrix in matrices]
    rows = [rollout(reversed(own[layer:]), trace.readout) for layer in reversed(range(depth))]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        attention=torch.stack([trace.attention[i][index].mean(0) for i in layers]).cpu().numpy(),
        gradient=torch.stack([trace.gradient[i][index].mean(0) for i in layers]).cpu().numpy(),
        corrected=torch.stack([matrices[i][index] for i in layers]).cpu().numpy(),
        rows=torch.stack([trace.on_grid(row)[0] for row in rows]).cpu().numpy(),
        relevance=trace.on_grid(rollout(reversed(own), trace.readout))[0].cpu().numpy(),
        layers=[layer + 1 for layer in layers],
        num_prefix=trace.vit.num_prefix,
    )
    return buffer.getvalue()


def unpack_steps(packed: bytes) -> dict[str, np.ndarray]:
    """The arrays of `pack_steps`."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as opened:
        return {name: opened[name] for name in opened.files}
