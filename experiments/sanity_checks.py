"""Sanity checks: random weights change a map; small noise and rounding do not; sums are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from attnguide.api import explain_many
from attnguide.data.pictures import Item, Selection
from attnguide.errors import InputError
from attnguide.evaluation.sanity import (
    cascade_rows,
    completeness_rows,
    noise_rows,
    precision_rows,
)
from attnguide.evaluation.statistics import Measure
from attnguide.figures.claims import Claim, mean
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import join, to_show
from attnguide.figures.table_figure import Plot
from attnguide.methods import Method
from attnguide.store.maps import as_columns
from attnguide.viz.heat import HeatPanel, draw_heat
from attnguide.viz.style import method_label

HEAD, ALL, ALL_ABSOLUTE = "head lost", "all weights lost", "all weights lost, without signs"
ALL_SSIM = "all weights lost, SSIM"
NOISE, ROUNDING = "small noise", "decimal digits that float32 keeps"
SUM = "sum against what it should be, relative"
LIKE = 0.5  # rank correlation above which a map of random weights counts as unchanged


def of(check: str, column: str, stage: str = "") -> Measure:
    """A column of the rows of one check, of one stage."""

    def values(rows: pd.DataFrame) -> pd.Series[float]:
        own = rows["check"] == check
        if stage:
            own &= rows["stage"] == stage
        return rows[column].astype(float).where(own)

    return values


# On how many pictures a slow method is measured.
LIMITS = {"dix": 2, "integrated_gradients": 4, "smoothgrad": 4, "vit_cx": 1, "tis": 1}


@dataclass
class SanityChecks(MethodStudy):
    """Randomise the weights from the head down, add noise, compute in float64, add up.

    Attributes:
        noise: Standard deviation of the noise, in image space [0, 1].
        precision_images: On how many pictures float32 is compared with float64.
        shown: How many pictures to show in the viewer.
    """

    noise: float = 0.01
    precision_images: int = 8
    shown: int = 2
    limits: dict[str, int] = field(default_factory=LIMITS.copy)

    title = "Sanity checks: random weights, noise, rounding, sums"
    claim = (
        "A map that explains a model must change when the model's weights are lost, and stay when "
        "its picture changes invisibly. (The paper does not check this.)"
    )
    key = ("image_id", "model", "method", "check", "stage")
    measures = {
        HEAD: of("random weights", "signed", "head"),
        ALL: of("random weights", "signed", "embedding"),
        ALL_ABSOLUTE: of("random weights", "absolute", "embedding"),
        ALL_SSIM: of("random weights", "ssim", "embedding"),
        NOISE: of("noise", "signed"),
        ROUNDING: lambda rows: -np.log10(of("precision", "error")(rows).clip(lower=1e-16)),
        SUM: of("completeness", "relative"),
    }
    plots = (
        Plot("Weights lost", (HEAD, ALL, ALL_ABSOLUTE), "rank correlation", (-1.0, 1.0), 0.0),
        Plot("Weights lost", (ALL_SSIM,), "SSIM"),
        Plot("Noise", (NOISE,), "rank correlation", (-1.0, 1.0)),
    )

    def check(self, choices: Choices) -> None:
        """Noise and counts."""
        if not 0 < self.noise <= 1:
            raise InputError(f"runner.noise must lie in (0, 1], in image space, got {self.noise}")
        if self.precision_images < 0:
            raise InputError(
                f"runner.precision_images must be 0 or a number, got {self.precision_images}"
            )
        super().check(choices)

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
        named: dict[str, Any] = {label: (method, {}) for label, method in methods.items()}
        images = torch.stack([view.image for _, view in entries])
        target = torch.tensor([view.targets[0] for _, view in entries])
        ids = [item.id for item, _ in entries]
        many = explain_many(vit, images, target, methods=named)
        maps = {label: found.relevance.cpu() for label, found in many.items()}
        rows = cascade_rows(vit, images, target, named, maps, seed)
        rows += noise_rows(vit, images, ids, target, named, maps, self.noise, seed)
        rows += completeness_rows(vit, images, target, methods, maps)
        if self.group(entries[0][0]):
            rows += precision_rows(vit, images, target, named, maps)
        for row in rows:
            item, view = entries[row["index"]]
            drawn = item.shown is not None and row["check"] == "noise"
            row |= as_columns(maps[row["method"]][row["index"]] if drawn else None)
            row |= {
                "image_id": item.id,
                "view": "alone",
                "target": view.targets[0],
                "target_name": vit.class_names[view.targets[0]],
            }
        table = pd.DataFrame(rows).drop(columns="index")
        for column in ("error", "relative", "number"):
            table[column] = table[column].astype(float) if column in table else np.nan
        return table

    @property
    def claims(self) -> Sequence[Claim]:  # type: ignore[override]
        """That each of the paper's two methods depends on the weights, and not on noise."""
        names = {"complete": "complete", "gae": "GAE"}
        return [
            claim
            for method, label in names.items()
            for claim in (
                mean(method, ALL, f"{label}: the map is lost with the weights", below=LIKE),
                mean(method, HEAD, f"{label}: the map is lost with the head alone", below=LIKE),
                mean(method, NOISE, f"{label}: small noise leaves the map", above=0.9),
            )
        ]

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
        figures: dict[str, Figure] = {}
        for model, rows in stored.rows.groupby("model", sort=False):
            lost = rows[rows["check"] == "random weights"]
            stages = lost.sort_values("number", kind="stable")["stage"].unique()
            figures[str(model)] = draw_heat([_panel(lost, stored, stages, column, words)
                                             for column, words in KINDS])  # fmt: skip
        first = next(iter(figures))
        return figures.pop(first), {f"Weights lost, {name}": f for name, f in figures.items()}


KINDS = (("signed", "signed maps"), ("absolute", "absolute values"), ("ssim", "SSIM"))


def _panel(
    lost: pd.DataFrame, stored: Stored, stages: Sequence[str], column: str, words: str
) -> HeatPanel:
    means = lost.pivot_table(index="method", columns="stage", values=column, dropna=False)
    methods = [name for name in stored.methods if name in means.index]
    label: Callable[[str], str] = method_label
    values = means.reindex(index=methods, columns=list(stages)).to_numpy()
    return HeatPanel(words, [label(name) for name in methods], list(stages), values)
