"""Label audit: pictures and pairs of classes ranked by how suspicious their labels are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import NonNegativeInt, PositiveInt

from attnguide.data.pictures import Item, Sample, Selection, class_indices
from attnguide.data.views import View, to_view
from attnguide.evaluation.rows import forward, row_of
from attnguide.evaluation.statistics import NOT_KNOWN, Estimate
from attnguide.evaluation.suspicion import (
    BESIDE,
    CLUSTERS,
    CONFIDENT,
    DETAIL,
    SIGNALS,
    auroc,
    beside_signal,
    confident_learning,
    detail_signal,
    runner_up,
    suspicious_pairs,
    unlike_its_class,
)
from attnguide.figures.claims import Claim, Table, slug
from attnguide.figures.contamination import ContaminationFigure
from attnguide.figures.experiment import Choices, Rows, Stored, Study
from attnguide.figures.selecting import join
from attnguide.figures.shown import pictures_of
from attnguide.figures.table_figure import one_per_model
from attnguide.models.sources import Timm
from attnguide.store.maps import relevance_of, stored_picture
from attnguide.types import ViT
from attnguide.viz.panels import Panel, draw_panels, short_name

STRONGER = "creatures_contaminated60"  # with twice the share of wrong labels
TOP = 0.05  # share of the pictures that a signal points at
PER_ROW = 4  # pictures beside each other


def told_apart(signal: str, among: str, table: Table) -> Estimate:
    """AUROC of a signal, among pictures of the wrong labels' class or of all."""
    rows, wrong = table.rows, table.rows["wrong"].eq(True)
    if not wrong.any():
        return NOT_KNOWN
    own = rows[rows["target"] == rows.loc[wrong, "target"].iloc[0]] if among == "of_class" else rows
    return auroc(own[signal], own["wrong"].eq(True), table.seed)


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

    title = "Label audit: which labels should be looked at again"
    claim = "Detail interpretation uncovers pictures of another class among the labels of a class."
    takes = frozenset({"guide"})
    needs_guide = True
    one_guide = True
    by = ("model",)
    shows = (
        "The most suspicious pictures by the mean rank of four signals. Above: the label, and "
        "the class that the model prefers to it; the map is that of Eq. 8 of the two, blue for "
        f"the second. Beneath: signals by which it is among the first {100 * TOP:g} %."
    )
    claims = tuple(
        Claim(f"label_audit.{name}.{slug(signal)}",
              f"{signal} tells wrong labels from right ones {words}, AUROC",
              partial(told_apart, signal, name), above=0.5, source="ours")
        for name, words in (("of_class", "of its class"), ("of_all", "of all"))
        for signal in SIGNALS
    )  # fmt: skip

    def models(self, choices: Choices, device: torch.device) -> Iterator[ViT]:
        """With the model of more contaminated labels, where there is one of contaminated labels."""
        yield from super().models(choices, device)
        if choices.pictures.contaminated and STRONGER not in choices.models.names:
            yield from Timm(name=STRONGER).load(device)

    def items(self, study: Study) -> Selection:
        """Labelled pictures; of creatures also impostors, under the label that they were given."""
        data, vit = study.pictures, study.vit
        found = data.singles(vit, exclude=study.guide_classes)
        _, mixed = class_indices(vit, data.framed) if data.contaminated else (0, 0)
        extra = [replace(item, label=mixed) for item in data.impostors(vit, self.impostors)]
        return join(found, Selection(tuple(extra)))

    def inputs(self, study: Study, item: Item, sample: Sample) -> tuple[View, View]:  # noqa: ARG002
        """The picture alone and beside the guide."""
        return to_view(study.vit, sample), study.guided_view(sample)

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """A row per picture: signals that need one picture, probabilities, and the map."""
        vit = study.vit
        images = torch.stack([alone.image for _, (alone, _) in batch])
        guided = torch.stack([beside.image for _, (_, beside) in batch])
        label = torch.tensor([item.label for item, _ in batch])
        logits = forward(vit, images)
        other = runner_up(logits, label)
        against, maps = detail_signal(vit, images, label, other)
        known = study.pictures.contaminated is not None
        views = [alone for _, (alone, _) in batch]
        named = (
            row_of(vit, view, target, relevance=relevance)
            for view, target, relevance in zip(views, label.tolist(), maps, strict=True)
        )
        table = pd.DataFrame(named).assign(
            **{
                "other_name": [vit.class_names[c] for c in other],
                "prediction": logits.argmax(1).tolist(),
                "wrong": [item.part == "contamination" if known else None for item, _ in batch],
                DETAIL: against,
                BESIDE: beside_signal(vit, guided, label, other),
                "probabilities": [
                    row.numpy().astype("<f4").tobytes() for row in logits.double().softmax(1)
                ],
            }
        )
        return Rows(table, pictures_of(vit, views))

    def measured(self, stored: Stored) -> pd.DataFrame:
        """With the signals that need all pictures of a model, and ranks of all signals."""
        parts = [_with_signals(own) for _, own in stored.rows.groupby("model", sort=False)]
        return pd.concat(parts, ignore_index=True)

    def summary(self, stored: Stored) -> pd.DataFrame:
        """AUROC of every signal where the truth is known; else the worst pairs of classes."""
        judged = self.judged(stored)
        if judged.empty:
            pairs = self._pairs(stored).items()
            parts = [table.head(20).assign(model=model) for model, table in pairs]
            return pd.concat(parts, ignore_index=True)
        names = {"claim": "measure", "low": "ci_low", "high": "ci_high"}
        return judged.rename(columns=names)[["model", "measure", "value", "ci_low", "ci_high", "n"]]

    def _pairs(self, stored: Stored) -> dict[str, pd.DataFrame]:
        """Pairs of classes by how suspicious they are, of every model."""
        rows = self.measured(stored).rename(columns={"target_name": "label_name"})
        parts = rows.groupby("model", sort=False)
        return {str(model): suspicious_pairs(own, SIGNALS) for model, own in parts}

    def tables(self, stored: Stored, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:  # noqa: ARG002
        """The pairs of classes that should be looked at first."""
        pairs = self._pairs(stored).items()
        return {f"Pairs of classes, {model}": table for model, table in pairs}

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """The most suspicious pictures of every model, the last model first."""
        parts = [own for _, own in self.measured(stored).groupby("model", sort=False)][::-1]
        return one_per_model(
            "Most suspicious,", pd.concat(parts), lambda own: _figure(stored, own.head(self.shown))
        )

    def worst(self, stored: Stored) -> pd.DataFrame:
        """The pictures that should be looked at first, and why."""
        rows = self.measured(stored)
        last = rows[rows["model"] == rows["model"].iloc[-1]].head(50)
        columns = {"target_name": "label", "other_name": "rather"}
        kept = ["image_id", "target", "target_name", "other_name", "suspicion", "why", *SIGNALS]
        return last[kept].rename(columns=columns).reset_index(drop=True)


def _with_signals(rows: pd.DataFrame) -> pd.DataFrame:
    """All signals and their ranks, the most suspicious picture first."""
    rows = rows.reset_index(drop=True)
    labels = rows["target"].to_numpy()
    probabilities = np.stack([np.frombuffer(p, "<f4") for p in rows["probabilities"]])
    maps = np.stack([relevance_of(row) for row in rows.itertuples()])
    rows[CONFIDENT] = confident_learning(probabilities.astype(np.float64), labels)
    rows[CLUSTERS] = unlike_its_class(maps.astype(np.float64), labels)
    ranks = rows[list(SIGNALS)].rank(pct=True)
    first = ranks >= 1 - TOP
    why = [", ".join(name for name in SIGNALS if line[name]) for _, line in first.iterrows()]
    rows = rows.assign(suspicion=ranks.mean(axis=1), why=why)
    return rows.sort_values("suspicion", ascending=False, kind="stable", ignore_index=True)


def _figure(stored: Stored, rows: pd.DataFrame) -> Figure:
    panels = []
    for row in rows.to_dict("records"):
        picture = stored_picture(stored.run_dir, f"{row['model']} {row['image_id']}")
        title = f"{short_name(row['target_name'])}, or {short_name(row['other_name'])}"
        note = row["why"] or "no signal alone"
        relevance = relevance_of(pd.Series(row))
        panels += [Panel(picture, title=title), Panel(picture, relevance, note=note)]
    width = 2 * PER_ROW
    return draw_panels([panels[n : n + width] for n in range(0, len(panels), width)])
