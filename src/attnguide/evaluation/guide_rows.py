"""Maps beside guides and beside company, and of the picture alone through guides: as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from attnguide.data.views import ALONE, View
from attnguide.evaluation.engines import MaskedModel
from attnguide.evaluation.localisation import regions, relevance_by_region
from attnguide.evaluation.rows import Explained, Maps, explain_batch
from attnguide.evaluation.scores import LEAST, MOST, SRG, area_rows
from attnguide.methods import Method
from attnguide.types import ViT

AREAS = (SRG, LEAST, MOST)
# By number of guides, whose maps are averaged
THROUGH = {1: "through 1 guide", 3: "through 3 guides", 6: "through 6 guides"}


def guide_rows(
    vit: ViT,
    names: Sequence[str],
    views: Mapping[str, Sequence[View]],
    target: Tensor,
    methods: Mapping[str, Method],
    *,
    guides: Sequence[str],
    swept: Sequence[int],
    fractions: Sequence[float],
    engine: MaskedModel | None = None,
) -> pd.DataFrame:
    """A row per picture, method and `view`: what stands beside it, or what its map went through.

    Columns are the masses of either part, `correct`, `main` (beside a guide), and areas of
    perturbation of stitched views for guides, and SRG of the picture alone for `ALONE`, its own
    maps, and for `THROUGH`, means over guides of the picture's part, resampled to its grid alone.

    Args:
        vit: The model.
        names: Of the pictures.
        views: By what stands beside, one per picture; `ALONE` shows the whole picture.
        target: (B,) class that is explained and followed.
        methods: By label.
        guides: Those of the views that show another class, in order.
        swept: Numbers of the pictures whose views beside guides are perturbed.
        fractions, engine: As in `perturb`.
    """
    rows: dict[tuple[int, str, str], dict[str, Any]] = {}
    batches: dict[str, Explained] = {}
    for name, own in views.items():
        images = torch.stack([view.image for view in own])
        batches[name] = found = explain_batch(vit, images, target, methods)
        right = found.logits.argmax(-1) == target
        for index, view in enumerate(own):
            for method, relevance in found.maps.items():
                masses = relevance_by_region(relevance[index], regions((), 0, view.own))
                facts = {"correct": float(right[index]), "main": name in guides}
                rows[index, name, method] = masses | facts | dict.fromkeys(AREAS, nan)
    for name in guides if swept else ():
        areas = area_rows(batches[name].part(swept), fractions, engine)
        for index, method, measure, value in areas:
            rows[swept[index], name, method][measure] = value
    for name, maps in _through(batches, guides, views).items():
        areas = area_rows(replace(batches[ALONE], maps=maps), fractions, engine)
        for index, method, measure, value in areas:
            if measure == SRG:
                rows.setdefault((index, name, method), {"main": False})[SRG] = value
    return pd.DataFrame(
        {"image_id": names[index], "view": name, "method": method, **row}
        for (index, name, method), row in rows.items()
    )


def _through(
    batches: Mapping[str, Explained], guides: Sequence[str], views: Mapping[str, Sequence[View]]
) -> dict[str, Maps]:
    """Maps of the picture alone: its own, and means over the first guides, by name and method."""
    alone = batches[ALONE]
    found, grid = {ALONE: alone.maps}, alone.vit.grid
    for method in alone.maps:
        parts = [own_part(batches[n].maps[method], views[n][0].own, grid) for n in guides]
        for count, words in THROUGH.items():
            if count <= len(parts):
                found.setdefault(words, {})[method] = torch.stack(parts[:count]).mean(0)
    return found


def own_part(relevance: Tensor, own: Tensor | None, grid: tuple[int, int]) -> Tensor:
    """(B, *grid) the picture's part of maps (B, rows, cols), resampled bilinearly."""
    assert own is not None
    part = relevance[:, own.bool().any(1)][:, :, own.bool().any(0)]
    return F.interpolate(part.unsqueeze(1), grid, mode="bilinear", align_corners=False)[:, 0]
