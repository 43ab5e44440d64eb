"""Figure 11: pixels updated by their gradients until the model reads another class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.pictures import Item, Selection
from attnguide.evaluation.intervention_rows import amplified, noise, rewrite_rows, rewrite_views
from attnguide.evaluation.localisation import column
from attnguide.figures.claims import Claim, at
from attnguide.figures.experiment import Choices, Rows, Stored, Study
from attnguide.figures.selecting import join, rewrite_examples, to_show
from attnguide.figures.table_figure import OwnPictures, Plot, one_per_model
from attnguide.interventions.pixel_rewrite import LEVELS, check_settings
from attnguide.viz.panels import Panel, draw_panels, short_name

FLIPPED, NOISE = "goal is top-1", "PSNR (dB)"
SIDES = ("original", "updated")
TOY = "The drawn world is a toy here: a small model of 16 flat drawings says little of photographs."


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
        "steps": column("steps"),
        NOISE: noise,
        "largest change (levels of 255)": column("largest"),
    }
    claims = (
        Claim("fig11.goal_is_read", "the model reads the goal: it becomes top-1, in most",
              at("", FLIPPED), above=0.5, section="4.5"),
        Claim("fig11.hard_to_see", "a human sees almost no change: peak signal-to-noise ratio in "
              "dB (the bound is ours)", at("", NOISE), above=40.0, section="4.5"),
    )  # fmt: skip
    plots = (Plot("Rewritten", (FLIPPED, "goal's probability")),)

    def check(self, choices: Choices) -> None:
        """Settings, pictures and data."""
        super().check(choices)
        check_settings(self.step, self.max_steps, self.confidence, self.epsilon)

    def items(self, study: Study) -> Selection:
        """Those that are shown, and every chosen picture, to a class that its id picks."""
        shown = to_show(rewrite_examples(study, self.pictures), measured=True)
        return join(shown, study.pictures.singles(study.vit))

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """One row per picture; before and after of those that are shown."""
        vit, views = study.vit, [view for _, view in batch]
        done = rewrite_views(vit, views, step=self.step, max_steps=self.max_steps,
                             confidence=self.confidence, epsilon=self.epsilon)  # fmt: skip
        pictures = {
            f"{vit.name} {item.id} {which}": pixels[index] / LEVELS
            for index, (item, _) in enumerate(batch)
            if item.shown is not None
            for which, pixels in zip(SIDES, (done.original, done.updated), strict=True)
        }
        return Rows(rewrite_rows(vit, [item.id for item, _ in batch], done), pictures)

    def caption(self, stored: Stored, model: str) -> str:
        """How pixels are updated."""
        is_drawn = stored.config.get("data", {}).get("name") == "creatures"
        bound = "" if self.epsilon is None else f", no channel by more than {self.epsilon} levels"
        return (
            f"{model}: loss = logit of the picture's class minus logit of the goal; steps of "
            f"length {self.step:g} in normalised units, at most {self.max_steps}, until the goal "
            f"has {100 * self.confidence:.3g} %{bound}; clamped and rounded to 8 bits, then scored "
            "again. Beneath: the three most probable classes with probability and logit. The "
            "difference is amplified as written and cut. " + TOY * is_drawn
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Before, after and difference of the shown pictures of every model."""
        return one_per_model("Pictures of", stored.shown, partial(_panels, stored))


def _panels(stored: Stored, rows: pd.DataFrame) -> Figure:
    """A row per picture."""
    lines, titles = [], []
    row: Any
    for row in rows.itertuples():
        original, updated = (stored.picture(row.model, row.image_id, which) for which in SIDES)
        change, factor = amplified(original, updated)
        note = f"largest {row.largest} of 255, {row.psnr:.1f} dB\n{row.steps} steps"
        times = f"difference \N{MULTIPLICATION SIGN} {factor}\n{note}"
        panels = [(original, row.before), (updated, row.after), (change, times)]
        lines.append([Panel(picture, note=words) for picture, words in panels])
        titles.append(f"{short_name(row.source_name)} to {short_name(row.goal_name)}")
    columns = [*SIDES, "difference"]
    return draw_panels(lines, column_titles=columns, row_titles=titles, panel_width=1.75)
