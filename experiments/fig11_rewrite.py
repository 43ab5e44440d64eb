"""Figure 11: pixels updated by their gradients until the model reads another class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from attnguide.data.case import Case, as_cases, class_indices
from attnguide.data.cases import is_creatures, shown_singles, single_cases
from attnguide.data.views import look
from attnguide.errors import InputError
from attnguide.evaluation.explained import store_picture, stored_picture
from attnguide.evaluation.localisation import pick, summarise, text
from attnguide.findings import Findings
from attnguide.interventions.pixel_rewrite import LEVELS, check_settings, rewrite
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import check_choice
from attnguide.store.table import read
from attnguide.types import ViT
from attnguide.viz.panels import Panel, draw_panels, short_name

KEY = ("image_id", "model")
MEASURES = {
    "goal is top-1": lambda rows: rows["flipped"].astype(float),
    "goal's probability": lambda rows: rows["goal_probability"],
    "steps": lambda rows: rows["steps"].astype(float),
    "PSNR (dB)": lambda rows: rows["psnr"].where(np.isfinite(rows["psnr"])),
    "largest change (levels of 255)": lambda rows: rows["largest"].astype(float),
}
INVISIBLE = 40.0  # dB; above it a difference is hard to see
CREATURES = (
    ("white-headed eagle", "stilt-legged ibis"),
    ("star-marked fish", "fan-crested lizard"),
    ("bushy-tailed fox", "long-eared hare"),
)
PHOTOGRAPHS = (("tusker", "bull mastiff"), ("snail", "zebra"), ("bald eagle", "kite"))


@dataclass
class Fig11Rewrite(Runner):
    """Rewrite many pictures to another class each; show some.

    Attributes:
        step, max_steps, confidence, epsilon: As in `rewrite.rewrite`.
        creatures, photographs: (class of the picture, class to reach) of each that is shown.
        pictures: The user's own to show instead: {file: PATH, classes: [SOURCE, GOAL]} each.
    """

    step: float = 0.5
    max_steps: int = 40
    confidence: float = 0.938
    epsilon: int | None = None
    creatures: list[list[str]] = field(default_factory=lambda: [*map(list, CREATURES)])
    photographs: list[list[str]] = field(default_factory=lambda: [*map(list, PHOTOGRAPHS)])
    pictures: list[dict[str, Any]] = field(default_factory=list)

    title: ClassVar[str] = "Figure 11: rewriting the class of an image"
    claim: ClassVar[str] = (
        "Updating pixels by their gradients, with the logit of the shown class minus that of "
        "another as loss, makes the model read the other class with confidence, while a human "
        "sees almost no change."
    )

    def check(self, job: Job) -> None:
        """Settings, classes and pictures, before any weights are loaded."""
        check_settings(self.step, self.max_steps, self.confidence, self.epsilon)
        for pair in (*self.creatures, *self.photographs):
            if len(pair) != 2 or pair[0] == pair[1]:
                raise InputError(
                    f"runner.creatures and runner.photographs take [SOURCE, GOAL], two different "
                    f"classes, got {pair}"
                )
        check_choice(job, self.pictures, classes=2)

    def compute(self, job: Job) -> None:
        """Rows of every picture, those that are shown first; before and after of the shown."""
        from attnguide.runs.predict import predict  # Lightning takes seconds, drawing needs none

        with job.results(*KEY) as results:
            for vit in job.vits():
                if job.data.shard == 0:
                    shown = as_cases(self._shown(job, vit))
                    predict(job, vit, partial(self._rewrite, job, vit, shown.ids), shown, results)
                others = single_cases(vit, job.data)
                predict(job, vit, partial(self._rewrite, job, vit, ()), others, results)

    def _shown(self, job: Job, vit: ViT) -> list[Case]:
        """Pictures whose targets are (class of the picture, class to reach)."""
        if self.pictures:
            return shown_singles(vit, job.data, (), self.pictures)
        found, pairs = [], self.creatures if is_creatures(job.data) else self.photographs
        class_indices(vit, [name for pair in pairs for name in pair])  # names all unknown ones
        for source, goal in pairs:
            case = shown_singles(vit, job.data, [source])[0]
            wanted = vit.class_index(goal)
            wanted = wanted if wanted != case.targets[0] else _any_other(vit, case)
            found.append(
                replace(
                    case,
                    id=f"{case.id} to {short_name(vit.class_names[wanted])}",
                    targets=(case.targets[0], wanted),
                    names=(case.names[0], vit.class_names[wanted]),
                )
            )
        return found

    def _rewrite(
        self, job: Job, vit: ViT, shown: Sequence[str], batch: Sequence[Case]
    ) -> pd.DataFrame:
        """One row per picture; those whose ids are `shown` are stored and have a place."""
        images = torch.stack([look(vit, case).image for case in batch])
        source = torch.tensor([case.targets[0] for case in batch])
        goal = torch.tensor([case.targets[1] if shown else _any_other(vit, case) for case in batch])
        settings = (self.step, self.max_steps, self.confidence, self.epsilon)
        done = rewrite(vit, images, source, goal, *settings)
        for index, case in enumerate(batch if shown else ()):
            name = f"{vit.name} {case.id}"
            store_picture(job.run_dir, "shown", f"{name} original", done.original[index] / LEVELS)
            store_picture(job.run_dir, "shown", f"{name} updated", done.updated[index] / LEVELS)
        after = done.after.double().softmax(-1).cpu()
        return pd.DataFrame(
            {
                "image_id": [case.id for case in batch],
                "place": [shown.index(case.id) if shown else None for case in batch],
                "source": source,
                "goal": goal,
                "source_name": [vit.class_names[i] for i in source],
                "goal_name": [vit.class_names[i] for i in goal],
                "flipped": done.flipped.tolist(),
                "goal_probability": after.gather(1, goal[:, None])[:, 0],
                "steps": done.steps.tolist(),
                "psnr": done.psnr.tolist(),
                "largest": done.largest.tolist(),
                "before": [_top(vit, row) for row in done.before],
                "after": [_top(vit, row) for row in done.after],
            }
        ).astype({"place": "Int64"})

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Before, after and difference of the shown pictures; numbers of all."""
        rows = read(run_dir)
        summary = summarise(rows, ["model"], MEASURES, int(settings.get("seed", 0)))
        models = list(dict.fromkeys(rows["model"]))
        shown = rows[rows["place"].notna()].sort_values("place", kind="stable")
        figures = {
            f"Pictures of {model}": _panels(run_dir, shown[shown["model"] == model])
            for model in models
        }
        figure = figures.pop(f"Pictures of {models[0]}")
        found = [_sentence(summary, model) for model in models]
        bound = "" if self.epsilon is None else f", no channel by more than {self.epsilon} levels"
        return Findings(
            figure=figure,
            summary=summary,
            caption=(
                f"{models[0]}: loss = logit of the picture's class minus logit of the goal; steps "
                f"of length {self.step:g} in normalised units, at most {self.max_steps}, until the "
                f"goal has {100 * self.confidence:.3g} %{bound}; clamped and rounded to 8 bits, "
                "then scored again. Beneath: the three most probable classes with probability and "
                f"logit. The difference is amplified as written and cut. {found[0]}"
            ),
            found=tuple(found),
            figures=figures,
        )


def _any_other(vit: ViT, case: Case) -> int:
    """A class other than the picture's, from its id."""
    digest = hashlib.sha256(case.id.encode()).digest()
    others = len(vit.class_names) - 1
    return (case.targets[0] + 1 + int.from_bytes(digest[:4], "big") % others) % (others + 1)


def _top(vit: ViT, logits: Tensor) -> str:
    """Lines "class 93.8 % (12.93)" of the three most probable classes."""
    probability = logits.double().softmax(-1)
    best = logits.argsort(descending=True)[:3].tolist()
    return "\n".join(
        f"{short_name(vit.class_names[i])} {100 * probability[i]:.1f} % ({logits[i]:.2f})"
        for i in best
    )


def _panels(run_dir: Path, rows: pd.DataFrame) -> Figure:
    lines = []
    for row in rows.itertuples():
        name = f"{row.model} {row.image_id}"
        original, updated = (
            stored_picture(run_dir, "shown", f"{name} {which}") for which in ("original", "updated")
        )
        change = updated.astype(int) - original
        factor = max(1, int(127 // max(1, np.quantile(np.abs(change), 0.99))))
        amplified = (127.5 + factor * change).clip(0, 255).astype(np.uint8)
        lines.append(
            [
                Panel(original, note=row.before),
                Panel(updated, note=row.after),
                Panel(
                    amplified,
                    note=f"difference \N{MULTIPLICATION SIGN} {factor}\nlargest {row.largest} of "
                    f"255, {row.psnr:.1f} dB\n{row.steps} steps",
                ),
            ]
        )
    return draw_panels(
        lines,
        column_titles=["original", "updated", "difference"],
        row_titles=[
            f"{short_name(r.source_name)} to {short_name(r.goal_name)}" for r in rows.itertuples()
        ],
        panel_width=1.75,
    )


def _sentence(summary: pd.DataFrame, model: str) -> str:
    flip, sure, steps, noise, largest = (
        pick(summary, model=model, measure=name) for name in MEASURES
    )
    holds = flip["ci_low"] > 0.5
    seen = "hard to see" if noise["value"] >= INVISIBLE else "NOT invisible"
    return (
        f"{model}: the goal becomes top-1 in a share of {text(flip)} of the pictures, with a mean "
        f"probability of {sure['value']:.2f} after {steps['value']:.1f} steps: the class "
        f"{'can be rewritten, as claimed' if holds else 'can NOT be rewritten in most pictures'}. "
        f"The change has {noise['value']:.1f} dB [{noise['ci_low']:.1f}, {noise['ci_high']:.1f}] "
        f"and at most {largest['value']:.0f} of 255 levels on average: {seen} (above "
        f"{INVISIBLE:.0f} dB a change is hard to see)."
    )
