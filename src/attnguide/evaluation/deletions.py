"""Does a map know what in a picture matters? Cells or drawn pieces are left out, one at a time.

Cells are filled, in any picture. Pieces are those of drawn pictures, after FunnyBirds (Hesse,
Schaub-Meyer, Roth, ICCV 2023), here with signs: a piece's pixels are those that change when the
scene is drawn without it, so it is no approximation and no fill.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide.data.pictures import Sample
from attnguide.data.views import View, to_view
from attnguide.evaluation.metrics import spearman
from attnguide.evaluation.rows import explain_batch, first_targets, forward, row_of
from attnguide.losses import TWO_CLASS
from attnguide.methods import Method
from attnguide.types import ViT

PART, CLUTTER = "part", "clutter"
IDLE = 0.05  # share of the logit: clutter that changes it by less does not matter
CELLS = 4  # along each side, as the masked model was trained
Redraw = Callable[[Sample, Collection[str]], Sample]


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


@dataclass(frozen=True)
class Pieces:
    """A picture, its pieces, and how it is drawn without some of them.

    Attributes:
        sample: Whole.
        view: As the model sees it; its objects are the pieces.
        names: Of the pieces that some pixel shows.
        images: (K, 3, H, W), without each of them.
        redraw: Draws without some.
    """

    sample: Sample
    view: View
    names: tuple[str, ...]
    images: Tensor
    redraw: Redraw

    @cached_property
    def cover(self) -> NDArray[np.float64]:
        """(K, rows, cols) share of every patch that each piece covers."""
        return np.stack([np.asarray(share, dtype=np.float64) for share in self.view.objects])

    @property
    def is_animal(self) -> NDArray[np.bool_]:
        """(K,) whether a piece belongs to the animal."""
        return np.array([not name.startswith(CLUTTER) for name in self.names])

    @property
    def animal(self) -> tuple[str, ...]:
        """The pieces of the animal."""
        return tuple(compress(self.names, self.is_animal))

    def without(self, vit: ViT, names: Collection[str]) -> Tensor:
        """(3, H, W), the picture without these pieces."""
        return to_view(vit, self.redraw(self.sample, names)).image


def find_pieces(vit: ViT, sample: Sample, names: Sequence[str], redraw: Redraw) -> Pieces:
    """The pieces that some pixel shows, each with its pixels."""
    whole = np.asarray(sample.picture)
    kept, masks, images = [], [], []
    for name in names:
        other = redraw(sample, (name,))
        mask = (np.asarray(other.picture) != whole).any(-1)
        if mask.any():
            kept.append(name)
            masks.append(mask)
            images.append(to_view(vit, other).image)
    view = to_view(vit, replace(sample, masks=tuple(masks), parts=None, regions="pieces"))
    return Pieces(sample, view, tuple(kept), torch.stack(images), redraw)


def drops(vit: ViT, pieces: Sequence[Pieces]) -> tuple[list[NDArray[np.float64]], Tensor]:
    """By how much the label's logit falls without each piece, (K,) per picture; whole logits."""
    whole = torch.stack([one.view.image for one in pieces])
    answers = forward(vit, torch.cat([whole, *(one.images for one in pieces)]))
    clean, rest = answers[: len(pieces)], answers[len(pieces) :]
    found = []
    parts = rest.split([len(one.images) for one in pieces])
    for one, own, logits in zip(pieces, parts, clean, strict=True):
        target = one.view.targets[0]
        found.append((logits[target] - own[:, target]).double().numpy())
    return found, clean


def deletion_correlation(
    relevance: NDArray[np.floating], pieces: Pieces, fall: NDArray[np.float64]
) -> float:
    """Rank correlation of the animal's pieces: sum of the map over each, and fall of the logit.

    NaN for fewer than three pieces, and where either is constant.
    """
    own = pieces.is_animal
    if own.sum() < 3:
        return float("nan")
    return spearman((pieces.cover[own] * relevance).sum((1, 2)), fall[own])


def important(relevance: NDArray[np.floating], pieces: Pieces) -> tuple[str, ...]:
    """Pieces of the animal that hold more positive relevance than their area would."""
    own = pieces.cover[pieces.is_animal]
    mass = (own * np.maximum(relevance, 0)).sum((1, 2))
    area = own.sum((1, 2))
    return tuple(compress(pieces.animal, mass * area.sum() > area * mass.sum()))


def distraction(
    relevance: NDArray[np.floating], pieces: Pieces, fall: NDArray[np.float64], logit: float
) -> float:
    """Share of the positive relevance on clutter that does not matter, minus its share of the area.

    0 for a map without knowledge, below 0 for one that leaves such clutter out. NaN without any.
    """
    idle = ~pieces.is_animal & (np.abs(fall) < IDLE * abs(logit))
    positive = np.maximum(relevance, 0)
    if not idle.any() or positive.sum() == 0:
        return float("nan")
    cover = pieces.cover[idle].sum(0).clip(max=1)
    return float((cover * positive).sum() / positive.sum() - cover.mean())


def share_on_part(relevance: NDArray[np.floating], pieces: Pieces) -> float:
    """Share of the positive relevance on the distinguishing part; NaN where it is not seen."""
    positive = np.maximum(relevance, 0)
    if PART not in pieces.names or positive.sum() == 0:
        return float("nan")
    return float((pieces.cover[pieces.names.index(PART)] * positive).sum() / positive.sum())


def kept_and_lost(
    vit: ViT, pieces: Sequence[Pieces], maps: Mapping[str, Iterable[NDArray[np.floating]]]
) -> dict[tuple[str, int], tuple[bool, bool]]:
    """Whether the label is recognised by its important pieces alone, and lost without them.

    Args:
        vit: The model.
        pieces: B pictures.
        maps: By method, B each.

    Returns:
        By method and number of the picture.
    """
    images: dict[tuple[int, frozenset[str]], Tensor] = {}
    asked = {}
    for method, own in maps.items():
        for index, (one, relevance) in enumerate(zip(pieces, own, strict=True)):
            most = frozenset(important(relevance, one))
            rest = frozenset(one.animal) - most
            asked[method, index] = pair = ((index, rest), (index, most))
            for _, names in pair:
                if (index, names) not in images:
                    images[index, names] = one.without(vit, sorted(names))
    answers = forward(vit, torch.stack([*images.values()])).argmax(-1)
    predicted = dict(zip(images, answers.tolist(), strict=True))
    targets = [one.view.targets[0] for one in pieces]
    return {
        (method, index): (predicted[kept] == targets[index], predicted[lost] != targets[index])
        for (method, index), (kept, lost) in asked.items()
    }


def piece_rows(
    vit: ViT,
    pieces: Sequence[Pieces],
    siblings: Sequence[int | None],
    shown: Sequence[bool],
    methods: Mapping[str, Method],
    losses: Sequence[str],
) -> pd.DataFrame:
    """A row per picture and method: what its map of the logit knows of the pieces.

    `part_<loss>` is `share_on_part` of the map by this loss.

    Args:
        vit: The model.
        pieces: Of each picture.
        siblings: Of each picture: the class that two-class losses compare with.
        shown: Of each picture: whether its rows hold the raw maps.
        methods: By label.
        losses: By name.
    """
    falls, clean = drops(vit, pieces)
    images, targets = first_targets([one.view for one in pieces])
    by_loss = {}
    for loss in dict.fromkeys(["logit", *losses]):
        other = torch.tensor(siblings) if loss in TWO_CLASS else None
        by_loss[loss] = explain_batch(
            vit, images, targets, methods, loss=loss, reference=other
        ).maps
    maps = {label: own.numpy() for label, own in by_loss["logit"].items()}
    kept = kept_and_lost(vit, pieces, maps)
    rows = []
    for index, (one, fall) in enumerate(zip(pieces, falls, strict=True)):
        target = one.view.targets[0]
        is_right = int(clean[index].argmax()) == target
        logit = float(clean[index, target])
        for label in methods:
            relevance = maps[label][index]
            known, lost = kept[label, index] if is_right else (np.nan, np.nan)
            raw = by_loss["logit"][label][index] if shown[index] else None
            shares = {
                f"part_{loss}": share_on_part(by_loss[loss][label][index].numpy(), one)
                for loss in losses
            }
            rows.append(
                row_of(vit, one.view, target, label, raw)
                | {
                    "place": 0,
                    "regions": "pieces",
                    "note": "",
                    "pieces": int(one.is_animal.sum()),
                    "single_deletion": deletion_correlation(relevance, one, fall),
                    "kept": float(known),
                    "lost": float(lost),
                    "distraction": distraction(relevance, one, fall, logit),
                    **shares,
                }
            )
    return pd.DataFrame(rows)
