"""Figure 12: positive and negative perturbation of guided images, complete rule against GAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from attnguide.data.guide_image import open_guide
from attnguide.data.source import IndexedImages, find_pictures
from attnguide.errors import InputError
from attnguide.evaluation.masking import check_fill
from attnguide.evaluation.perturbation import FRACTIONS
from attnguide.evaluation.statistics import auc_table, bootstrap_mean, curves, paired_differences
from attnguide.evaluation.study import RANDOM, perturbation_rows
from attnguide.findings import Findings
from attnguide.guides import check_guide, stitch
from attnguide.runs.job import Job, Runner
from attnguide.store.table import read
from attnguide.types import ViT
from attnguide.viz.curves import Curve, CurvePanel, draw_curves
from attnguide.viz.style import method_label

KEY = ("image_id", "model", "guide", "method", "order", "fraction")
ALONE = "none"
ORDERS = ("negative", "positive")
QUANTITIES = {"accuracy": "recognition rate (%)", "probability": "probability of the label (%)"}


@dataclass
class Fig12Perturbation(Runner):
    """Fill patches by relevance; follow the label's recognition and probability.

    Attributes:
        fill: "zero", "black", "mean" or "blur" (`evaluation.masking.filled`).
        fractions: Shares of the patches that are filled.
        unguided_every: Run the same study without a guide on every n-th picture; 0 for none.
    """

    fill: str = "zero"
    fractions: list[float] = field(default_factory=lambda: list(FRACTIONS))
    unguided_every: int = 3

    title: ClassVar[str] = "Figure 12: perturbation of guided images"
    claim: ClassVar[str] = (
        "With a guide image of another class beside the picture, the complete gradient correction "
        "keeps the label's recognition clearly longer than GAE when patches are masked from the "
        "least relevant on (negative test), with a rise at the beginning. Masked from the most "
        "relevant on (positive test), the two are alike."
    )

    def check(self, job: Job) -> None:
        """Guide, fill and data, before any weights are loaded."""
        if self.unguided_every < 0:
            raise InputError(
                f"runner.unguided_every must be 0 (none) or a number n, got {self.unguided_every}"
            )
        if job.guide is not None:
            check_guide(job.guide.layout, job.guide.fraction, job.guide.fit)
        check_fill(self.fill)
        find_pictures(job.data.name, job.data.root)

    def compute(self, job: Job) -> None:
        """Rows of every image and model that has none yet."""
        from attnguide.runs.predict import predict  # Lightning takes seconds, drawing needs none

        with job.results(*KEY) as results:
            for vit in job.vits():
                views, excluded = self._views(job, vit)
                source = job.source(vit, excluded)
                labels = source.require_labels()

                def step(
                    batch: Sequence[tuple[int, Tensor]],
                    vit: ViT = vit,
                    ids: Sequence[str] = source.ids,
                    labels: Sequence[int] = labels,
                    guides: Sequence[str] = tuple(views),
                ) -> pd.DataFrame:
                    parts = []
                    for column, guide in enumerate(guides):
                        seen = [item for item in batch if self._sees(job, guide, item[0])]
                        if not seen:
                            continue
                        rows = perturbation_rows(
                            vit,
                            torch.stack([pictures[column] for _, pictures in seen]),
                            [ids[number] for number, _ in seen],
                            torch.tensor([labels[number] for number, _ in seen]),
                            methods=job.methods,
                            target=job.target,
                            loss=job.loss,
                            reference=job.reference,
                            fractions=self.fractions,
                            fill=self.fill,
                            seed=job.seed,
                        )
                        parts.append(rows.assign(guide=guide))
                    return pd.concat(parts, ignore_index=True)

                def look(
                    picture: Image.Image,
                    views: Sequence[Callable[..., Tensor]] = (*views.values(),),
                ) -> Tensor:
                    return torch.stack([view(picture)[0] for view in views])

                predict(job, vit, step, IndexedImages(source, look), results)

    def _sees(self, job: Job, guide: str, number: int) -> bool:
        """Whether this picture is studied in this way."""
        if guide != ALONE or job.guide is None:
            return True
        return self.unguided_every > 0 and number % self.unguided_every == 0

    def _views(
        self, job: Job, vit: ViT
    ) -> tuple[dict[str, Callable[[Image.Image], Tensor]], tuple[int, ...]]:
        """Ways to look at a picture, each to (1, 3, H, W), and the classes to leave out."""
        if job.guide is None:
            return {ALONE: vit.preprocess}, ()
        settings = job.guide
        guide = open_guide(settings.image, vit, data=job.data.name, root=job.data.root)
        beside = vit.preprocess.normalize(guide.picture)

        def guided(picture: Image.Image) -> Tensor:
            return stitch(
                [vit.preprocess.normalize(picture)],
                beside,
                settings.layout,
                settings.fraction,
                settings.fit,
                patch_size=vit.patch_size,
                size=vit.image_size,
                fill=settings.fill,
            )[0]

        excluded = () if guide.label is None else (guide.label,)
        return {settings.layout: guided, ALONE: vit.preprocess}, excluded

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Curves with bands, areas with intervals, paired differences, sentences."""
        rows = read(run_dir)
        seed = int(settings.get("seed", 0))
        present = list(rows["method"].unique())
        methods = [m for m in settings.get("method", {}) if m in present] + [RANDOM]
        parts = {g: part for g, part in rows.groupby("guide", sort=False) if g != ALONE}
        parts |= {g: part for g, part in rows.groupby("guide", sort=False) if g == ALONE}
        main = next(iter(parts))
        tables, figures, found = {}, {}, []
        for guide, part in parts.items():
            where = "without a guide" if guide == ALONE else f"with the guide at the {guide}"
            tables[f"AUC {where}"] = auc_table(part, methods, seed)
            gaps = paired_differences(part, methods[0], methods[1:], seed)
            tables[f"Paired differences of AUC {where}"] = gaps
            figures[f"The study {where}"] = _draw(part, methods, tables[f"AUC {where}"], seed)
            found += [f"{where.capitalize()}: {s}" for s in _sentences(part, methods, gaps, seed)]
        summary = tables.pop(next(iter(tables)))
        figure = figures.pop(next(iter(figures)))
        count = parts[main]["image_id"].nunique()
        return Findings(
            figure=figure,
            summary=summary,
            caption=(
                f"Share of images still recognised, and probability of the label, while patches "
                f"are filled ({rows['fill'].iloc[0]}); n = {count} images"
                f"{'' if main == ALONE else f' with a guide at the {main}'}. Bands and intervals "
                "are 95 % bootstraps over images. Left: least relevant first, higher is better. "
                "Right: most relevant first, lower is better. " + " ".join(found[:2])
            ),
            found=tuple(found),
            figures=figures,
            tables=tables,
        )


def _draw(part: pd.DataFrame, methods: Sequence[str], summary: pd.DataFrame, seed: int) -> Figure:
    """Two panels (negative, positive) for each model and quantity."""
    panels = []
    for model, own in part.groupby("model", sort=False):
        for quantity, y_label in QUANTITIES.items():
            panels.append(
                [
                    CurvePanel(
                        title=f"{short_model(model)}: {order}",
                        y_label=y_label,
                        higher_is_better=order == "negative",
                        curves=[
                            _curve(own, summary, (model, method, order, quantity), seed)
                            for method in methods
                        ],
                    )
                    for order in ORDERS
                ]
            )
    return draw_curves(panels)


def short_model(name: str) -> str:
    """A timm name without patch size, input size and tag."""
    return name.split("_patch")[0]


def _curve(
    own: pd.DataFrame, summary: pd.DataFrame, key: tuple[Any, str, str, str], seed: int
) -> Curve:
    _, method, order, quantity = key
    fraction, values = curves(own[(own["method"] == method) & (own["order"] == order)], quantity)
    band = bootstrap_mean(values.to_numpy(), seed)
    names = ["model", "method", "order", "quantity"]
    line = summary.set_index(names).loc[key]
    return Curve(
        method, fraction, band.mean, band.low, band.high,
        auc=line["auc"], auc_low=line["ci_low"], auc_high=line["ci_high"],
    )  # fmt: skip


def _sentences(
    part: pd.DataFrame, methods: Sequence[str], gaps: pd.DataFrame, seed: int
) -> list[str]:
    """What came out, in the order of the claim, each with its number and interval."""
    first, told = methods[0], []
    for model in part["model"].unique():
        for order in ORDERS:
            for rival in methods[1:-1]:
                line = gaps[
                    (gaps["difference"] == f"{first} - {rival}")
                    & (gaps["order"] == order)
                    & (gaps["quantity"] == "accuracy")
                    & (gaps["model"] == model)
                ].iloc[0]
                told.append(
                    f"{model}, {order} test: AUC of {method_label(first)} minus "
                    f"{method_label(rival)} is {line['auc']:+.1f} points "
                    f"[{line['ci_low']:.1f}, {line['ci_high']:.1f}], n = {line['n']}: "
                    f"{_verdict(line, order)}."
                )
        own = part[(part["model"] == model) & (part["order"] == "negative")]
        for method in methods[:-1]:
            fraction, values = curves(own[own["method"] == method], "accuracy")
            if len(fraction) < 2:
                continue
            rise = bootstrap_mean((values.iloc[:, 1] - values.iloc[:, 0]).to_numpy(), seed)
            told.append(
                f"{model}, negative test: the first step, to {100 * fraction[1]:.0f} % masked, "
                f"changes recognition with {method_label(method)} by {float(rise.mean):+.1f} "
                f"points [{float(rise.low):.1f}, {float(rise.high):.1f}]."
            )
    return told


def _verdict(line: pd.Series, order: str) -> str:
    if line["ci_low"] <= 0 <= line["ci_high"]:
        return "no difference can be told"
    return "better" if (line["auc"] > 0) == (order == "negative") else "worse"
