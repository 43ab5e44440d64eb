"""Detail interpretation in numbers: how much lies on the part that tells two classes apart.

With creatures the distinguishing part is known to the pixel; with photographs only what the losses
have in common can be measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attnguide import rules
from attnguide.data.case import Case
from attnguide.data.views import look
from attnguide.evaluation.localisation import Measure, correlation, paired
from attnguide.losses import LOSSES
from attnguide.tracing.trace import AttentionTrace, corrected_rollout
from attnguide.types import ViT

EQ8 = "relative_contrast"
FOR_THE_EYE = (
    "Whether a map uncovers the mixture in a photograph is for the eye; it cannot be measured "
    "without the part's mask."
)
ENOUGH = 5  # pictures that an interval needs to count


def where_in(vit: ViT, case: Case) -> dict[str, Tensor]:
    """(rows, cols) share of every patch that the first object, and its part, cover, if known."""
    if not case.masks or not case.parts:
        return {}
    own = look(vit, replace(case, masks=(case.parts[0], case.masks[0]))).objects
    return {"part": own[0], "object": own[1]}


def detail_maps(
    vit: ViT, images: Tensor, target: Tensor, reference: Tensor, losses: Sequence[str]
) -> tuple[dict[str, Tensor], Tensor]:
    """Complete correction by loss, (B, rows, cols) each, on one forward pass; and the logits.

    The warning of Eq. 8 about negative logits is left out: whoever asks counts them.

    Args:
        vit: The model.
        images: (B, 3, H, W), normalised.
        target, reference: (B,) int64, first and second class of the losses.
        losses: Names; "logit" looks at the target alone.
    """
    images, target, reference = (t.to(vit.device) for t in (images, target, reference))
    images = images.to(vit.dtype)
    shared: dict[Any, Any] = {}
    maps = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "relative_contrast needs both logits positive")
        for loss in losses:
            trace = AttentionTrace(
                vit, images, target, loss=loss, reference=reference, shared=shared
            )
            maps[loss] = corrected_rollout(trace, rules.complete).cpu()
    return maps, trace.logits.cpu()


def detail_rows(
    vit: ViT,
    batch: Sequence[Case],
    target: Tensor,
    reference: Tensor,
    losses: Sequence[str] = tuple(LOSSES),
) -> pd.DataFrame:
    """One row per picture and loss.

    `like_eq8` is the correlation with the map of Eq. 8; `is_valid`, whether both logits are
    positive, as Eq. 8 needs. Other columns as `part_masses`.
    """
    views = [look(vit, case) for case in batch]
    images = torch.stack([view.image for view in views])
    maps, logits = detail_maps(vit, images, target, reference, losses)
    rows = []
    for index, case in enumerate(batch):
        first, second = (float(logits[index, c[index]]) for c in (target, reference))
        where = where_in(vit, case)
        for loss in losses:
            like = correlation(maps[loss][index], maps[EQ8][index]) if EQ8 in maps else np.nan
            rows.append(
                {
                    "image_id": case.id,
                    "loss": loss,
                    "target": int(target[index]),
                    "reference": int(reference[index]),
                    "logit_target": first,
                    "logit_reference": second,
                    "is_valid": first > 0 and second > 0,
                    "like_eq8": like,
                    **part_masses(maps[loss][index], where),
                }
            )
    return pd.DataFrame(rows)


def part_masses(relevance: Tensor, where: Mapping[str, Tensor]) -> dict[str, float]:
    """Positive and negative mass as sizes, in all, on the object and on its part; their areas.

    Areas are shares of the picture; NaN where a region is not known.
    """
    values = relevance.detach().cpu().double()
    signs = {"positive": values.clamp(min=0), "negative": (-values).clamp(min=0)}
    found = {sign: float(mass.sum()) for sign, mass in signs.items()}
    for region in ("part", "object"):
        share = where.get(region)
        for sign, mass in signs.items():
            own = np.nan if share is None else float((mass * share).sum())
            found[f"{sign}_{region}"] = own
        found[f"area_{region}"] = np.nan if share is None else float(share.mean())
    return found


def net_share(region: str) -> Measure:
    """Signed mass on a region over the mass of the whole map, in [-1, 1]."""

    def measure(rows: pd.DataFrame) -> pd.Series[float]:
        size = rows["positive"] + rows["negative"]
        return (rows[f"positive_{region}"] - rows[f"negative_{region}"]) / size.where(size > 0)

    return measure


def column(name: str) -> Measure:
    """The values of a column, as a measure."""
    return lambda rows: rows[name].astype(float)


def contamination_changes(
    rows: pd.DataFrame, methods: Sequence[str], models: tuple[str, str], seed: int = 0
) -> pd.DataFrame:
    """How much more a part speaks for the class it was mixed into, in a contaminated model.

    Signed share of the part, mixed minus shown class, contaminated minus clean model, on equal
    pictures. The class shown is taken off, for a method that is blind to classes says the same of
    both. Methods with fewer than five pictures are left out.

    Args:
        rows: One per picture, model, method and `role`, which is "mixed" or "shown".
        methods: Which, in order.
        models: The clean and the contaminated one.
        seed: Of the bootstrap.
    """
    lines = []
    for method in methods:
        own = rows[rows["method"] == method]
        clean, mixed = (own[own["model"] == model] for model in models)
        gap = paired(mixed, clean, _mixed_minus_shown, seed)
        if gap["n"] >= ENOUGH:
            lines.append({"method": method, **gap})
    return pd.DataFrame(lines)


def _mixed_minus_shown(rows: pd.DataFrame) -> pd.Series[float]:
    """Twice the signed share, so that the mean over both classes is their difference."""
    sign = np.where(rows["role"] == "mixed", 2.0, -2.0)
    return net_share("part")(rows).fillna(0.0) * sign
