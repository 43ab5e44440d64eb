"""From one matrix per layer to one number per patch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def rollout(matrices: Sequence[Tensor], start: Tensor, *, normalize: bool = False) -> Tensor:
    """(B, N) row of (I + M_L) ... (I + M_1) that `start` selects.

    The later layer stands on the left, so the row is carried from the last layer down: exactly
    the selected row of the N x N product at a fraction of its cost.

    Args:
        matrices: L tensors (B, N, N), layer 0 first, already averaged over heads.
        start: (N,) weights of the tokens that the head reads (`ViT.readout`).
        normalize: Divide every row of I + M by its sum (Abnar and Zuidema 2020).

    Paper: Eq. (2)
    """
    row = start.expand(matrices[-1].shape[0], -1)
    for matrix in reversed(matrices):
        if normalize:
            row = row / (1 + matrix.sum(-1))
        row = row + (row.unsqueeze(1) @ matrix).squeeze(1)
    return row


def patch_grid(row: Tensor, num_prefix: int, grid: tuple[int, int]) -> Tensor:
    """(..., rows, cols) of (..., N): prefix tokens dropped, patches laid out as in the image.

    Paper: Eq. (3)
    """
    return row[..., num_prefix:].unflatten(-1, grid)
