"""Label audit: pictures and pairs of classes ranked by how suspicious their labels are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from attnguide.data.pictures import Item, Sample, Selection, class_indices
from attnguide.data.views import View, pixels_of, to_guided_view, to_view
from attnguide.errors import InputError
from attnguide.evaluation.pieces import forward
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
from attnguide.figures.claims import COLUMNS
from attnguide.figures.contaminated import ContaminationFigure
from attnguide.figures.experiment import Choices, Rows, Stored, Study
from attnguide.figures.selecting import join
from attnguide.findings import Findings
from attnguide.models.sources import Timm
from attnguide.store.maps import as_columns, relevance_of, stored_picture
from attnguide.types import ViT
from attnguide.viz.panels import Panel, draw_panels, short_name

STRONGER = "creatures_contaminated60"  # with twice the share of wrong labels
TOP = 0.05  # share of the pictures that a signal points at
PER_ROW = 4  # pictures beside each other


@dataclass
class LabelAudit(ContaminationFigure):
    """Rank the labels of a folder by four signals; where the truth is known, judge the signals.

    Attributes:
        shown: How many of the most suspicious pictures the figure shows.
        impostors: Of creatures: how many pictures of the first class of `data.framed` are labelled
            as the second, as in the contaminated model's training.
    """

    shown: int = 12
    impostors: int = 12

    title = "Label audit: which labels should be looked at again"
    claim = "Detail interpretation uncovers pictures of another class among the labels of a class."
    takes = frozenset({"guide"})

    def check(self, choices: Choices) -> None:
        """A guide, counts, labels."""
        if not choices.guide.is_shown:
            raise InputError("a label audit needs a guide; pass guide=right, left, top or bottom")
        if self.shown < 1 or self.impostors < 0:
            raise InputError(
                f"runner.shown must be at least 1 and runner.impostors 0 or more, got {self.shown} "
                f"and {self.impostors}"
            )
        super().check(choices)

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
        assert study.guide_picture is not None
        alone = to_view(study.vit, sample)
        return alone, to_guided_view(study.vit, sample, study.guide_picture, study.guide)

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
        table = pd.DataFrame(
            {
                "image_id": [item.id for item, _ in batch],
                "view": "alone",
                "method": "complete",
                "target": label.tolist(),
                "target_name": [vit.class_names[c] for c in label],
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
        columns = pd.DataFrame([as_columns(relevance) for relevance in maps])
        names = (f"{vit.name} {item.id}" for item, _ in batch)
        return Rows(table.join(columns), dict(zip(names, pixels_of(vit, images), strict=True)))

    def measured(self, stored: Stored) -> pd.DataFrame:
        """With the signals that need all pictures of a model, and ranks of all signals."""
        parts = [_with_signals(own) for _, own in stored.rows.groupby("model", sort=False)]
        return pd.concat(parts, ignore_index=True)

    def summary(self, stored: Stored) -> pd.DataFrame:
        """AUROC of every signal where the truth is known; else the worst pairs of classes."""
        judged = self.judged(stored)
        if judged.empty:
            return pd.concat(
                [
                    suspicious_pairs(_named(own), SIGNALS).head(20).assign(model=model)
                    for model, own in self.measured(stored).groupby("model", sort=False)
                ],
                ignore_index=True,
            )
        names = {"claim": "measure", "low": "ci_low", "high": "ci_high"}
        return judged.rename(columns=names).drop(columns="verdict")

    def judged(self, stored: Stored) -> pd.DataFrame:
        """Whether each signal tells wrong labels from right ones of the same class, and of all."""
        lines = []
        for model, rows in self.measured(stored).groupby("model", sort=False):
            wrong = rows[rows["wrong"].eq(True)]
            if wrong.empty:
                continue
            alike = rows[rows["target"] == wrong["target"].iloc[0]]
            for words, own in (("of its class", alike), ("of all", rows)):
                for signal in SIGNALS:
                    found = auroc(own[signal], own["wrong"].eq(True), stored.seed)
                    claim = f"{signal} tells wrong labels from right ones {words}, AUROC"
                    line = (model, claim, found.value, found.low, found.high, found.n)
                    verdict = found.verdict(above=0.5)
                    lines.append(dict(zip(COLUMNS, (*line, verdict), strict=True)))
        return pd.DataFrame(lines, columns=list(COLUMNS))

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What is shown."""
        return (
            "The most suspicious pictures by the mean rank of four signals. Above: the label, and "
            "the class that the model prefers to it; the map is that of Eq. 8 of the two, blue for "
            f"the second. Beneath: signals by which it is among the first {100 * TOP:g} %."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """The most suspicious pictures of every model, the last model first."""
        parts = list(self.measured(stored).groupby("model", sort=False))[::-1]
        figures = {str(m): _figure(stored, own.head(self.shown)) for m, own in parts}
        first = next(iter(figures))
        return figures.pop(first), {f"Most suspicious, {name}": f for name, f in figures.items()}

    def worst(self, stored: Stored) -> pd.DataFrame:
        """The pictures that should be looked at first, and why."""
        rows = self.measured(stored)
        last = rows[rows["model"] == rows["model"].iloc[-1]].head(50)
        columns = {"target_name": "label", "other_name": "rather"}
        kept = ["image_id", "target", "target_name", "other_name", "suspicion", "why", *SIGNALS]
        return last[kept].rename(columns=columns).reset_index(drop=True)

    def draw(self, stored: Stored) -> Findings:
        """With the pairs of classes that should be looked at first."""
        found = super().draw(stored)
        tables = {
            f"Pairs of classes, {model}": suspicious_pairs(_named(rows), SIGNALS)
            for model, rows in self.measured(stored).groupby("model", sort=False)
        }
        return replace(found, tables=tables)


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.rename(columns={"target_name": "label_name"})


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
