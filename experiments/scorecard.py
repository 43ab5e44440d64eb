"""Scorecard: every method by every measure, on any model and pictures, and how stable it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import NonNegativeInt

from attnguide.data.grids import grids
from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import View, to_view
from attnguide.errors import InputError
from attnguide.evaluation import scores
from attnguide.evaluation.perturbation import FRACTIONS, check_fractions
from attnguide.evaluation.ranking import agreement, ranks, stability, table_of_means
from attnguide.evaluation.statistics import Measure
from attnguide.figures.claims import MethodComparison, slug
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import in_part, join, to_show
from attnguide.figures.table_figure import one_per_model
from attnguide.methods import Method, describe_methods
from attnguide.viz.heat import HeatPanel, draw_heat
from attnguide.viz.style import method_label

PAIRS, GRIDS = "pairs", "grids"  # parts of the study; singles are the main one


def named(measure: str) -> Measure:
    """The values of the rows of one measure."""
    return lambda rows: rows["value"].astype(float).where(rows["measure"] == measure)


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
    takes = frozenset({"method", "guide", "engine"})
    key = ("image_id", "model", "method", "target", "measure")
    measures = {name: named(name) for name in scores.BETTER}
    claims = tuple(
        MethodComparison(f"scorecard.{slug(measure)}", first, measure, f"{words}, {label} minus")
        for first, label in (("complete", "complete"), ("gae", "GAE"))
        for measure, words in (
            (scores.BOTH, "both signs right"),
            (scores.POINTING, "grid pointing"),
            (scores.SRG, "perturbation gain (SRG)"),
        )
    )
    budget = (4, 2)
    leaves_out = MethodStudy.leaves_out | {"absolute_libra"}  # ranks with absolute
    labelled = False
    one_guide = True

    def check(self, choices: Choices) -> None:
        """Fractions, limits and data."""
        check_fractions(self.fractions)
        super().check(choices)

    def items(self, study: Study) -> Selection:
        """Singles, pairs, grids; the first grids are shown.

        Without labels that the model knows, pictures are what the model says they are.
        """
        vit, data = study.vit, study.pictures
        try:
            singles = data.singles(vit, exclude=study.guide_classes)
            pairs = data.pairs(vit)
        except InputError as error:
            reason = str(error).split(";")[0]
            note = f"Every picture is explained for the model's answer: {reason}."
            singles, pairs = replace(data.all(vit), note=note), Selection(())
        pairs = in_part(pairs, PAIRS)
        made = grids(vit, singles.items, self.grids, data.seed)
        shown = (made.items or pairs.items)[: self.shown]
        return join(singles, pairs, made, to_show(Selection(shown)))

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
        images = torch.stack([view.image for view in views])
        return scores.faithfulness_scores(
            study.vit,
            images,
            [item.id for item in items],
            _targets(study, items, images),
            methods,
            fractions=self.fractions,
            seed=study.seed,
            engine=study.masked_model,
        )

    def caption(self, stored: Stored, model: str) -> str:
        """What the colours are."""
        counts = stored.rows.groupby("method")["image_id"].nunique()
        few = counts[counts < counts.max()]
        slow = ", ".join(f"{method_label(str(name))} {count}" for name, count in few.items())
        return (
            f"Means of every measure ({model}); red is the best of a column, blue the worst. "
            "Methods are in the order of their mean rank over all columns, of which three are of "
            "one perturbation study (points of AUC). "
            + (f"Slow methods were measured on fewer pictures: {slow} of {counts.max()}. " if slow
               else "")
        )  # fmt: skip

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """The scorecard of every model, and how far measures agree."""
        summary = self.summary(stored)
        figure, more = one_per_model("Scorecard of", summary, _card)
        agree = {
            f"How far measures agree, {model}": _agreement(own)
            for model, own in summary.groupby("model", sort=False)
        }
        return figure, more | agree

    def tables(self, stored: Stored, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Ranks, costs and the stability of rankings."""
        tables = {}
        for model, own in summary.groupby("model", sort=False):
            rows = stored.rows[stored.rows["model"] == model]
            tables[f"Ranks, {model}"] = _ranked(own, rows)
            tables[f"How stable the rankings are, {model}"] = stability(
                rows, {n: b for n, b in scores.BETTER.items() if n in set(own["measure"])},
                stored.seed,
            )  # fmt: skip
        return tables


def _targets(study: Study, items: Sequence[Item], images: torch.Tensor) -> torch.Tensor:
    """(B,) the label of each picture, or what the model says it is."""
    vit = study.vit
    with torch.no_grad():
        predicted = vit.logits(images.to(vit.device, vit.dtype)).argmax(-1).cpu().tolist()
    pairs = zip(items, predicted, strict=True)
    return torch.tensor([said if item.label is None else item.label for item, said in pairs])


def _card(summary: pd.DataFrame) -> Figure:
    """Means coloured by rank: 1 the best, -1 the worst."""
    means = table_of_means(summary)
    ranked = ranks(means, scores.BETTER)
    order = ranked["mean rank"].sort_values(kind="stable").index
    means, ranked = means.loc[order], ranked.loc[order].drop(columns="mean rank")
    span = (ranked.count() - 1).clip(lower=1)
    texts = [[_number(value) for value in row] for row in means.to_numpy()]
    labels = [method_label(name) for name in order]
    values = (1 - 2 * (ranked - 1) / span).to_numpy()
    title = "colours: 1 for the best method of a column, \N{MINUS SIGN}1 for the worst"
    return draw_heat([HeatPanel(title, labels, list(means), values, texts)])


def _agreement(summary: pd.DataFrame) -> Figure:
    alike, title = (
        agreement(table_of_means(summary), scores.BETTER),
        "Kendall's tau between rankings",
    )
    return draw_heat([HeatPanel(title, list(alike.index), list(alike), alike.to_numpy())])


def _number(value: float) -> str:
    if not np.isfinite(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"


def _ranked(summary: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Ranks by every measure, the mean one first; cost and number of pictures last."""
    ranked = ranks(table_of_means(summary), scores.BETTER)
    facts = describe_methods().set_index("name")
    pictures = rows.groupby("method")["image_id"].nunique()
    first = ranked.pop("mean rank")
    table = pd.concat([first, ranked], axis=1).assign(
        pictures=pictures.reindex(ranked.index),
        cost=[facts["cost"].get(name.removesuffix("_libra"), "") for name in ranked.index],
    )
    return table.sort_values("mean rank", kind="stable").rename_axis("method").reset_index()
