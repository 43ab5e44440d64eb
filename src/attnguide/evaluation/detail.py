"""Detail interpretation in numbers: how much lies on the part that tells two classes apart.

With creatures the distinguishing part is known to the pixel; with photographs only what the losses
have in common can be measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide import rules
from attnguide.data.pictures import GuideImage, Sample
from attnguide.data.views import View, to_guided_view, to_view
from attnguide.evaluation.localisation import correlation, net_share, relevance_by_region
from attnguide.evaluation.rows import explain_batch, row_of
from attnguide.evaluation.statistics import Estimate, Measure, of_kind, paired_difference
from attnguide.guides import Guide
from attnguide.methods import Method
from attnguide.store.maps import as_columns
from attnguide.tracing.trace import AttentionTrace, corrected_rollout
from attnguide.types import ViT
from attnguide.viz.panels import short_name

EQ8, DIFFERENCE, RATIO = "relative_contrast", "difference", "ratio"
DETAIL = "detail"  # as a method: complete correction of `DIFFERENCE`
ROLES = ("mixed", "shown")  # the class that pictures were mixed into, and the one they show
REGIONS = ("part", "object", "own")
Pair = tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """A picture and the classes that are compared in it.

    Attributes:
        view: The picture as the model sees it; its objects are the part that tells the classes
            apart and the whole animal, where they are known.
        classes: First and second class of the loss, then one more; places that are left are filled
            with the most probable other classes.
        is_shown: Its maps are kept, and those of a second pair of classes.
        turns: The second pair is the first, turned; else it is the first class and the third.
    """

    view: View
    classes: tuple[int, ...]
    is_shown: bool = False
    turns: bool = False

    def pairs(self, ranking: Sequence[int]) -> tuple[Pair, Pair]:
        """Both pairs of classes; `ranking` has the most probable class first."""
        first, second, third = list(dict.fromkeys([*self.classes, *ranking]))[:3]
        return (first, second), (second, first) if self.turns else (first, third)


def to_part_view(vit: ViT, sample: Sample, guide: GuideImage | None = None) -> View:
    """The view whose objects are the first animal's part and the animal; none if not known.

    Args:
        vit: The model.
        sample: The picture, its parts and masks.
        guide: To be put beside it, in the right half.
    """
    known = (sample.parts[0], sample.masks[0]) if sample.parts and sample.masks else None
    sample = replace(sample, masks=known)
    return to_view(vit, sample) if guide is None else to_guided_view(vit, sample, guide, Guide())


def part_regions(view: View) -> dict[str, NDArray[np.float64]]:
    """Share of every patch that part, object and the picture itself cover; empty if not known."""
    if not view.objects:
        return {}
    own = np.ones(view.objects[0].shape) if view.own is None else view.own
    shares = (np.asarray(share, dtype=np.float64) for share in (*view.objects, own))
    return dict(zip(REGIONS, shares, strict=True))


def detail_maps(
    trace: AttentionTrace, target: Tensor, reference: Tensor, losses: Sequence[str]
) -> dict[str, Tensor]:
    """Complete correction by loss, (B, rows, cols) each, on the forward pass of `trace`.

    The warning of Eq. 8 about negative logits is left out: whoever asks counts them.

    Args:
        trace: Its images are explained; its own target does not matter.
        target, reference: (B,) int64, first and second class of the losses.
        losses: Names; "logit" looks at the target alone.
    """
    vit, images, shared = trace.vit, trace.images, trace.shared
    target, reference = target.to(images.device), reference.to(images.device)
    maps = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "relative_contrast needs both logits positive")
        for loss in losses:
            own = AttentionTrace(vit, images, target, loss=loss, reference=reference, shared=shared)
            maps[loss] = corrected_rollout(own, rules.complete).cpu()
    return maps


def detail_rows(vit: ViT, comparisons: Sequence[Comparison], losses: Sequence[str]) -> pd.DataFrame:
    """One row per picture and loss; of pictures that are shown also one for their second pair.

    `place` is the number of the pair; the second is not measured, and explained by Eq. 8 alone.
    `view` says by which loss and against which class, so that every map has a name of its own.
    `like_eq8` is the correlation with the map of Eq. 8; `is_valid`, whether both logits are
    positive, as Eq. 8 needs. Other columns as `relevance_by_region` of `REGIONS`.
    """
    images = torch.stack([comparison.view.image for comparison in comparisons])
    images = images.to(vit.device, vit.dtype)
    trace = AttentionTrace(vit, images, torch.zeros(len(images), dtype=torch.int64))
    logits = trace.logits.cpu()
    rankings = logits.argsort(descending=True).tolist()
    pairs = torch.tensor([c.pairs(r) for c, r in zip(comparisons, rankings, strict=True)])
    rows = []
    for place in range(1 + any(comparison.is_shown for comparison in comparisons)):
        own = losses if place == 0 else (EQ8,)
        target, reference = pairs[:, place].unbind(1)
        maps = detail_maps(trace, target, reference, own)
        for index, comparison in enumerate(comparisons):
            if place and not comparison.is_shown:
                continue
            known = {
                "place": place,
                "measured": place == 0,
                **_classes(vit, logits[index], pairs[index, place].tolist()),
            }
            for loss in own:
                relevance, is_other = maps[loss][index], EQ8 in maps and loss != EQ8
                like = correlation(relevance, maps[EQ8][index]) if is_other else np.nan
                rows.append(
                    {
                        "image_id": comparison.view.id.removesuffix(f"@{comparison.view.kind}"),
                        "loss": loss,
                        "like_eq8": like,
                        **relevance_by_region(relevance, part_regions(comparison.view), REGIONS),
                        **as_columns(relevance if comparison.is_shown else None),
                        **known,
                        "view": f"{loss} against {known['reference']}",
                    }
                )
    return pd.DataFrame(rows)


def _classes(vit: ViT, logits: Tensor, pair: Sequence[int]) -> dict[str, Any]:
    first, second = (float(logits[index]) for index in pair)
    share = vit.probabilities(logits.double())
    top = logits.argsort(descending=True)[:3].tolist()
    return {
        "target": pair[0],
        "reference": pair[1],
        "target_name": vit.class_names[pair[0]],
        "reference_name": vit.class_names[pair[1]],
        "logit_target": first,
        "logit_reference": second,
        "probability_target": float(share[pair[0]]),
        "probability_reference": float(share[pair[1]]),
        "is_valid": first > 0 and second > 0,
        "top": "\n".join(f"{short_name(vit.class_names[i])} {share[i]:.2f}" for i in top),
    }


def two_class_rows(
    vit: ViT,
    views: Sequence[View],
    classes: Sequence[Pair],
    shown: Sequence[bool],
    methods: Mapping[str, Method],
) -> pd.DataFrame:
    """A row per picture, method and class, and of detail interpretation, whose method is `DETAIL`.

    Methods explain the logit; detail interpretation compares each class with the other by
    `DIFFERENCE`, since Eq. 8 needs both logits positive, which they are not in every model.

    Args:
        vit: The model.
        views: With part and object, as `to_part_view` makes them.
        classes: Of each view, in the order of `ROLES`.
        shown: Of each view: whether its maps are kept.
        methods: By label; may be none.
    """
    images = torch.stack([view.image for view in views]).to(vit.device, vit.dtype)
    targets = torch.tensor(classes)
    maps = explain_batch(vit, images, targets, methods).maps if methods else {}
    trace = AttentionTrace(vit, images, targets[:, 0].to(vit.device))
    first, second = targets.unbind(1)
    pairs = ((first, second), (second, first))
    own = [detail_maps(trace, *pair, (DIFFERENCE,))[DIFFERENCE] for pair in pairs]
    maps[DETAIL] = torch.stack(own, 1)
    logits = trace.logits.cpu()
    probabilities = vit.probabilities(logits.double())
    return pd.DataFrame(
        {
            **row_of(vit, view, target, label, relevance[index, place] if shown[index] else None),
            "role": role,
            "logit": float(logits[index, target]),
            "probability": float(probabilities[index, target]),
            "note": view.note,
            **relevance_by_region(relevance[index, place], part_regions(view), REGIONS),
        }
        for index, view in enumerate(views)
        for label, relevance in maps.items()
        for place, (role, target) in enumerate(zip(ROLES, classes[index], strict=True))
    )


def valid_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose loss means what it should: a quotient only where both logits are positive."""
    return rows[rows["is_valid"].astype(bool) | ~rows["loss"].isin((EQ8, RATIO))]


@of_kind("answers")
def both_positive(rows: pd.DataFrame) -> pd.Series[float]:
    """1 where both logits are positive, as Eq. 8 needs, 0 where not; once per picture."""
    return rows["is_valid"].astype(float).where(rows["loss"] == "logit")


def like_eq8(rows: pd.DataFrame) -> pd.Series[float]:
    """Correlation with the map of Eq. 8, where that means what it should."""
    return rows["like_eq8"].where(rows["is_valid"].astype(bool))


def probability_gap(rows: pd.DataFrame) -> pd.Series[float]:
    """Probability of the first class minus that of the second; once per picture."""
    gap = rows["probability_target"] - rows["probability_reference"]
    return gap.where(rows["loss"] == "logit")


def positive_share_of_map(rows: pd.DataFrame) -> pd.Series[float]:
    """Share of the whole map's mass that is positive."""
    whole = rows["positive"] + rows["negative"]
    return rows["positive"] / whole.where(whole > 0)


def part_of_picture(rows: pd.DataFrame) -> pd.Series[float]:
    """Share of the picture's own positive mass that lies on the part, without the guide's."""
    return rows["positive_part"] / rows["positive_own"].where(rows["positive_own"] > 0)


def contamination_change(rows: pd.DataFrame, measure: Measure, seed: int = 0) -> Estimate:
    """Mean change of a measure on the same pictures, contaminated minus clean labels.

    Args:
        rows: With `labels`, "clean" or "contaminated": those of the model's training.
        measure: Of rows.
        seed: Of the bootstrap.
    """
    clean, contaminated = (rows[rows["labels"] == name] for name in ("clean", "contaminated"))
    return paired_difference(contaminated, clean, measure, seed)


def mixed_minus_shown(rows: pd.DataFrame) -> pd.Series[float]:
    """Signed share of the part for the class it was mixed into, minus for the class shown.

    Twice the share with either sign, so that the mean over both classes is their difference; 0 for
    a map of zeros. The class shown is taken off, for a method that is blind to classes says the
    same of both.
    """
    share = net_share("part")(rows).fillna(0.0).where(rows["area_part"].notna())
    return share * np.where(rows["role"] == "mixed", 2.0, -2.0)
