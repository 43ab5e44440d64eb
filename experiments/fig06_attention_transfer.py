"""Figure 6: attention maps as the only parameters, descending the logit of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch

from attnguide.api import explain
from attnguide.data.case import Case, as_cases
from attnguide.data.cases import is_creatures, pair_cases, shown_pairs
from attnguide.data.named_pictures import known_pairs
from attnguide.data.views import look
from attnguide.errors import InputError
from attnguide.evaluation.localisation import pick, text
from attnguide.evaluation.transfer import transfer_rows, transfer_summary
from attnguide.findings import Findings
from attnguide.interventions.attention_descent import descend
from attnguide.runs.descents import animate, descent_figure, shown_descents, store_descent
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import check_choice
from attnguide.store.table import read
from attnguide.types import ViT

KEY = ("image_id", "model", "lr", "step")


@dataclass
class Fig06AttentionTransfer(Runner):
    """Descend on many two-class pictures, at two rates; show some frames.

    Attributes:
        lr: Learning rate; the paper's.
        other_lr: A second one, for comparison.
        steps: How many.
        shown: How many pictures to show.
        pictures: The user's own to show instead: {file: PATH, classes: [TARGET, OTHER]} each.
    """

    lr: float = 4e-4
    other_lr: float = 4e-3
    steps: int = 32
    shown: int = 2
    pictures: list[dict[str, Any]] = field(default_factory=list)

    title: ClassVar[str] = "Figure 6: attention transfer"
    claim: ClassVar[str] = (
        "With the attention maps as the only parameters, descending the logit of the target class "
        "moves positive attention from the target to the other class in the picture, until the "
        "areas of the two overlap: gradient descent is attention transfer."
    )

    def check(self, job: Job) -> None:
        """Rates, steps, pictures and data, before any weights are loaded."""
        if not (self.lr > 0 and self.other_lr > 0) or self.steps < 1 or self.shown < 1:
            raise InputError(
                f"runner.lr, other_lr, steps and shown must be positive, got {self.lr:g}, "
                f"{self.other_lr:g}, {self.steps} and {self.shown}"
            )
        check_choice(job, self.pictures, classes=2)

    def compute(self, job: Job) -> None:
        """A row per picture, rate and step; maps of the shown pictures at every step."""
        from attnguide.runs.predict import predict  # Lightning takes seconds, drawing needs none

        with job.results(*KEY) as results:
            for vit in job.vits():
                shown = shown_pairs(vit, job.data, self.shown, self.pictures)
                boxed = [] if is_creatures(job.data) else known_pairs(vit, job.data)
                if boxed and not self.pictures:  # the paper descends the zebra and the cat
                    shown, boxed = [*map(_swapped, shown)], [*map(_swapped, boxed)]
                step = partial(self._rows, job, vit, [case.id for case in shown])
                if job.data.shard == 0:
                    predict(job, vit, step, as_cases(shown), results)
                    predict(job, vit, step, as_cases(boxed), results)
                predict(job, vit, step, pair_cases(vit, job.data), results)

    def _rows(
        self, job: Job, vit: ViT, shown: Sequence[str], batch: Sequence[Case]
    ) -> pd.DataFrame:
        """Rows of a batch; pictures whose ids are `shown` are stored with their maps."""
        views = [look(vit, case) for case in batch]
        images = torch.stack([view.image for view in views])
        target = torch.tensor([view.targets[0] for view in views])
        own, parts = explain(vit, images, target), []
        for lr in dict.fromkeys((self.lr, self.other_lr)):
            found = descend(vit, images, target, lr=lr, steps=self.steps)
            parts.append(transfer_rows(vit, views, found, own).assign(lr=lr))
            for index, view in enumerate(views):
                if view.id in shown:
                    store_descent(job, vit, view, lr, found.relevance[:, index])
        rows = pd.concat(parts, ignore_index=True)
        places = {name: place for place, name in enumerate(shown)}
        return rows.assign(place=rows["image_id"].map(places).astype("Int64"))

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Frames with plots beneath, an animation, and how often attention crosses."""
        rows, seed = read(run_dir), int(settings.get("seed", 0))
        summary = transfer_summary(rows, seed)
        models = list(dict.fromkeys(rows["model"]))
        figures = {}
        for model in models:
            own = rows[rows["model"] == model]
            for rates in shown_descents(own):
                name = f"{rates[0]['image_id'].iloc[0]}, {model}"
                figures[name] = descent_figure(run_dir, own, rates, seed)
        animate(run_dir, shown_descents(rows[rows["model"] == models[0]]))
        found = [
            sentence
            for keys, own in summary.groupby(["model", "regions", "lr"], sort=False)
            for sentence in _sentences(own, *keys, self.steps)
        ]
        return Findings(
            figure=figures.pop(next(iter(figures))),
            summary=summary.assign(lr=summary["lr"].map("{:g}".format)),
            caption=(
                f"{models[0]}: attention after softmax of all layers and heads as the only "
                f"parameters, plain gradient descent of the target's logit, at the paper's "
                f"learning rate {self.lr:g} and at {self.other_lr:g}. "
                "Maps: complete correction of the model at the step above; red speaks for the "
                "target. Plots: logits of the target and of the other class, and the signed mass "
                "on either as a share of all mass (dotted: the other's passes the target's); "
                "right, over all pictures: how far rows of attention miss a sum of 1, and in which "
                "share of pictures the other's share has passed the target's. "
                f"{' '.join(s for s in found if 'crosses' in s)} "
                "All shown pictures move in animation.gif in this folder."
            ),
            found=tuple(found),
            figures=figures,
        )


def _swapped(case: Case) -> Case:
    """The case with its two classes in the other order."""
    return replace(
        case,
        targets=case.targets[::-1],
        names=case.names[::-1],
        masks=None if case.masks is None else case.masks[::-1],
    )


def _sentences(summary: pd.DataFrame, model: str, where: str, lr: float, steps: int) -> list[str]:
    """Whether attention moves and crosses, and what becomes of the maps."""

    def at(measure: str) -> dict[str, Any]:
        return pick(summary, measure=measure)

    who = f"{model} ({where or 'objects not known'}), rate {lr:g}"
    begins, over = at("begins on the target"), at("crossed, of those that begin there")
    when = at("step of crossing")
    mine, others = at("change of the target's share"), at("change of the other's share")
    fall, other = at("change of the target's logit"), at("change of the other's logit")
    error, below = at("largest row-sum error"), at("share of entries below 0")
    like = at("correlation of the first map with the model's own")
    moves = others["ci_low"] > max(0.0, mine["ci_high"])
    told = [
        f"{who}: the target's logit changes by {fall['value']:+.1f} in {steps} steps, the other's "
        f"by {other['value']:+.1f}; rows then miss a sum of 1 by up to {error['value']:.2f} and "
        f"{below['value']:.0%} of the entries are negative. The first map correlates "
        f"{like['value']:.2f} with the model's own.",
    ]
    if begins["n"]:
        told = [
            f"{who}: the signed share on the other object changes by {text(others)}, on the "
            f"target by {mine['value']:+.2f}: attention "
            f"{'moves towards the other, as claimed' if moves else 'does NOT move to the other'}.",
            f"{who}: it lies on the target at first in {begins['value']:.2f} of the pictures; in "
            f"{text(over)} of these it crosses to the other within {steps} steps"
            + (f" (mean step {when['value']:.0f}): " if when["n"] else ": ")
            + f"{_verdict(over)}.",
            *told,
        ]
    return [
        sentence.replace(" -", " \N{MINUS SIGN}").replace("[-", "[\N{MINUS SIGN}")
        for sentence in told
    ]


def _verdict(share: Mapping[str, Any]) -> str:
    if share["ci_low"] > 0.5:
        return "in most, as claimed"
    if share["ci_high"] < 0.5:
        return "NOT in most, against the claim"
    return "neither clearly in most nor clearly not"
