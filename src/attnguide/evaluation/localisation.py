"""How much relevance lies where, and with which sign: what a map shows, as numbers.

A map is divided among regions of the picture: the target's object, the other objects, the
background; and, with a guide, the picture's own part and the guide's. Regions are shares of every
patch, so the mass of a region is a sum over patches weighted by them. Positive and negative mass
are kept apart, both as sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide.data.views import View, images_of
from attnguide.evaluation.metrics import spearman
from attnguide.evaluation.rows import answer, explain_batch, forward, number_of, row_of
from attnguide.evaluation.statistics import Measure, of_kind
from attnguide.losses import Loss, logit
from attnguide.methods import Method
from attnguide.types import ViT

KEY = ("image_id", "model", "view", "method", "target")
COMPETITORS = ("runner-up", "absent")  # classes that are explained beside the label, in this order
REFERENCES = ("other", "runner-up")  # words for the second class of a two-class loss
REGIONS = ("target", "other", "background", "own", "guide")
EMPTY = 1e-6  # area of a region that rounding alone has left
LIKE = {"runner-up": "like the runner-up's map", "absent": "like a random other class's map"}


def regions(
    objects: Sequence[Tensor], target: int, own: Tensor | None = None
) -> dict[str, NDArray[np.float64]]:
    """Regions of a map by name; those that are not known are absent.

    Args:
        objects: (rows, cols) each, share of the patches that each object covers; disjoint.
        target: Which of them belongs to the explained class; a larger number for none of them.
        own: (rows, cols), 1 on the picture's own part of a stitched view.
    """
    found: dict[str, NDArray[np.float64]] = {}
    if objects:
        each = np.stack([np.asarray(o, dtype=np.float64) for o in objects])
        mine = np.arange(len(each)) == target
        found["target"], found["other"] = each[mine].sum(0), each[~mine].sum(0)
        found["background"] = 1 - each.sum(0)
    if own is not None:
        found["own"] = np.asarray(own, dtype=np.float64)
        found["guide"] = 1 - found["own"]
    return found


def relevance_by_region(
    relevance: Tensor | NDArray[np.floating],
    where: Mapping[str, NDArray[np.float64]],
    names: Sequence[str] = REGIONS,
) -> dict[str, float]:
    """Sizes of the positive and the negative relevance, in all and in every region, and its area.

    Keys are `positive`, `negative`, and with `_<region>` for each of `names`, and
    `area_<region>` as a share of the picture; NaN for a region that is not known.
    """
    values = np.asarray(relevance, dtype=np.float64)
    parts = {"positive": np.maximum(values, 0), "negative": np.maximum(-values, 0)}
    found = {name: float(part.sum()) for name, part in parts.items()}
    for region in names:
        share = where.get(region)
        for name, part in parts.items():
            found[f"{name}_{region}"] = np.nan if share is None else float((part * share).sum())
        found[f"area_{region}"] = np.nan if share is None else float(np.mean(share))
    return found


def correlation(
    first: Tensor | NDArray[np.floating], second: Tensor | NDArray[np.floating]
) -> float:
    """Pearson correlation of two maps over patches; NaN if one of them is constant."""
    a, b = (np.asarray(m, dtype=np.float64).ravel() for m in (first, second))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else float("nan")


def positive_share(region: str) -> Measure:
    """Share of the positive mass that lies in a region, in [0, 1]; NaN where it is empty."""
    return _share(region, [f"positive_{region}"], ["positive"])


def negative_share(region: str) -> Measure:
    """Share of the negative mass that lies in a region, in [0, 1]; NaN where it is empty."""
    return _share(region, [f"negative_{region}"], ["negative"])


def mass_share(region: str) -> Measure:
    """Share of the mass of either sign that lies in a region, in [0, 1]; NaN where it is empty."""
    return _share(region, [f"positive_{region}", f"negative_{region}"], ["positive", "negative"])


def positive_within(region: str) -> Measure:
    """Share of a region's mass that is positive: 1 where all of it is red, 0 where it is blue."""
    return _share(region, [f"positive_{region}"], [f"positive_{region}", f"negative_{region}"])


def area(region: str) -> Measure:
    """Share of the picture that a region takes: what a map without knowledge would give it."""
    return of_kind("share")(lambda rows: rows[f"area_{region}"])


def net_positive(region: str) -> Measure:
    """1 where the signed mass of a region is positive, 0 where not, NaN where it is empty."""
    return of_kind("answers")(lambda rows: _larger(rows, "positive", "negative", region))


def net_negative(region: str) -> Measure:
    """1 where the signed mass of a region is negative, 0 where not, NaN where it is empty."""
    return of_kind("answers")(lambda rows: _larger(rows, "negative", "positive", region))


@of_kind("answers")
def all_net_positive(rows: pd.DataFrame) -> pd.Series[float]:
    """1 where the signed mass of the whole map is positive, 0 where it is not."""
    return _larger(rows, "positive", "negative")


@of_kind("answers")
def own_net_positive(rows: pd.DataFrame) -> pd.Series[float]:
    """1 where the signed mass of the picture's own part is positive; alone, of the whole map."""
    return net_positive("own")(rows).where(rows["view"] != "alone", all_net_positive(rows))


@of_kind("answers")
def right_signs(rows: pd.DataFrame) -> pd.Series[float]:
    """1 where the picture's part is net positive and the guide's net negative; NaN without one."""
    return net_positive("own")(rows) * net_negative("guide")(rows)


@of_kind("answers")
def both_signs(rows: pd.DataFrame) -> pd.Series[float]:
    """1 where the target's object is net positive and the others net negative, else 0."""
    return net_positive("target")(rows) * net_negative("other")(rows)


@of_kind("share")
def grid_pointing(rows: pd.DataFrame) -> pd.Series[float]:
    """Share of the positive mass in the target's cell of a grid; 0 where there is none.

    NaN for pictures that are no grids, and for maps of NaN. Chance is the share of a cell.

    Source: Böhle, Fritz, Schiele, CVPR 2021.
    """
    known = (rows["regions"] == "cells") & rows["positive"].notna()
    return positive_share("target")(rows).fillna(0.0).where(known)


@of_kind("share")
def guided_share(rows: pd.DataFrame) -> pd.Series[float]:
    """Share of the mass that is positive in the picture's part or negative in the guide's.

    A map that knows nothing of the parts has 0.5.
    """
    return _ratio(rows["positive_own"] + rows["negative_guide"], _mass(rows))


def column(name: str, kind: Literal["answers", "share", "mean"] = "mean") -> Measure:
    """The values of a column: answers, shares, or any numbers."""
    return of_kind(kind)(lambda rows: rows[name].astype(float))


def net_share(region: str) -> Measure:
    """Signed mass on a region over the mass of the whole map, in [-1, 1]."""
    positive, negative = f"positive_{region}", f"negative_{region}"
    return lambda rows: _ratio(rows[positive] - rows[negative], _mass(rows))


def like(role: str) -> Measure:
    """Correlation of the map of a competing class with the label's; see `LIKE`."""
    return lambda rows: rows["correlation"].where(rows["role"] == role)


def on_target(measure: Measure) -> Measure:
    """A measure of the maps of targets alone, not of their competitors."""

    def values(rows: pd.DataFrame) -> pd.Series[float]:
        return measure(rows).where(rows["role"] == "target")

    return of_kind(getattr(measure, "kind", "mean"))(values)


def _share(region: str, part: Sequence[str], whole: Sequence[str]) -> Measure:
    """Mass of some columns over that of others; NaN without mass, or where the region is empty."""

    @of_kind("share")
    def values(rows: pd.DataFrame) -> pd.Series[float]:
        found = _ratio(rows[list(part)].sum(axis=1), rows[list(whole)].sum(axis=1))
        return found.where(rows[f"area_{region}"] > EMPTY)

    return values


def _ratio(part: pd.Series[float], whole: pd.Series[float]) -> pd.Series[float]:
    return part / whole.where(whole > 0)


def _mass(rows: pd.DataFrame) -> pd.Series[float]:
    """Of either sign, of the whole map."""
    return rows["positive"] + rows["negative"]


def _larger(rows: pd.DataFrame, one: str, other: str, region: str = "") -> pd.Series[float]:
    """1 where there is more mass of one sign than of the other, NaN where a map is NaN."""
    end = f"_{region}" if region else ""
    more, less = rows[f"{one}{end}"], rows[f"{other}{end}"]
    known = more.notna() & less.notna()
    if region:
        known &= rows[f"area_{region}"] > EMPTY
    return (more > less).astype(float).where(known)


def localisation_rows(
    vit: ViT,
    views: Sequence[View],
    shown: Sequence[bool],
    methods: Mapping[str, Method],
    *,
    loss: Loss = logit,
    reference: str | None = None,
    competitors: int = 0,
) -> pd.DataFrame:
    """Rows of `results.parquet`: where the relevance of every map lies, and how like the first.

    `place` counts the targets of a view; `role` is "target", "runner-up" or "absent".

    Args:
        vit: The model.
        views: All with the same number of targets.
        shown: Of each view: whether its rows hold the raw maps.
        methods: By label.
        loss: What is differentiated.
        reference: Second class of a two-class loss: "other", the view's other target; "runner-up",
            the most probable class but the target; or a class.
        competitors: How many of `COMPETITORS` are explained too: 1 adds the most probable other
            class, 2 also one that its id picks at random.
    """
    images = torch.stack([view.image for view in views])
    explained = images_of(views)
    own = torch.tensor([view.targets for view in views])
    extra = _competitors(vit, images, views)[:, :competitors] if competitors else own[:, :0]
    targets = torch.cat([own, extra], 1)
    if reference is None:
        batch = explain_batch(vit, explained, targets, methods, loss=loss)
        maps, logits = batch.maps, batch.logits
    else:  # every column of targets has second classes of its own
        columns = []
        for target in targets.unbind(1):
            second = _references(vit, images, own, target, reference)
            columns.append(
                explain_batch(vit, explained, target, methods, loss=loss, reference=second)
            )
        maps = {name: torch.stack([one.maps[name] for one in columns], 1) for name in methods}
        logits = columns[0].logits
    rows = []
    for index, view in enumerate(views):
        count = len(view.targets)
        for place, target in enumerate(targets[index].tolist()):
            where = regions(view.objects, place, view.own)
            for label, relevance in maps.items():
                each = relevance[index]
                kept = each[place] if shown[index] else None
                rows.append(
                    row_of(vit, view, target, label, kept)
                    | {
                        "place": place,
                        "role": "target" if place < count else COMPETITORS[place - count],
                        **answer(vit, logits[index], target),
                        "correlation": correlation(each[0], each[place]) if place else np.nan,
                        "rank_correlation": spearman(each[0], each[place]) if place else np.nan,
                        "regions": view.regions,
                        "note": view.note,
                        **relevance_by_region(each[place], where),
                    }
                )
    return pd.DataFrame(rows)


def _competitors(vit: ViT, images: Tensor, views: Sequence[View]) -> Tensor:
    """(B, 2) the most probable class that is no target, and one at random of the others."""
    chosen = []
    for row, view in zip(forward(vit, images), views, strict=True):
        row[list(view.targets)] = -torch.inf
        second = int(row.argmax())
        others = [c for c in range(len(row)) if c not in (*view.targets, second)]
        chosen.append([second, others[number_of(view.id, len(others))]])
    return torch.tensor(chosen)


def _references(vit: ViT, images: Tensor, own: Tensor, target: Tensor, reference: str) -> Tensor:
    """(B,) the second class of each image's loss."""
    if reference == "other":
        first, second = own[:, 0], own[:, -1]
        return torch.where(target == first, second, first)
    if reference == "runner-up":
        return forward(vit, images).scatter(1, target.unsqueeze(1), -torch.inf).argmax(-1)
    return torch.full_like(target, vit.class_index(reference))
