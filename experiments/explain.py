"""Explain a folder of pictures: a panel for each, raw maps, a table and an overview."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from attnguide.api import explain_many
from attnguide.data.find import find_pictures
from attnguide.data.source import ImageSource, IndexedImages
from attnguide.errors import InputError
from attnguide.evaluation.explained import (
    KEY,
    explanation_rows,
    picture_file,
    relevance_of,
    store_picture,
    stored_picture,
    write_maps,
)
from attnguide.findings import Findings
from attnguide.runs.job import Job, Runner
from attnguide.runs.record import Provenance
from attnguide.store.table import read
from attnguide.types import ViT
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label, render

INPUTS, PANELS = "inputs", "panels"  # folders of the run
LONGEST_ROW, BLOCK_WIDTH = 8, 5  # panels
SUMMARY = [
    *("image_id", "method", "target", "target_name", "probability", "logit"),
    *("prediction", "prediction_name", "label", "positive_share"),
]


@dataclass
class Explain(Runner):
    """Explain pictures for one target each, by any methods.

    Attributes:
        scenes: How many scenes of two creatures are explained where no folder is given.
        overview: How many pictures the figure shows; every picture has a panel of its own.
    """

    scenes: int = 8
    overview: int = 8

    title: ClassVar[str] = "Your pictures, explained"
    claim: ClassVar[str] = (
        "Red patches raise the target's logit, blue ones lower it, white ones do not matter. Each "
        "map is divided by its own largest magnitude, so colours must not be compared between "
        "pictures. The paper expects the complete correction to point out the target where a "
        "second class is in the picture, and to fail where there is only one."
    )

    def check(self, job: Job) -> None:
        """Data, target and model, before any weights are loaded."""
        if len(job.models) > 1:
            raise InputError(
                f"explain takes one model, got {len(job.models)}; run it once for each, or sweep "
                "with --multirun model=A,B"
            )
        if job.guide is not None:
            raise InputError("explain shows pictures as they are; pass guide=none")
        if self.overview < 1 or self.scenes < 1:
            raise InputError("runner.overview and runner.scenes must be at least 1")
        data = self._choice(job).data
        listing = find_pictures(data.name, data.root, seed=data.seed, num_images=data.num_images)
        if job.target == "label":
            ImageSource(listing.ids, listing.keys, listing.load, listing.form).require_labels()

    def compute(self, job: Job) -> None:
        """Rows, maps, the pictures as the model sees them, and their panels, batch by batch."""
        from attnguide.runs.predict import predict  # Lightning takes seconds, drawing needs none

        job = self._choice(job)
        with job.results(*KEY) as results:
            for vit in job.vits():
                source = job.source(vit)
                if job.target == "label":
                    source.require_labels()
                elif job.target != "predicted":
                    vit.class_index(job.target)
                images = IndexedImages(source, partial(_look, vit))
                predict(job, vit, partial(_explain, job, vit, source), images, results)
            if not results.done():
                raise InputError(f"none of the {len(source)} pictures can be read ({source.form})")

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Overview, table and sentences; also `maps.npz`, and panels that are missing."""
        rows = read(run_dir)
        methods = [name for name in settings.get("method", {}) if name in set(rows["method"])]
        rows = rows.set_index("method").loc[methods].reset_index()  # in the order asked for
        pictures = sorted(rows.groupby("image_id", sort=False), key=lambda entry: entry[0])
        write_maps(run_dir, rows)
        for name, part in pictures:
            if not picture_file(run_dir, PANELS, name).is_file():
                _store_panel(run_dir, name, part)
        shown = pictures[: self.overview]
        return Findings(
            figure=_overview(run_dir, shown),
            summary=rows[SUMMARY].astype({"label": "Int64"}).sort_values("image_id", kind="stable"),
            caption=(
                f"{'The first ' if len(pictures) > len(shown) else ''}{len(shown)} of "
                f"{len(pictures)} pictures as {rows['model'].iloc[0]} sees them, and the relevance "
                f"of their patches for the target ({settings.get('target')}, loss "
                f"{settings.get('loss')}). Beneath each map: the target with its probability, and "
                "the share of the relevance that is positive (red). Every picture has a panel of "
                "its own in the folder panels, and its raw numbers in maps.npz."
            ),
            found=tuple(_sentences(rows, methods, Provenance(run_dir).values.get("skipped", []))),
        )

    def _choice(self, job: Job) -> Job:
        """The job with scenes of creatures, where no folder is given."""
        if job.data.root is not None or job.data.name != "creatures":
            return job
        count = job.data.num_images or self.scenes
        return replace(job, data=replace(job.data, name="creature_pairs", num_images=count))


def _look(vit: ViT, picture: Image.Image) -> Tensor:
    return vit.preprocess([picture])[0]


def _explain(
    job: Job, vit: ViT, source: ImageSource, batch: Sequence[tuple[int, Tensor]]
) -> pd.DataFrame:
    """Rows of a batch; stores the pictures as the model sees them, and their panels."""
    ids = [source.ids[number] for number, _ in batch]
    labels = [source.labels[number] for number, _ in batch]
    images = torch.stack([image for _, image in batch])
    target: Any = labels if job.target == "label" else job.target
    many = explain_many(
        vit, images, target, methods=job.methods, loss=job.loss, reference=job.reference
    )
    rows = explanation_rows(vit, many, ids, labels, job.loss)
    for name, pixels in zip(ids, vit.preprocess.denormalize(images), strict=True):
        store_picture(job.run_dir, INPUTS, name, pixels)
        _store_panel(job.run_dir, name, rows[rows["image_id"] == name])
    return rows


def _store_panel(run_dir: Path, name: str, part: pd.DataFrame) -> None:
    """The panel of one picture: itself, then its map by each method."""
    store_picture(run_dir, PANELS, name, render(_alone(run_dir, name, part)))


def _alone(run_dir: Path, name: str, part: pd.DataFrame) -> Figure:
    """One picture: a row, or a block where the methods are many."""
    titles = ["image", *map(method_label, part["method"])]
    panels = [
        replace(panel, title=title)
        for panel, title in zip(_panels(run_dir, part), titles, strict=True)
    ]
    wide = len(panels) if len(panels) <= LONGEST_ROW else BLOCK_WIDTH
    rows = [panels[start : start + wide] for start in range(0, len(panels), wide)]
    return draw_panels(rows, title=name)


def _overview(run_dir: Path, pictures: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Several panels in one figure, two beside each other where the methods are few."""
    methods = pictures[0][1]["method"]
    if len(pictures) == 1:
        return _alone(run_dir, *pictures[0])
    beside = min(len(pictures), 2 if len(methods) <= 2 else 1)
    panels = [
        [replace(first, title=name), *others]
        for name, part in pictures
        for first, *others in [_panels(run_dir, part)]
    ]
    rows = [list(chain(*panels[start : start + beside])) for start in range(0, len(panels), beside)]
    return draw_panels(rows, column_titles=["image", *map(method_label, methods)] * beside)


def _panels(run_dir: Path, part: pd.DataFrame) -> list[Panel]:
    first = next(part.itertuples())
    picture = stored_picture(run_dir, INPUTS, first.image_id)
    label = f"label: {short_name(first.label_name)}\n" if first.label_name else ""
    seen = f"{short_name(first.prediction_name)} {first.prediction_probability:.2f}"
    panels = [Panel(picture, note=f"{label}predicted: {seen}")]
    for row in part.itertuples():
        note = f"{short_name(row.target_name)} {row.probability:.2f}\nred {row.positive_share:.0%}"
        panels.append(Panel(picture, relevance_of(row), note=note))
    return panels


def _sentences(rows: pd.DataFrame, methods: Sequence[str], skipped: Sequence[str]) -> list[str]:
    once = rows.drop_duplicates("image_id")
    told = [f"{len(once)} pictures were explained with {', '.join(map(method_label, methods))}."]
    if skipped:
        told.append(
            f"Skipped, because unreadable ({len(skipped)}): {', '.join(skipped[:10])}"
            f"{', ...' if len(skipped) > 10 else ''}."
        )
    labelled = once[once["label"].notna()]
    if len(labelled):
        right = int((labelled["label"] == labelled["prediction"]).sum())
        told.append(
            f"The model predicts the label in {right} of the {len(labelled)} that have one."
        )
    for method in methods:
        share = rows.loc[rows["method"] == method, "positive_share"]
        told.append(
            f"With {method_label(method)}, {share.median():.0%} of the relevance is positive in "
            f"the median picture (from {share.min():.0%} to {share.max():.0%})."
        )
    return told
