"""Figure 11: pixels updated by their gradients until the model reads another class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from attnguide.data.pictures import Item, Selection, class_indices, retargeted
from attnguide.data.user_pictures import given_pictures
from attnguide.evaluation.intervention_rows import goal_of, rewrite_rows
from attnguide.evaluation.localisation import column
from attnguide.evaluation.statistics import of_kind
from attnguide.figures.claims import Claim, at
from attnguide.figures.experiment import Choices, Rows, Stored, Study
from attnguide.figures.selecting import join, to_show
from attnguide.figures.table_figure import OwnPictures, Plot, one_per_model
from attnguide.interventions.pixel_rewrite import LEVELS, check_settings, rewrite
from attnguide.store.maps import stored_picture
from attnguide.viz.panels import Panel, draw_panels, short_name

FLIPPED, NOISE = "goal is top-1", "PSNR (dB)"
INVISIBLE = 40.0  # dB; above it a difference is hard to see


@dataclass
class Fig11Rewrite(OwnPictures):
    """Rewrite many pictures to another class each; show some.

    Attributes:
        step, max_steps, confidence, epsilon: As in `pixel_rewrite.rewrite`.
    """

    step: float = 0.5
    max_steps: int = 40
    confidence: float = 0.938
    epsilon: int | None = None

    title = "Figure 11: rewriting the class of an image"
    claim = (
        "Updating pixels by their gradients, with the logit of the shown class minus that of "
        "another as loss, makes the model read the other class with confidence, while a human "
        "sees almost no change."
    )
    own_classes = 2  # source and goal
    by = ("model",)
    measures = {
        FLIPPED: column("flipped", "answers"),
        "goal's probability": column("goal_probability"),
        "steps": column("steps", "mean"),
        NOISE: of_kind("mean")(lambda rows: rows["psnr"].where(np.isfinite(rows["psnr"]))),
        "largest change (levels of 255)": column("largest", "mean"),
    }
    claims = (
        Claim("fig11.goal_is_read", "the goal becomes top-1, in most", at("", FLIPPED), above=0.5),
        Claim("fig11.hard_to_see", f"the change is hard to see: more than {INVISIBLE:.0f} dB",
              at("", NOISE), above=INVISIBLE),
    )  # fmt: skip
    plots = (Plot("Rewritten", (FLIPPED, "goal's probability")),)

    def check(self, choices: Choices) -> None:
        """Settings, pictures and data."""
        super().check(choices)
        check_settings(self.step, self.max_steps, self.confidence, self.epsilon)

    def items(self, study: Study) -> Selection:
        """Those that are shown, and every chosen picture, to a class that its id picks."""
        shown = given_pictures(study.vit, self.pictures) if self.pictures else self._examples(study)
        return join(to_show(shown, measured=True), study.pictures.singles(study.vit))

    def _examples(self, study: Study) -> Selection:
        """Pictures of the data set's own examples, each with the class to reach."""
        vit, pairs = study.vit, study.pictures.rewrites
        class_indices(vit, [name for pair in pairs for name in pair])  # names all unknown ones
        return Selection(tuple(self._example(study, *pair) for pair in pairs))

    def _example(self, study: Study, source: str, goal: str) -> Item:
        item = study.pictures.of_class(study.vit, source)
        wanted = study.vit.class_index(goal)
        name = f"{item.id} to {short_name(study.vit.class_names[wanted])}"
        targets = (study.vit.class_index(source), wanted)
        return replace(item, id=name, load=partial(retargeted, item.load, study.vit, name, targets))

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """One row per picture; before and after of those that are shown."""
        vit, views = study.vit, [view for _, view in batch]
        images = torch.stack([view.image for view in views])
        source = torch.tensor([view.targets[0] for view in views])
        goal = torch.tensor([goal_of(vit, view) for view in views])
        settings = (self.step, self.max_steps, self.confidence, self.epsilon)
        done = rewrite(vit, images, source, goal, *settings)
        pictures = {
            f"{vit.name} {item.id} {which}": pixels[index] / LEVELS
            for index, (item, _) in enumerate(batch)
            if item.shown is not None
            for which, pixels in (("original", done.original), ("updated", done.updated))
        }
        return Rows(rewrite_rows(vit, [item.id for item, _ in batch], done), pictures)

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """How pixels are updated."""
        bound = "" if self.epsilon is None else f", no channel by more than {self.epsilon} levels"
        return (
            f"{model}: loss = logit of the picture's class minus logit of the goal; steps of "
            f"length {self.step:g} in normalised units, at most {self.max_steps}, until the goal "
            f"has {100 * self.confidence:.3g} %{bound}; clamped and rounded to 8 bits, then scored "
            "again. Beneath: the three most probable classes with probability and logit. The "
            "difference is amplified as written and cut."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Before, after and difference of the shown pictures of every model."""
        return one_per_model("Pictures of", stored.shown, partial(_panels, stored))


def _panels(stored: Stored, rows: pd.DataFrame) -> Figure:
    """A row per picture."""
    lines, titles = [], []
    row: Any
    for row in rows.itertuples():
        original, updated = (
            stored_picture(stored.run_dir, f"{row.model} {row.image_id} {which}")
            for which in ("original", "updated")
        )
        change = updated.astype(int) - original
        factor = max(1, int(127 // max(1, np.quantile(np.abs(change), 0.99))))
        amplified = (127.5 + factor * change).clip(0, 255).astype(np.uint8)
        note = f"largest {row.largest} of 255, {row.psnr:.1f} dB\n{row.steps} steps"
        times = f"difference \N{MULTIPLICATION SIGN} {factor}\n{note}"
        panels = [(original, row.before), (updated, row.after), (amplified, times)]
        lines.append([Panel(picture, note=words) for picture, words in panels])
        titles.append(f"{short_name(row.source_name)} to {short_name(row.goal_name)}")
    columns = ["original", "updated", "difference"]
    return draw_panels(lines, column_titles=columns, row_titles=titles, panel_width=1.75)
