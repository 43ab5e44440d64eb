"""Sanity checks: random weights change a map; small noise and rounding do not; sums are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from annotated_types import Gt, Le
from matplotlib.figure import Figure
from pydantic import NonNegativeInt

from attnguide.data.pictures import Item, Selection
from attnguide.evaluation.rows import maps_of, row_of
from attnguide.evaluation.sanity import (
    completeness_rows,
    noise_rows,
    precision_rows,
    randomised_rows,
)
from attnguide.evaluation.statistics import Measure, of_kind
from attnguide.figures.claims import mean
from attnguide.figures.experiment import Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import join, to_show
from attnguide.figures.table_figure import Plot, one_per_model
from attnguide.methods import Method
from attnguide.viz.heat import HeatPanel, draw_heat
from attnguide.viz.style import method_label

HEAD, ALL, ALL_ABSOLUTE = "head lost", "all weights lost", "all weights lost, without signs"
ALL_SSIM = "all weights lost, SSIM"
NOISE, ROUNDING = "small noise", "decimal digits that float32 keeps"
SUM = "sum against what it should be, relative"
LIKE = 0.5  # rank correlation above which a map of random weights counts as unchanged


def of(check: str, column: str, stage: str = "") -> Measure:
    """A column of the rows of one check, of one stage."""

    @of_kind("mean")
    def values(rows: pd.DataFrame) -> pd.Series[float]:
        own = rows["check"] == check
        if stage:
            own &= rows["stage"] == stage
        return rows[column].astype(float).where(own)

    return values


SLOW_HERE = {"dix": 2}  # its gradients are of a network that is lost again and again


@dataclass
class SanityChecks(MethodStudy):
    """Randomise the weights from the head down, add noise, compute in float64, add up.

    Attributes:
        noise: Standard deviation of the noise, in image space [0, 1].
        precision_images: On how many pictures float32 is compared with float64.
        shown: How many pictures to show in the viewer.
    """

    noise: Annotated[float, Gt(0), Le(1)] = 0.01
    precision_images: NonNegativeInt = 8
    shown: NonNegativeInt = 2
    limits: dict[str, int] = field(default_factory=SLOW_HERE.copy)

    title = "Sanity checks: random weights, noise, rounding, sums"
    claim = (
        "A map that explains a model must change when the model's weights are lost, and stay when "
        "its picture changes invisibly. (The paper does not check this.)"
    )
    key = ("image_id", "model", "method", "check", "stage")
    budget = (4, 1)
    class_sensitive = True
    measures = {
        HEAD: of("random weights", "signed", "head"),
        ALL: of("random weights", "signed", "embedding"),
        ALL_ABSOLUTE: of("random weights", "absolute", "embedding"),
        ALL_SSIM: of("random weights", "ssim", "embedding"),
        NOISE: of("noise", "signed"),
        ROUNDING: lambda rows: -np.log10(of("precision", "error")(rows).clip(lower=1e-16)),
        SUM: of("completeness", "relative"),
    }
    claims = tuple(
        mean(method, measure, f"{label}: {words}", id=f"sanity.{name}.{method}", **bound)
        for method, label in (("complete", "complete"), ("gae", "GAE"))
        for measure, name, words, bound in (
            (ALL, "weights", "the map is lost with the weights", {"below": LIKE}),
            (HEAD, "head", "the map is lost with the head alone", {"below": LIKE}),
            (NOISE, "noise", "small noise leaves the map", {"above": 0.9}),
        )
    )
    plots = (
        Plot("Weights lost", (HEAD, ALL, ALL_ABSOLUTE), "rank correlation", (-1.0, 1.0), 0.0),
        Plot("Weights lost", (ALL_SSIM,), "SSIM"),
        Plot("Noise", (NOISE,), "rank correlation", (-1.0, 1.0)),
    )

    def items(self, study: Study) -> Selection:
        """Single pictures."""
        data, vit = study.pictures, study.vit
        return join(data.singles(vit), to_show(data.shown_singles(vit, self.shown)))

    def group(self, item: Item) -> bool:
        """Whether it is computed in float64 too."""
        return item.measured and item.number < self.precision_images

    def table(self, study: Study, entries: Entries, methods: Mapping[str, Method]) -> pd.DataFrame:
        """A row per picture, method, check and stage."""
        vit, seed = study.vit, study.seed
        images = torch.stack([view.image for _, view in entries])
        target = torch.tensor([view.targets[0] for _, view in entries])
        ids = [item.id for item, _ in entries]
        maps, _ = maps_of(vit, images, target, methods)
        rows = randomised_rows(vit, images, target, methods, maps, seed)
        rows += noise_rows(vit, images, ids, target, methods, maps, self.noise, seed)
        rows += completeness_rows(vit, images, target, methods, maps)
        if self.group(entries[0][0]):
            rows += precision_rows(vit, images, target, methods, maps)
        for row in rows:
            item, view = entries[row["index"]]
            drawn = item.shown is not None and row["check"] == "noise"
            kept = maps[row["method"]][row["index"]] if drawn else None
            row |= row_of(vit, view, view.targets[0], row["method"], kept)
        table = pd.DataFrame(rows).drop(columns="index")
        for column in ("error", "relative", "number"):
            table[column] = table[column].astype(float) if column in table else np.nan
        return table

    def caption(self, stored: Stored, model: str) -> str:
        """What is drawn."""
        lost = stored.rows[stored.rows["check"] == "random weights"]
        empty = int(lost["signed"].isna().sum())
        return (
            f"Rank correlation of each map ({model}) with that of the trained model, as weights "
            "are lost from the head down, each stage with all before it; signed, then without "
            "signs, then SSIM of the maps as drawn. Low is good. Maps without an order, which have "
            f"none: {empty}."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """A table of colours: methods by stages."""
        lost = stored.rows[stored.rows["check"] == "random weights"]
        return one_per_model("Weights lost,", lost, partial(_figure, stored.methods))


KINDS = (("signed", "signed maps"), ("absolute", "absolute values"), ("ssim", "SSIM"))


def _figure(methods: Sequence[str], lost: pd.DataFrame) -> Figure:
    """A panel for every way to compare maps."""
    stages = list(lost.sort_values("number", kind="stable")["stage"].unique())
    panels = []
    for column, words in KINDS:
        means = lost.pivot_table(index="method", columns="stage", values=column, dropna=False)
        names = [name for name in methods if name in means.index]
        values = means.reindex(index=names, columns=stages).to_numpy()
        panels.append(HeatPanel(words, [method_label(name) for name in names], stages, values))
    return draw_heat(panels)
