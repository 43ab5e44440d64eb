"""Explain a folder of pictures: a panel for each, raw maps, a table and an overview."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import PositiveInt

from attnguide.api import explain_many
from attnguide.data.grids import answers
from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import View, images_of, to_view
from attnguide.errors import InputError
from attnguide.evaluation.rows import explanation_rows
from attnguide.figures import explained
from attnguide.figures.experiment import Choices, Experiment, Rows, Stored, Study
from attnguide.figures.map_figure import check_reference, reference_class
from attnguide.findings import Findings
from attnguide.models.preprocess import pixels_of
from attnguide.store.maps import is_picture, picture_file, store_picture
from attnguide.viz.style import render

PANELS = "panels"  # folder of the run
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
    uses = frozenset({"method", "loss", "reference", "target", "guide"})
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
        found, left_out = study.pictures.all(study.vit), set[str]()
        is_drawn = study.pictures.name == "creatures" and not study.pictures.num_images
        chosen = found.items[:SCENES] if is_drawn else found.items
        if study.target in ("label", "predicted"):  # what the guide shows cannot be explained
            classes = (*study.guide_classes, *reference_class(study))
            left_out = {item.id for item in chosen if item.label in classes}
            if study.target == "predicted" and classes:
                said = answers(study.vit, chosen)
                left_out |= {item.id for item, answer in said if answer in classes}
        notes = [found.note]
        if left_out:
            notes.append(f"Pictures of the guide's class that were left out: {len(left_out)}.")
        chosen = tuple(item for item in chosen if item.id not in left_out)
        if study.target == "label" and any(item.label is None for item in chosen):
            study.pictures.check(labels=True)
        shown = (replace(item, shown=place) for place, item in enumerate(chosen))
        return Selection(tuple(shown), " ".join(filter(None, notes)))

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
        pictures = dict(zip(ids, pixels_of(vit.preprocess, first), strict=True))
        own = batch[0][1][0].own if guided else None
        return Rows(explanation_rows(vit, many, ids, labels, own), pictures)

    def draw(self, stored: Stored) -> Findings:
        """Overview, table and sentences; a panel of every picture."""
        rows = stored.all_rows
        pictures = sorted(rows.groupby("image_id", sort=False), key=lambda entry: entry[0])
        for name, part in pictures:
            if not is_picture(picture_file(stored.run_dir, name, PANELS)):
                panel = render(explained.draw_alone(stored, name, part))
                store_picture(stored.run_dir, name, panel, PANELS)
        shown = explained.one_per_class(pictures, self.overview)
        chosen = ", one of each class first," if len(pictures) > len(shown) else ""
        part = ", without the guide's part," if explained.is_guided(stored) else ""
        return Findings(
            figure=explained.draw_overview(stored, shown),
            summary=rows[SUMMARY].astype({"label": "Int64"}).sort_values("image_id", kind="stable"),
            caption=(
                f"{len(shown)} of {len(pictures)} pictures{chosen} as {rows['model'].iloc[0]} sees "
                "them, and the relevance of their patches for the target "
                f"({stored.config.get('target')}, loss {stored.loss}). Beneath each map: the "
                f"target with its probability, and the share of the relevance{part} that is "
                "positive (red). Every picture has a panel of its own in the folder panels; raw "
                "numbers are in maps.npz."
            ),
            found=tuple(explained.sentences(stored, rows)),
        )
