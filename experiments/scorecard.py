"""Scorecard: every method by every measure, on any model and pictures, and how stable it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import pandas as pd
from matplotlib.figure import Figure
from pydantic import NonNegativeInt

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import View, to_view
from attnguide.evaluation import scores
from attnguide.evaluation.perturbation import FRACTIONS, check_fractions
from attnguide.evaluation.scores import BETTER, compact
from attnguide.figures.claims import difference, slug
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import labelled_or_not
from attnguide.figures.table_figure import one_per_model
from attnguide.methods import Method
from attnguide.viz.charts import Dot, DotPanel, HeatPanel, draw_dots, draw_heat
from attnguide.viz.style import method_label

JUDGED = (scores.BOTH, scores.ON, scores.POINTING, scores.SRG, scores.NOISE)
LEGEND = ("better in this picture", "worse")


@dataclass
class Scorecard(MethodStudy):
    """Measure all methods in one pass; rank them, and say how far the ranking can be trusted.

    Attributes:
        grids: How many grids of four pictures are made.
        shown: How many grids, or else pairs, the viewer shows.
        fractions: Shares of the patches that are filled.
    """

    grids: NonNegativeInt = 12
    shown: NonNegativeInt = 2
    fractions: list[float] = field(default_factory=lambda: list(FRACTIONS))

    title = "Scorecard: which explanation can be trusted on this model"
    claim = (
        "Complete gradient correction is the best of the compared methods, above all in signs and "
        "in the perturbation tests."
    )
    uses = frozenset({"method", "guide", "engine"})
    key = ("image_id", "model", "method", "target", "measure")
    measures = {name: scores.named(name) for name in BETTER}
    claims = tuple(
        replace(difference("complete", "gae", name, f"{name}, complete minus GAE", above=0,
                           id=f"scorecard.{slug(name)}.complete_minus_gae"), source="ours")
        for name in JUDGED
    )  # fmt: skip
    budget = (4, 2)
    leaves_out = MethodStudy.leaves_out | {"absolute_libra"}  # ranks with absolute
    labelled = False
    one_guide = True
    shows = (
        "Methods by their mean rank over all measures ({model}): 0 is the best by each, 1 the "
        "worst. Bars are 95 % intervals over other pictures like these. Of the measures, three "
        "(points of AUC) are of one perturbation study."
    )

    def check(self, choices: Choices) -> None:
        """Fractions, limits and data."""
        check_fractions(self.fractions)
        super().check(choices)

    def items(self, study: Study) -> Selection:
        """Singles, pairs, grids; the first grids are shown."""
        return labelled_or_not(study, self.grids, self.shown)

    def inputs(self, study: Study, item: Item, sample: Sample) -> View:
        """The picture; of singles, with a guide if one is chosen."""
        if item.part or study.guide_picture is None:
            return to_view(study.vit, sample)
        return study.guided_view(sample)

    def group(self, item: Item) -> str:
        """Singles are perturbed; of pairs and grids the objects are known."""
        return item.part

    def table(self, study: Study, entries: Entries, methods: Mapping[str, Method]) -> pd.DataFrame:
        """A row per picture, target, method and measure."""
        views, items = [view for _, view in entries], [item for item, _ in entries]
        if items[0].part:
            shown = [item.shown is not None for item in items]
            return scores.localisation_scores(study.vit, views, shown, methods)
        images, target = scores.explained(study.vit, views, [item.label for item in items])
        return scores.faithfulness_scores(
            study.vit, images, [item.id for item in items], target, methods,
            fractions=self.fractions, seed=study.seed, engine=study.masked_model,
        )  # fmt: skip

    def remarks(self, stored: Stored) -> list[str]:
        """Which method to trust for what; which were measured on fewer pictures."""
        counts = stored.rows.groupby("method")["image_id"].nunique()
        few = counts[counts < counts.max()]
        slow = ", ".join(f"{method_label(str(name))} {count}" for name, count in few.items())
        parts = stored.rows.groupby("model", sort=False)
        trust = [scores.whom_to_trust(str(model), rows, stored.seed) for model, rows in parts]
        note = f"Slow methods were measured on fewer pictures: {slow} of {counts.max()}."
        return trust + [note] * bool(slow)

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Mean ranks; then the scorecard of every model, and how far measures agree."""
        ranks = partial(_ranks, stored.seed)
        figure, more = one_per_model("Mean ranks,", stored.rows, ranks)
        for model, own in self.summary(stored).groupby("model", sort=False):
            means = scores.table_of_means(own)
            more[f"Scorecard of {model}"] = _card(means)
            agree = HeatPanel("Kendall's tau between rankings", scores.agreement(means, BETTER))
            more[f"How far measures agree, {model}"] = draw_heat([agree])
        return figure, more

    def tables(self, stored: Stored, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Ranks, costs and the stability of rankings."""
        tables = {}
        for model, own in summary.groupby("model", sort=False):
            rows = stored.rows[stored.rows["model"] == model]
            tables[f"Ranks, {model}"] = scores.ranked_table(own, rows, BETTER)
            stable = scores.stability(rows, BETTER, stored.seed)
            tables[f"How stable the rankings are, {model}"] = stable
        return tables


def _ranks(seed: int, rows: pd.DataFrame) -> Figure:
    lines = scores.mean_ranks(rows, BETTER, seed).to_dict("records")
    dots = [Dot(row["method"], row["value"], row["ci_low"], row["ci_high"]) for row in lines]
    rows = [(method_label(dot.method), [dot]) for dot in dots]
    return draw_dots([DotPanel("Mean rank", "0 the best, 1 the worst", rows)])


def _card(means: pd.DataFrame) -> Figure:
    """Means coloured by rank: 1 the best, -1 the worst."""
    ranked = scores.ranks(means, BETTER).sort_values("mean rank", kind="stable")
    means, ranked = means.loc[ranked.index], ranked.drop(columns="mean rank")
    values = 1 - 2 * (ranked - 1) / (ranked.count() - 1).clip(lower=1)
    texts = [[compact(value) for value in row] for row in means.to_numpy()]
    return draw_heat([HeatPanel("", values.rename(index=method_label), texts, LEGEND)])
