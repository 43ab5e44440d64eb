"""Explain a folder of pictures: a panel for each, raw maps, a table and an overview."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import PositiveInt

from attnguide.api import explain_many
from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import View, images_of, pixels_of, to_view
from attnguide.errors import InputError
from attnguide.evaluation.rows import explanation_rows
from attnguide.figures.experiment import Choices, Experiment, Rows, Stored, Study
from attnguide.figures.map_figure import check_reference, reference_class
from attnguide.findings import Findings
from attnguide.guides import NO_LAYOUT
from attnguide.store.maps import (
    is_picture,
    picture_file,
    relevance_of,
    store_picture,
    stored_picture,
)
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label, render

PANELS = "panels"  # folder of the run
LONGEST_ROW, BLOCK_WIDTH = 8, 5  # panels
SCENES = 8  # of creatures, where no folder and no number is given
SUMMARY = [
    *("image_id", "method", "target", "target_name", "probability", "logit"),
    *("prediction", "prediction_name", "label", "positive_share"),
]


@dataclass
class Explain(Experiment):
    """Explain pictures for one target each, by any methods.

    Attributes:
        overview: How many pictures the figure shows; every picture has a panel of its own.
    """

    overview: PositiveInt = 8

    title = "Your pictures, explained"
    claim = (
        "Red patches raise the target's logit, blue ones lower it, white ones do not matter. Each "
        "map is divided by its own largest magnitude, so colours must not be compared between "
        "pictures. The paper expects the complete correction to point out the target where a "
        "second class is in the picture, and to fail where there is only one."
    )
    takes = frozenset({"method", "loss", "reference", "target", "guide"})
    key = ("image_id", "model", "method", "target")

    def check(self, choices: Choices) -> None:
        """Data, target and model."""
        if len(choices.models.names) > 1:
            raise InputError(
                f"explain takes one model, got {len(choices.models.names)}; run it once for each, "
                "or sweep with --multirun model=A,B"
            )
        check_reference(choices, pairs=False, words=())
        if choices.target in choices.guide.images:
            raise InputError(
                f"guide.image shows {choices.target!r}, which is to be explained; pass another "
                "guide.image or target"
            )
        if choices.guide.is_chosen and choices.target != "label":
            raise InputError(
                f"guide.image=auto chooses by the label, got target={choices.target}; leave target "
                "out, or pass one guide.image"
            )
        choices.pictures.check(labels=choices.target == "label")

    def items(self, study: Study) -> Selection:
        """Every picture; all are stored with their maps."""
        if study.target not in ("label", "predicted"):
            target = study.vit.class_index(study.target)
            if target in study.guide_classes:
                raise InputError(
                    f"the guide shows {study.vit.class_names[target]!r}, which is to be explained; "
                    "pass another guide.image or target"
                )
        found = study.pictures.all(study.vit)
        chosen = found.items if study.pictures.num_images else found.items[: self._most(study)]
        notes = [found.note]
        if study.target == "label":  # what the guide shows cannot be explained beside it
            left_out = (*study.guide_classes, *reference_class(study))
            own = tuple(item for item in chosen if item.label in left_out)
            chosen = tuple(item for item in chosen if item not in own)
            if own:
                notes.append(f"Pictures of the guide's class that were left out: {len(own)}.")
        if study.target == "label" and any(item.label is None for item in chosen):
            study.pictures.check(labels=True)
        shown = (replace(item, shown=place) for place, item in enumerate(chosen))
        return Selection(tuple(shown), " ".join(filter(None, notes)))

    def _most(self, study: Study) -> int | None:
        return SCENES if study.pictures.name == "creatures" else None

    def inputs(self, study: Study, item: Item, sample: Sample) -> list[View]:
        """The picture as the model sees it; beside the guide where there is one, and then alone."""
        alone = to_view(study.vit, sample)
        if study.guide_picture is None:
            return [alone]
        asked = replace(sample, targets=() if item.label is None else (item.label,))
        if study.target != "label":
            asked = replace(sample, targets=())
        return [study.guided_view(asked), alone]

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """A row per picture and method, with the raw map."""
        vit, guided = study.vit, study.guide_picture is not None
        images = images_of([views[0] for _, views in batch])
        labels = [item.label for item, _ in batch]
        target: Any = labels if study.target == "label" else study.target
        if guided and target == "predicted":  # the answer to the picture alone
            alone = torch.stack([views[-1].image for _, views in batch])
            with torch.no_grad():
                target = vit.logits(alone.to(vit.device, vit.dtype)).argmax(-1).cpu()
        many = explain_many(
            vit, images, target, methods=study.methods, loss=study.loss, reference=study.reference
        )
        ids = [item.id for item, _ in batch]
        first = torch.stack([views[0].image for _, views in batch])
        pictures = dict(zip(ids, pixels_of(vit, first), strict=True))
        own = batch[0][1][0].own if guided else None
        return Rows(explanation_rows(vit, many, ids, labels, own), pictures)

    def draw(self, stored: Stored) -> Findings:
        """Overview, table and sentences; a panel of every picture."""
        rows = stored.all_rows
        pictures = sorted(rows.groupby("image_id", sort=False), key=lambda entry: entry[0])
        for name, part in pictures:
            if not is_picture(picture_file(stored.run_dir, name, PANELS)):
                store_picture(stored.run_dir, name, render(_alone(stored, name, part)), PANELS)
        shown = pictures[: self.overview]
        first = "The first " if len(pictures) > len(shown) else ""
        part = ", without the guide's part," if _is_guided(stored) else ""
        return Findings(
            figure=_overview(stored, shown),
            summary=rows[SUMMARY].astype({"label": "Int64"}).sort_values("image_id", kind="stable"),
            caption=(
                f"{first}{len(shown)} of {len(pictures)} pictures as {rows['model'].iloc[0]} sees "
                "them, and the relevance of their patches for the target "
                f"({stored.config.get('target')}, loss {stored.loss}). Beneath each map: the "
                f"target with its probability, and the share of the relevance{part} that is "
                "positive (red). Every picture has a panel of its own in the folder panels; raw "
                "numbers are in maps.npz."
            ),
            found=tuple(_sentences(stored, rows)),
        )


def _alone(stored: Stored, name: str, part: pd.DataFrame) -> Figure:
    """One picture: a row, or a block where the methods are many."""
    titles = ["image", *map(method_label, part["method"])]
    panels = [
        replace(panel, title=title)
        for panel, title in zip(_panels(stored, part), titles, strict=True)
    ]
    wide = len(panels) if len(panels) <= LONGEST_ROW else BLOCK_WIDTH
    return draw_panels([panels[n : n + wide] for n in range(0, len(panels), wide)], title=name)


def _overview(stored: Stored, pictures: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Several panels in one figure, two beside each other where the methods are few."""
    methods = pictures[0][1]["method"]
    if len(pictures) == 1:
        return _alone(stored, *pictures[0])
    beside = min(len(pictures), 2 if len(methods) <= 2 else 1)
    panels = [
        [replace(first, title=name), *others]
        for name, part in pictures
        for first, *others in [_panels(stored, part)]
    ]
    rows = [list(chain(*panels[start : start + beside])) for start in range(0, len(panels), beside)]
    return draw_panels(rows, column_titles=["image", *map(method_label, methods)] * beside)


def _panels(stored: Stored, part: pd.DataFrame) -> list[Panel]:
    first = next(part.itertuples())
    picture = stored_picture(stored.run_dir, first.image_id)
    label = f"label: {short_name(first.label_name)}\n" if first.label_name else ""
    seen = f"{short_name(first.prediction_name)} {first.prediction_probability:.2f}"
    panels = [Panel(picture, note=f"{label}predicted: {seen}")]
    for row in part.itertuples():
        note = f"{short_name(row.target_name)} {row.probability:.2f}\nred {row.positive_share:.0%}"
        panels.append(Panel(picture, relevance_of(row), note=note))
    return panels


def _is_guided(stored: Stored) -> bool:
    return (stored.config.get("guide") or {}).get("layout", NO_LAYOUT) != NO_LAYOUT


def _sentences(stored: Stored, rows: pd.DataFrame) -> Iterator[str]:
    methods, skipped = stored.methods, stored.provenance.get("skipped", [])
    beside = "Beside the guide, the" if _is_guided(stored) else "The"
    pictures = rows.drop_duplicates("image_id")
    yield f"{len(pictures)} pictures were explained with {', '.join(map(method_label, methods))}."
    if skipped:
        more = ", ..." if len(skipped) > 10 else ""
        yield f"Skipped, because unreadable ({len(skipped)}): {', '.join(skipped[:10])}{more}."
    labelled = pictures[pictures["label"].notna()]
    if len(labelled):
        right = int((labelled["label"] == labelled["prediction"]).sum())
        yield f"{beside} model predicts the label in {right} of {len(labelled)} with a label."
    for method in methods:
        share = rows.loc[rows["method"] == method, "positive_share"]
        yield (
            f"With {method_label(method)}, {share.median():.0%} of the relevance is positive in "
            f"the median picture (from {share.min():.0%} to {share.max():.0%})."
        )
