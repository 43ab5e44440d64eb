"""Single deletion: by how much the logit falls when one cell of the picture is filled."""

from __future__ import annotations

import torch
from torch import Tensor

from attnguide.evaluation.pieces import forward
from attnguide.types import ViT

CELLS = 4  # along each side, as the masked model was trained


def cell_drops(vit: ViT, images: Tensor, target: Tensor, cells: int = CELLS) -> Tensor:
    """(B, cells, cells): logit of the whole picture minus that with this cell filled with 0.

    0 in normalised space is the mean colour. The answers do not depend on any map, so all methods
    share them.

    Args:
        vit: The model.
        images: (B, 3, H, W), normalised.
        target: (B,) class that is followed.
        cells: Along each side.

    Source: Hesse, Schaub-Meyer, Roth, NeurIPS Datasets and Benchmarks 2024.
    """
    height, width = images.shape[-2:]
    ends = [[length * n // cells for n in range(cells + 1)] for length in (height, width)]
    filled = [images]
    for top, bottom in zip(ends[0], ends[0][1:], strict=False):
        for left, right in zip(ends[1], ends[1][1:], strict=False):
            other = images.clone()
            other[:, :, top:bottom, left:right] = 0
            filled.append(other)
    logits = forward(vit, torch.cat(filled)).unflatten(0, (-1, len(images)))
    own = logits[:, torch.arange(len(images)), target.cpu()].double()
    return (own[0] - own[1:]).T.unflatten(1, (cells, cells))
