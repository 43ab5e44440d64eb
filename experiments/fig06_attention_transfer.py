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
from attnguide.evaluation.transfer import MEASURES, last_steps, transfer_rows
from attnguide.figures.claims import mean
from attnguide.figures.descent import draw_descents
from attnguide.figures.experiment import Rows, Stored, Study
from attnguide.figures.selecting import join, to_show
from attnguide.figures.shown import pictures_of
from attnguide.figures.table_figure import OwnPictures
from attnguide.interventions.attention_descent import descend

CROSSED, MINE = "crossed, of those that begin there", "change of the target's share"
OTHERS = "change of the other's share"


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
    claims = (
        mean("complete", OTHERS, "the signed share on the other object rises",
             id="fig06.other_rises", above=0),
        mean("complete", MINE, "the signed share on the target falls",
             id="fig06.target_falls", below=0),
        mean("complete", CROSSED, "attention crosses to the other, in most",
             id="fig06.crosses", above=0.5),
    )  # fmt: skip

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
        target = torch.tensor([view.targets[0] for view in views])
        own = explain(vit, images, target)
        shown = [item.shown is not None for item, _ in batch]
        parts = [
            transfer_rows(
                vit, views, shown, descend(vit, images, target, lr=lr, steps=self.steps), own, lr
            )
            for lr in dict.fromkeys((self.lr, self.other_lr))
        ]
        table = pd.concat(parts, ignore_index=True)
        return Rows(table, pictures_of(vit, compress(views, shown)))

    def measured(self, stored: Stored) -> pd.DataFrame:
        """The last step of every picture and rate."""
        return last_steps(stored.rows)

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What is descended, and what the plots show."""
        return (
            f"{model}: attention after softmax of all layers and heads as the only parameters, "
            f"plain gradient descent of the target's logit, at the paper's learning rate "
            f"{self.lr:g} and at {self.other_lr:g}. Maps: complete correction of the model at the "
            "step above; red speaks for the target. Plots: logits of the target and of the other "
            "class, and the signed mass on either as a share of all mass (dotted: the other's "
            "passes the target's); right, over all pictures: how far rows of attention miss a sum "
            "of 1, and in which share of pictures the other's share has passed the target's. All "
            "shown pictures move in animation.gif in this folder."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Frames of each shown picture, with plots beneath; they move in animation.gif."""
        return draw_descents(stored)
