"""Every measure of a map in one long table: a row per picture, target, method and measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from attnguide.data.views import View
from attnguide.evaluation.engines import MaskedModel
from attnguide.evaluation.localisation import (
    both_signs,
    grid_pointing,
    negative_share,
    positive_share,
)
from attnguide.evaluation.localisation_rows import localisation_rows
from attnguide.evaluation.metrics import srg
from attnguide.evaluation.perturbation import perturb_many
from attnguide.evaluation.ranking import LESS, MORE, NEAR_ZERO, compact, winner
from attnguide.evaluation.rows import Maps, maps_of
from attnguide.evaluation.sanity import noise_rows, randomised_rows
from attnguide.evaluation.statistics import Measure, of_kind
from attnguide.methods import Method
from attnguide.store.maps import COLUMNS
from attnguide.types import ViT
from attnguide.viz.style import method_label

ON, OTHER = "relevance mass on the target", "negative mass on the other class"
BOTH, POINTING, SRG = "both signs right", "grid pointing", "SRG"
LEAST, MOST = "AUC, least relevant first", "AUC, most relevant first"
HEAD, ALL = "sanity: randomised head", "sanity: all weights randomised"
NOISE = "stability under noise"
BETTER = {
    ON: MORE, OTHER: MORE, BOTH: MORE, POINTING: MORE, SRG: MORE, LEAST: MORE, MOST: LESS,
    HEAD: NEAR_ZERO, ALL: NEAR_ZERO, NOISE: MORE,
}  # fmt: skip
WHERE: Mapping[str, Measure] = {
    ON: positive_share("target"),
    OTHER: negative_share("other"),
    BOTH: both_signs,
    POINTING: grid_pointing,
}
KEPT = ("image_id", "view", "method", "target", "target_name", "place")
SIGMA = 0.01  # of the noise, in image space


# Questions, the measures that answer each (the first that there is), and what a map must exceed
TRUST: Sequence[tuple[str, Sequence[str], float]] = (
    ("sign", (BOTH,), 0.5),
    ("ranking", (SRG,), 0.0),
    ("localisation", (POINTING, ON), 0.25),
)


def named(measure: str) -> Measure:
    """The values of the rows of one measure, of its kind."""
    kind: Any = getattr(WHERE.get(measure), "kind", "mean")
    return of_kind(kind)(lambda rows: rows["value"].astype(float).where(rows["measure"] == measure))


def explained(
    vit: ViT, views: Sequence[View], labels: Sequence[int | None]
) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) images, and (B,) the label of each, or what the model says it is."""
    images = torch.stack([view.image for view in views])
    with torch.no_grad():
        predicted = vit.logits(images.to(vit.device, vit.dtype)).argmax(-1).cpu().tolist()
    pairs = zip(predicted, labels, strict=True)
    return images, torch.tensor([said if label is None else label for said, label in pairs])


def whom_to_trust(model: str, rows: pd.DataFrame, seed: int = 0) -> str:
    """Which method is best for signs, for ranking patches, and for localisation.

    Args:
        model: Its name.
        rows: Of the model, as the functions below make them.
        seed: Of the pictures that are drawn again.
    """
    parts = []
    for question, measures, least in TRUST:
        measured = [name for name in measures if (rows["measure"] == name).any()]
        best = winner(rows, measured[0], BETTER[measured[0]], seed) if measured else None
        if best is None:
            continue
        method, value, alike = best
        number = f"{measured[0]} {compact(value)}"
        if not value > least:
            parts.append(f"none for {question} (the best is {method_label(method)}, {number})")
            continue
        others = f"; not told apart from it: {', '.join(map(method_label, alike))}" if alike else ""
        parts.append(f"{method_label(method)} for {question} ({number}{others})")
    return f"{model}: trust {'; '.join(parts)}." if parts else f"{model}: nothing was measured."


def localisation_scores(
    vit: ViT, views: Sequence[View], shown: Sequence[bool], methods: Mapping[str, Method]
) -> pd.DataFrame:
    """Where relevance lies in pictures whose objects are known; raw maps of those shown."""
    rows = localisation_rows(vit, views, shown, methods)
    is_grid = rows["regions"] == "cells"
    tables = []
    for name, measure in WHERE.items():
        counted = is_grid if name == POINTING else ~is_grid
        own = rows[list(KEPT)].assign(measure=name, value=measure(rows).where(counted))
        for column in COLUMNS:  # the map stands in one row of each target
            own[column] = rows[column] if name == ON else None
        tables.append(own[counted | own["relevance"].notna()])
    return pd.concat(tables, ignore_index=True)


def faithfulness_scores(
    vit: ViT,
    images: Tensor,
    names: Sequence[str],
    target: Tensor,
    methods: Mapping[str, Method],
    *,
    fractions: Sequence[float],
    seed: int = 0,
    engine: MaskedModel | None = None,
) -> pd.DataFrame:
    """Both orders of perturbation, and how like every map is to itself without weights and noisy.

    All share the maps of the trained model.

    Args:
        vit: The model.
        images: (B, 3, H, W), normalised.
        names: Of the images.
        target: (B,) class that is explained and followed.
        methods: By label.
        fractions: Of the patches that are filled.
        seed: Of new weights and noise.
        engine: Of masked forward passes.
    """
    maps, _ = maps_of(vit, images, target, methods)
    rows = area_rows(vit, images, maps, target, fractions, engine)
    lost = randomised_rows(vit, images, target, methods, maps, seed, wanted=("head", "embedding"))
    noisy = noise_rows(vit, images, names, target, methods, maps, SIGMA, seed)
    measure = {"head": HEAD, "embedding": ALL, f"{SIGMA:g}": NOISE}  # by stage
    rows += [
        (row["index"], row["method"], measure[row["stage"]], row["signed"]) for row in lost + noisy
    ]
    table = pd.DataFrame(rows, columns=["index", "method", "measure", "value"])
    index = table.pop("index")
    classes = target.tolist()
    return table.assign(
        image_id=[names[i] for i in index],
        view="alone",
        target=[classes[i] for i in index],
        target_name=[vit.class_names[classes[i]] for i in index],
        place=0,
        **dict.fromkeys(COLUMNS),
    )


def area_rows(
    vit: ViT,
    images: Tensor,
    maps: Maps,
    target: Tensor,
    fractions: Sequence[float],
    engine: MaskedModel | None,
) -> list[tuple[int, str, str, float]]:
    """Areas in percent of recognition in both orders, and their difference."""
    curves = perturb_many(
        vit,
        images.to(vit.device),
        {label: relevance.to(vit.device) for label, relevance in maps.items()},
        target.to(vit.device),
        fractions=fractions,
        engine=engine,
    )
    rows = []
    for label in maps:
        least, most = (curves[label, order] for order in ("negative", "positive"))
        gain = 100 * srg(least.fraction, least.correct.cpu(), most.correct.cpu())
        areas = (SRG, gain), (LEAST, least.auc_per_image()), (MOST, most.auc_per_image())
        rows += [(index, label, name, value) for name, own in areas
                 for index, value in enumerate(own.tolist())]  # fmt: skip
    return rows
