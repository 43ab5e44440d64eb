"""Figure 6: attention maps as the only parameters, descending the logit of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import PositiveFloat, PositiveInt

from attnguide.api import explain
from attnguide.data.pictures import Item, Selection, swapped
from attnguide.data.user_pictures import given_pictures
from attnguide.evaluation.intervention_rows import MEASURES, last_steps, transfer_rows
from attnguide.figures.claims import Claim, mean
from attnguide.figures.descent_figure import draw_descents
from attnguide.figures.experiment import Rows, Stored, Study
from attnguide.figures.selecting import join, to_show
from attnguide.figures.shown import pictures_of
from attnguide.figures.table_figure import OwnPictures
from attnguide.interventions.attention_descent import descend

JUDGED = (  # id, measure, bound, sentence: at the end; the first three where the decision flips too
    ("target_falls", "change of the target's share", {"below": 0}, "the target's share falls"),
    ("other_rises", "change of the other's share", {"above": 0}, "the other's share rises"),
    ("crosses", "crossed, of those that begin there", {"above": 0.5},
     "attention that begins on the target crosses to the other, in most"),
    ("other_stays", "the other's map is net positive on the other", {"above": 0.5},
     "attention to the other class stays positive, in most"),
    ("overlap", "correlation of the maps of both classes", {"above": 0.5},
     "the areas of both classes overlap: correlation of their maps"),
)  # fmt: skip
LIKE_OWN = "correlation of the first map with the model's own"


@dataclass
class Fig06AttentionTransfer(OwnPictures):
    """Descend on many two-class pictures, at two rates; show some frames.

    Attributes:
        lr: Learning rate; the paper's.
        other_lr: A second one, for comparison.
        steps: How many.
        shown: How many pictures to show.
    """

    lr: PositiveFloat = 4e-4
    other_lr: PositiveFloat = 4e-3
    steps: PositiveInt = 32
    shown: PositiveInt = 2

    title = "Figure 6: attention transfer"
    claim = (
        "With the attention maps as the only parameters, descending the logit of the target class "
        "moves positive attention from the target to the other class in the picture, until the "
        "areas of the two overlap: gradient descent is attention transfer."
    )
    own_classes = 2  # the target, the other
    key = ("image_id", "model", "lr", "step")
    by = ("model", "regions", "lr")
    measures = MEASURES

    def claims_of(self, stored: Stored) -> list[Claim]:  # noqa: ARG002
        """After all steps; where the decision flips; and that free maps are those of the model."""
        flip = f"where the decision flips within {self.steps} steps, there"
        times = {"": f"after {self.steps} steps", "flip.": flip}
        claims = [
            mean("complete", measure + ", at the flip" * bool(part), f"{when} {sentence}",
                 id=f"fig06.{part}{name}", family=f"fig06.{part}", section="4.4.1", **bound)
            for part, when in times.items()
            for name, measure, bound, sentence in (JUDGED[:3] if part else JUDGED)
        ]  # fmt: skip
        words = f"free attention maps explain almost as the model's own do: {LIKE_OWN}"
        like = mean("complete", LIKE_OWN, words, id="fig06.like_own", above=0.95, section="4.4.1")
        return [*claims, like.where("lr", f"{self.lr:g}")]  # the first maps of both rates are alike

    def items(self, study: Study) -> Selection:
        """Shown pictures, boxed photographs, pairs; the paper descends the zebra and the cat."""
        data, vit = study.pictures, study.vit
        boxed = swapped(data.boxed(vit))
        shown = boxed.items[: self.shown] or data.shown_pairs(vit, self.shown).items
        if self.pictures:
            shown = given_pictures(vit, self.pictures).items
        return join(to_show(Selection(tuple(shown)), measured=True), boxed, data.pairs(vit))

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """A row per picture, rate and step, with the maps of what is shown."""
        vit, views = study.vit, [view for _, view in batch]
        images = torch.stack([view.image for view in views])
        target, other = torch.tensor([view.targets[:2] for view in views]).T
        own = explain(vit, images, target)
        shown = [item.shown is not None for item, _ in batch]
        parts = []
        for lr in dict.fromkeys((self.lr, self.other_lr)):
            found = descend(vit, images, target, other, lr=lr, steps=self.steps)
            parts.append(transfer_rows(vit, views, shown, found, own, lr))
        return Rows(pd.concat(parts, ignore_index=True), pictures_of(vit, compress(views, shown)))

    def select_rows(self, stored: Stored) -> pd.DataFrame:
        """The last step of every picture and rate."""
        return last_steps(stored.rows)

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What is descended, and what the plots show."""
        return (
            f"{model}: attention after softmax of all layers and heads as the only parameters, "
            f"plain gradient descent of the target's logit, at the paper's learning rate "
            f"{self.lr:g} and at {self.other_lr:g}. Maps: complete correction of the model at the "
            "step above; red speaks for the target. Plots: logits; signed mass as a share of all "
            "mass (dotted: the other's passes the target's); over all pictures, how far rows of "
            "attention miss a sum of 1, and in how many it has passed. Moving in animation.gif."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Frames of each shown picture, with plots beneath; they move in animation.gif."""
        return draw_descents(stored)
