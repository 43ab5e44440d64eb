"""Sanity checks: random weights change a map; small noise and rounding do not; sums are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated

import pandas as pd
from annotated_types import Gt, Le
from matplotlib.figure import Figure
from pydantic import NonNegativeInt, PositiveInt

from attnguide.data.pictures import Item, Selection
from attnguide.evaluation.rows import row_of
from attnguide.evaluation.sanity import NOISY, RANDOM, checked, digits, spread_of_draws, value_of
from attnguide.figures.claims import mean
from attnguide.figures.experiment import Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import join, to_show
from attnguide.figures.table_figure import Plot, one_per_model
from attnguide.methods import Method
from attnguide.viz.charts import HeatPanel, draw_heat
from attnguide.viz.style import method_label

HEAD, ALL, ALL_ABSOLUTE = "head lost", "all weights lost", "all weights lost, without signs"
ALL_SSIM = "all weights lost, SSIM"
NOISE, ROUNDING = "small noise", "decimal digits that float32 keeps"
SUM = "sum against what it should be, relative"
LIKE = 0.5  # rank correlation above which a map of random weights counts as unchanged
KINDS = (("signed", "signed maps"), ("absolute", "absolute values"), ("ssim", "SSIM"))
SLOW_HERE = {"dix": 2}  # its gradients are of a network that is lost again and again


@dataclass
class SanityChecks(MethodStudy):
    """Randomise the weights from the head down, add noise, compute in float64, add up.

    Attributes:
        draws: From how many seeds random weights are drawn.
        noise: Standard deviation of the noise, in image space [0, 1].
        precision_images: On how many pictures float32 is compared with float64.
        shown: How many pictures to show in the viewer.
    """

    draws: PositiveInt = 5
    noise: Annotated[float, Gt(0), Le(1)] = 0.01
    precision_images: NonNegativeInt = 8
    shown: NonNegativeInt = 2
    limits: dict[str, int] = field(default_factory=SLOW_HERE.copy)

    title = "Sanity checks: random weights, noise, rounding, sums"
    claim = (
        "A map that explains a model must change when the model's weights are lost, and stay when "
        "its picture changes invisibly. (The paper does not check this.)"
    )
    key = ("image_id", "model", "method", "check", "stage", "draw")
    budget = (4, 1)
    class_sensitive = True
    measures = {
        HEAD: value_of(RANDOM, "signed", "head"),
        ALL: value_of(RANDOM, "signed", "embedding"),
        ALL_ABSOLUTE: value_of(RANDOM, "absolute", "embedding"),
        ALL_SSIM: value_of(RANDOM, "ssim", "embedding"),
        NOISE: value_of(NOISY, "signed"),
        ROUNDING: digits,
        SUM: value_of("completeness", "relative"),
    }
    claims = tuple(
        replace(
            mean(method, measure, f"{label}: {words}", id=f"sanity.{name}.{method}", **bound),
            source="ours",
        )
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
        vit, views = study.vit, [view for _, view in entries]
        maps, table = checked(
            vit, views, methods, seed=study.seed, draws=self.draws, noise=self.noise,
            exact=self.group(entries[0][0]),
        )  # fmt: skip
        shown = [item.shown is not None for item, _ in entries]
        whose = [
            row_of(vit, views[row.index], views[row.index].targets[0], row.method,
                   maps[row.method][row.index] if shown[row.index] and row.check == NOISY else None)
            for row in table.itertuples(index=False)
        ]  # fmt: skip
        return pd.DataFrame(whose).join(table.drop(columns=["index", "method"]))

    def tables(self, stored: Stored, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:  # noqa: ARG002
        """How much the draw of weights matters."""
        return {f"Draws of weights, {model}": spread_of_draws(own) for model, own in _lost(stored)}

    def caption(self, stored: Stored, model: str) -> str:
        """What is drawn."""
        empty = sum(int(own["signed"].isna().sum()) for _, own in _lost(stored))
        return (
            f"Rank correlation of each map ({model}) with that of the trained model, as weights "
            "are lost from the head down, each stage with all before it; signed, then without "
            "signs, then SSIM of the maps, each shifted to a mean of 0 and divided by its largest "
            f"magnitude. Low is good. Head and all weights are means of {self.draws} draws of "
            "weights, whose spread is in a table; the stages between are of one. Maps without an "
            f"order, which have none: {empty}."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """A table of colours: methods by stages."""
        lost = pd.concat([own for _, own in _lost(stored)])
        return one_per_model("Weights lost,", lost, partial(_figure, stored.methods))


def _lost(stored: Stored) -> list[tuple[str, pd.DataFrame]]:
    """Rows of random weights, by model."""
    lost = stored.rows[stored.rows["check"] == RANDOM]
    return [(str(model), own) for model, own in lost.groupby("model", sort=False)]


def _figure(methods: Sequence[str], lost: pd.DataFrame) -> Figure:
    """A panel for every way to compare maps."""
    stages = lost.sort_values("number", kind="stable")["stage"].unique()
    panels = []
    for column, words in KINDS:
        means = lost.pivot_table(index="method", columns="stage", values=column, dropna=False)
        names = [name for name in methods if name in means.index]
        values = means.reindex(index=names, columns=stages).rename(index=method_label)
        panels.append(HeatPanel(words, values))
    return draw_heat(panels)
