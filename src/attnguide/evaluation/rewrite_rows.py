"""Rewritten pictures in numbers (Figure 11): a row per picture, before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide.data.views import View
from attnguide.evaluation.statistics import of_kind
from attnguide.interventions.pixel_rewrite import Rewriting, rewrite
from attnguide.types import ViT


def goal_of(vit: ViT, view: View) -> int:
    """The class to reach: the second target, or one other than the first that the id picks."""
    if len(view.targets) > 1:
        return view.targets[1]
    digest = hashlib.sha256(view.id.encode()).digest()
    others = len(vit.class_names) - 1
    return (view.targets[0] + 1 + int.from_bytes(digest[:4], "big") % others) % (others + 1)


def rewrite_views(vit: ViT, views: Sequence[View], **settings: Any) -> Rewriting:
    """Views rewritten to their second target, or else to the class that their id picks.

    Args:
        vit: The model.
        views: With one or two targets.
        settings: As in `rewrite`.
    """
    images = torch.stack([view.image for view in views])
    source = torch.tensor([view.targets[0] for view in views])
    goal = torch.tensor([goal_of(vit, view) for view in views])
    return rewrite(vit, images, source, goal, **settings)


def amplified(original: NDArray[np.uint8], updated: NDArray[np.uint8]) -> tuple[Any, int]:
    """(H, W, 3) difference around grey, so large that 99 % of it can be seen; and the factor."""
    change = updated.astype(int) - original
    factor = max(1, int(127 // max(1, np.quantile(np.abs(change), 0.99))))
    return (127.5 + factor * change).clip(0, 255).astype(np.uint8), factor


def rewrite_rows(vit: ViT, ids: Sequence[str], done: Rewriting) -> pd.DataFrame:
    """One row per picture: classes, whether the goal is read, how large the change is."""
    after = done.after.double().softmax(-1).cpu()
    goal = done.goal.cpu()
    return pd.DataFrame(
        {
            "image_id": list(ids),
            "source": done.source.tolist(),
            "goal": goal.tolist(),
            "source_name": [vit.class_names[i] for i in done.source],
            "goal_name": [vit.class_names[i] for i in goal],
            "flipped": done.flipped.tolist(),
            "goal_probability": after.gather(1, goal[:, None])[:, 0],
            "steps": done.steps.tolist(),
            "psnr": done.psnr.tolist(),
            "largest": done.largest.tolist(),
            "before": [best_classes(vit, row) for row in done.before],
            "after": [best_classes(vit, row) for row in done.after],
        }
    )


@of_kind("mean")
def noise(rows: pd.DataFrame) -> pd.Series[float]:
    """Peak signal-to-noise ratio in dB; NaN of a picture that did not change."""
    return rows["psnr"].where(np.isfinite(rows["psnr"]))


def best_classes(vit: ViT, logits: Tensor) -> str:
    """Lines "class 93.8 % (12.93)" of the three most probable classes."""
    share = 100 * logits.double().softmax(-1)
    best = torch.argsort(logits, descending=True)[:3].tolist()
    names = [vit.class_names[i].split(",")[0] for i in best]
    return "\n".join(
        f"{name} {share[i]:.1f} % ({logits[i]:.2f})" for i, name in zip(best, names, strict=True)
    )
