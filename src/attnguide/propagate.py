"""From one matrix per layer to one number per patch."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def rollout(matrices: Iterable[Tensor], start: Tensor, *, normalize: bool = False) -> Tensor:
    """(B, N) row of (I + M_L) ... (I + M_1) that `start` selects.

    The later layer stands on the left, so the row is carried from the last layer down: exactly
    the selected row of the N x N product at a fraction of its cost, each matrix used as it comes.

    Args:
        matrices: (B, N, N) of each layer from the last down, already averaged over heads.
        start: (N,) weights of the tokens that the head reads (`ViT.readout`).
        normalize: Divide every row of I + M by its sum (Abnar and Zuidema 2020).

    Paper: Eq. (2)
    """
    row = start
    for matrix in matrices:
        row = row.expand(len(matrix), -1)
        if normalize:
            row = row / (1 + matrix.sum(-1))
        row = row + (row.unsqueeze(1) @ matrix).squeeze(1)
    return row


def patch_grid(row: Tensor, num_prefix: int, grid: tuple[int, int]) -> Tensor:
    """(..., rows, cols) of (..., N): prefix tokens dropped, patches laid out as in the image.

    Paper: Eq. (3)
    """
    return row[..., num_prefix:].unflatten(-1, grid)
