"""Figure 2: the pipeline drawn from data, and what its steps do in numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from attnguide.data.case import Case
from attnguide.data.cases import pair_cases, shown_pairs
from attnguide.data.views import View, look
from attnguide.evaluation.explained import store_picture, stored_picture
from attnguide.evaluation.localisation import correlation, pick, summarise, text
from attnguide.findings import Findings
from attnguide.models.preprocess import Preprocess
from attnguide.propagate import rollout
from attnguide.rules import complete
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import check_choice
from attnguide.store.files import write_atomic
from attnguide.store.table import read, save_maps
from attnguide.tracing.trace import AttentionTrace, corrected_rollout
from attnguide.types import ViT
from attnguide.viz.panels import short_name
from attnguide.viz.pipeline import Pipeline, draw_pipeline

MEASURES = {
    "share of gradient times attention below zero": lambda rows: rows["negative"],
    "correlation of the map with the plain sum over layers": lambda rows: rows["first_order"],
    "gap between the class row and the whole product": lambda rows: rows["gap"],
}
_DROPPED, _SUM, _GAP = MEASURES


@dataclass
class Fig02Pipeline(Runner):
    """Draw one picture's way through the method; measure its steps on many.

    Attributes:
        pictures: The user's own to draw instead: {file: PATH, classes: [NAME, ...]}; the first.
    """

    pictures: list[dict[str, Any]] = field(default_factory=list)

    title: ClassVar[str] = "Figure 2: the pipeline"
    claim: ClassVar[str] = (
        "Each layer's attention is multiplied by its gradient, averaged over heads, given the "
        "identity for the residual connection, and the layers are multiplied. GAE keeps the "
        "positive part of the gradient only; the complete correction keeps all of it."
    )

    def check(self, job: Job) -> None:
        """Pictures and data, before any weights are loaded."""
        check_choice(job, self.pictures)

    def compute(self, job: Job) -> None:
        """Rows of every picture; the matrices of the one that is drawn."""
        from attnguide.runs.predict import predict  # Lightning takes seconds, drawing needs none

        with job.results("image_id", "model") as results:
            for vit in job.vits():
                cases = pair_cases(vit, job.data)
                predict(job, vit, partial(_rows, vit), cases, results)
                if not (job.run_dir / "pipeline.npz").is_file():
                    case = shown_pairs(vit, job.data, 1, self.pictures)[0]
                    _store(job, vit, look(vit, case))

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """The drawing, and the numbers."""
        summary = summarise(read(run_dir), ["model"], MEASURES, int(settings.get("seed", 0)))
        with np.load(run_dir / "pipeline.npz", allow_pickle=False) as stored:
            kept = {name: stored[name] for name in stored.files}
        shown = Pipeline(
            stored_picture(run_dir, "shown", "pipeline"),
            short_name(str(kept["target"])),
            kept["layers"].tolist(),
            {name: kept[name] for name in ("attention", "gradient", "corrected")},
            kept["rows"],
            kept["relevance"],
            int(kept["num_prefix"]),
        )
        found = []
        for model in dict.fromkeys(summary["model"]):
            dropped, order, gap = (pick(summary, model=model, measure=m) for m in MEASURES)
            found += [
                f"{model}: {text(dropped)} of the magnitude of gradient times attention is "
                "negative: GAE drops it, the complete correction keeps it.",
                f"{model}: the product over layers is nearly a plain sum over layers, correlation "
                f"of the two maps {text(order)}.",
                f"{model}: carrying the class row through the layers gives the class row of the "
                f"whole product (largest gap {gap['value']:.0e} of the largest relevance).",
            ]
        return Findings(
            figure=draw_pipeline(shown),
            summary=summary,
            caption=(
                f"The complete correction on one picture ({kept['model']}), every tile drawn from "
                "its numbers. Matrices: token by token, the class token first, small numbers "
                "lifted; grey for attention, red and blue for signed numbers. Beneath: the row of "
                "the class token on the picture. Rollout: what the class row has gathered from "
                f"the last layer down to the first. {found[0]}"
            ),
            found=tuple(found),
        )


def _rows(vit: ViT, batch: Sequence[Case]) -> pd.DataFrame:
    """One row per picture: how much is negative, and how the product compares."""
    views = [look(vit, case) for case in batch]
    trace = _trace(vit, views)
    relevance = corrected_rollout(trace, complete).cpu()
    matrices = [complete(a, g) for a, g in zip(trace.attention, trace.gradient, strict=True)]
    plain = trace.on_grid(sum(trace.readout @ matrix for matrix in matrices)).cpu()
    whole = torch.eye(vit.num_tokens, dtype=vit.dtype, device=vit.device)
    for matrix in matrices:
        whole = whole + matrix @ whole
    product = trace.on_grid(trace.readout @ whole).cpu()
    parts = [a * g for a, g in zip(trace.attention, trace.gradient, strict=True)]
    below = sum(part.clamp(max=0).abs().sum((1, 2, 3)) for part in parts)
    size = sum(part.abs().sum((1, 2, 3)) for part in parts)
    return pd.DataFrame(
        {
            "image_id": [view.id for view in views],
            "target": trace.target.tolist(),
            "negative": (below / size).double().tolist(),
            "first_order": [correlation(a, b) for a, b in zip(relevance, plain, strict=True)],
            "gap": ((product - relevance).abs().amax((1, 2)) / relevance.abs().amax((1, 2)))
            .double()
            .tolist(),
        }
    )


def _trace(vit: ViT, views: Sequence[View]) -> AttentionTrace:
    images = torch.stack([view.image for view in views]).to(vit.device, vit.dtype)
    return AttentionTrace(
        vit, images, torch.tensor([view.targets[0] for view in views], device=vit.device)
    )


def _store(job: Job, vit: ViT, view: View) -> None:
    """Everything that the drawing needs."""
    trace = _trace(vit, [view])
    depth = len(trace.attention)
    layers = sorted({0, (depth - 1) // 2, depth - 1})
    matrices = [complete(a, g) for a, g in zip(trace.attention, trace.gradient, strict=True)]
    rows = [rollout(reversed(matrices[layer:]), trace.readout) for layer in reversed(range(depth))]
    relevance = corrected_rollout(trace, complete)[0].cpu().numpy()
    assert isinstance(vit.preprocess, Preprocess)
    store_picture(job.run_dir, "shown", "pipeline", vit.preprocess.denormalize(view.image))
    save_maps(job.run_dir, {f"complete|{view.id}|{view.targets[0]}": relevance})
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        attention=torch.stack([trace.attention[i][0].mean(0) for i in layers]).cpu().numpy(),
        gradient=torch.stack([trace.gradient[i][0].mean(0) for i in layers]).cpu().numpy(),
        corrected=torch.stack([matrices[i][0] for i in layers]).cpu().numpy(),
        rows=torch.stack([trace.on_grid(row)[0] for row in rows]).cpu().numpy(),
        relevance=relevance,
        layers=[layer + 1 for layer in layers],
        target=vit.class_names[view.targets[0]],
        model=vit.name,
        num_prefix=vit.num_prefix,
    )
    write_atomic(job.run_dir / "pipeline.npz", buffer.getvalue())
