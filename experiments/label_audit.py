"""Label audit: pictures and pairs of classes ranked by how suspicious their labels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from pydantic import NonNegativeInt, PositiveInt

from attnguide.data.pictures import Item, Sample, Selection, class_indices
from attnguide.data.views import View, to_guided_view, to_view
from attnguide.evaluation import suspicion
from attnguide.evaluation.suspicion import SIGNALS, TOP
from attnguide.figures.claims import Ask, Claim, slug
from attnguide.figures.contamination import ContaminationFigure
from attnguide.figures.experiment import Rows, Stored, Study
from attnguide.figures.selecting import join
from attnguide.figures.shown import pictures_of
from attnguide.figures.table_figure import one_per_model
from attnguide.findings import Findings
from attnguide.store.files import csv_bytes, write_atomic
from attnguide.store.maps import relevance_of
from attnguide.viz.panels import Panel, draw_panels, short_name

WIDTH = 8  # panels: 4 pictures, each with its map
ISSUES = "issues.csv"  # in the run's folder
THRESHOLD = "another class is confidently likelier, as for the usual picture of that class"


def told_apart(signal: str, among: str) -> Ask:
    """AUROC of a signal, among pictures of the wrong labels' class or of all."""
    return lambda table: suspicion.told_apart(table.rows, signal, of_class=among == "of_class")


@dataclass
class LabelAudit(ContaminationFigure):
    """Rank the labels of a folder by four signals; where the truth is known, judge the signals.

    Attributes:
        shown: How many of the most suspicious pictures the figure shows.
        impostors: Of creatures: how many pictures of the first class of `data.framed` are labelled
            as the second, as in the contaminated model's training.
    """

    shown: PositiveInt = 12
    impostors: NonNegativeInt = 12

    title = "Label audit: which labels to re-check"
    claim = "Detail interpretation uncovers pictures of another class among the labels of a class."
    uses = frozenset({"guide"})
    needs_guide = True
    one_guide = True
    by = ("model",)
    stronger = ("creatures_contaminated60",)  # with twice the share of wrong labels
    shows = (
        "The most suspicious pictures by the mean rank of four signals. Above: the label, and "
        "the class that the model prefers to it; the map is that of Eq. 8 of the two, blue for "
        f"the second. Beneath: signals by which it is among the first {100 * TOP:g} %. Signals are "
        "meant for fresh pictures, which the model was not trained on (creatures are drawn anew): "
        "of training pictures it may have learnt the wrong labels by heart."
    )
    claims = tuple(
        Claim(f"label_audit.{name}.{slug(signal)}",
              f"{signal} tells wrong labels of fresh pictures from right ones {words}, AUROC",
              told_apart(signal, name), above=0.5, source="ours")
        for name, words in (("of_class", "of its class"), ("of_all", "of all"))
        for signal in SIGNALS
    )  # fmt: skip

    def items(self, study: Study) -> Selection:
        """Labelled pictures; of creatures also impostors, under the label that they were given."""
        data, vit = study.pictures, study.vit
        if study.guide_classes:
            study.second_guide  # noqa: B018  # is read before data workers start
        _, mixed = class_indices(vit, data.framed) if data.contaminated else (0, 0)
        extra = [replace(item, label=mixed) for item in data.impostors(vit, self.impostors)]
        return join(data.singles(vit), Selection(tuple(extra)))

    def inputs(self, study: Study, item: Item, sample: Sample) -> tuple[View, View]:
        """The picture alone, and beside a guide of another class."""
        guide = study.guide_picture or study.second_guide
        assert guide is not None
        if guide.label in (item.label, *sample.targets):
            guide = study.second_guide
        return to_view(study.vit, sample), to_guided_view(study.vit, sample, guide, study.guide)

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """A row per picture: signals that need one picture, probabilities, and the map."""
        views, guided = zip(*(both for _, both in batch), strict=True)
        items, known = [item for item, _ in batch], study.pictures.contaminated
        wrong = [item.part == "contamination" if known else None for item in items]
        table = suspicion.audited_rows(study.vit, items, views, guided).assign(wrong=wrong)
        return Rows(table, pictures_of(study.vit, views))

    def select_rows(self, stored: Stored) -> pd.DataFrame:
        """With the signals that need all pictures of a model, and ranks of all signals."""
        return suspicion.with_all_signals(stored.rows)

    def summary(self, stored: Stored) -> pd.DataFrame:
        """AUROC of every signal where the truth is known; else the worst pairs of classes."""
        judged = self.claims_table(stored)
        if judged.empty:
            pairs = suspicion.suspicious_pairs(self.select_rows(stored))
            return pairs.groupby("model", sort=False).head(20)
        names = {"claim": "measure", "low": "ci_low", "high": "ci_high"}
        return judged.rename(columns=names)[["model", "measure", "value", "ci_low", "ci_high", "n"]]

    def remarks(self, stored: Stored) -> list[str]:
        """How many labels are suspicious, by which threshold."""
        issues = self.select_rows(stored).groupby("model", sort=False)["is_issue"]
        return [
            (f"{model}: {found} of {size} labels are suspicious" if found else
             f"{model}: nothing suspicious among {size} labels") + f" ({THRESHOLD}); see {ISSUES}."
            for model, found, size in issues.agg(["sum", "size"]).itertuples()
        ]  # fmt: skip

    def tables(self, stored: Stored, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:  # noqa: ARG002
        """Pairs of classes by how suspicious they are."""
        return {"Pairs of classes": suspicion.suspicious_pairs(self.select_rows(stored))}

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """The most suspicious pictures of every model, the last model first."""
        parts = [own for _, own in self.select_rows(stored).groupby("model", sort=False)][::-1]
        draw = partial(_figure, stored, self.shown)
        return one_per_model("Most suspicious,", pd.concat(parts), draw)

    def draw(self, stored: Stored) -> Findings:
        """All labels too, as a table to go through."""
        write_atomic(stored.run_dir / ISSUES, csv_bytes(suspicion.issues(self.select_rows(stored))))
        return super().draw(stored)

    def worst(self, stored: Stored) -> pd.DataFrame:
        """The pictures that should be looked at first, and why."""
        *_, (_, last) = self.select_rows(stored).groupby("model", sort=False)
        columns = ["image_id", "target_name", "other_name", "suspicion", "why", *SIGNALS]
        return last[columns].head(50).reset_index(drop=True)


def _figure(stored: Stored, count: int, rows: pd.DataFrame) -> Figure:
    panels = []
    for row in rows.head(count).to_dict("records"):
        picture = stored.picture(row["model"], row["image_id"])
        title = f"{short_name(row['target_name'])}, or {short_name(row['other_name'])}"
        note = row["why"] or "no signal alone"
        relevance = relevance_of(pd.Series(row))
        panels += [Panel(picture, title=title), Panel(picture, relevance, note=note)]
    return draw_panels([panels[n : n + WIDTH] for n in range(0, len(panels), WIDTH)])
