"""Figure 12: positive and negative perturbation of guided images, complete rule against GAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from pydantic import NonNegativeInt

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import View, images_of, to_view
from attnguide.errors import InputError
from attnguide.evaluation.fills import check_fill
from attnguide.evaluation.perturbation import FRACTIONS, check_fractions
from attnguide.evaluation.perturbation_rows import CONTROLS, RANDOM, SEAM, perturbation_rows
from attnguide.figures.claims import Claim
from attnguide.figures.experiment import Choices, Rows, Stored, Study
from attnguide.figures.map_figure import check_reference, reference_class
from attnguide.figures.perturbation_figure import NO_GUIDE, PerturbationFigure, claims_about


@dataclass
class Fig12Perturbation(PerturbationFigure):
    """Fill patches by relevance; follow the label's recognition and probability.

    Attributes:
        fill: What replaces a patch, as in `evaluation.fills`; several are studied side by side.
        fractions: Shares of the patches that are filled.
        unguided_every: Run the same study without a guide on every n-th picture; 0 for none.
    """

    fill: str | float | list[str | float] = "zero"
    fractions: list[float] = field(default_factory=lambda: list(FRACTIONS))
    unguided_every: NonNegativeInt = 3

    title = "Figure 12: perturbation of guided images"
    claim = (
        "With a guide image of another class beside the picture, the complete gradient correction "
        "keeps the label's recognition clearly longer than GAE when patches are masked from the "
        "least relevant on (negative test), with a rise at the beginning. Masked from the most "
        "relevant on (positive test), the two are alike. (The paper has no control that masks the "
        "guide first and knows nothing of the picture: seam.)"
    )
    uses = frozenset({"method", "loss", "reference", "target", "guide", "engine"})

    @property
    def fills(self) -> list[str | float]:
        """The fills, in order."""
        return self.fill if isinstance(self.fill, list) else [self.fill]

    def claims_of(self, stored: Stored) -> list[Claim]:
        """Of the methods that were run."""
        guide = stored.config["guide"].get("fraction", 0.0)
        return list(claims_about(self.compared(stored), self.fractions, guide))

    def check(self, choices: Choices) -> None:
        """Fractions, fills, loss and data."""
        check_fractions(self.fractions)
        if not self.fills:
            raise InputError("runner.fill must name a fill, or several, got none")
        for fill in self.fills:
            check_fill(fill)
        if set(CONTROLS) & set(choices.methods):
            raise InputError(
                f"{RANDOM} and {SEAM} are controls, which every run has; remove them from method"
            )
        check_reference(choices, pairs=False, words=())
        super().check(choices)

    def items(self, study: Study) -> Selection:
        """The chosen pictures, without those of the guide's class and of the second class."""
        left_out = (*study.guide_classes, *reference_class(study))
        return study.pictures.singles(study.vit, exclude=left_out)

    def inputs(self, study: Study, item: Item, sample: Sample) -> dict[str, View]:
        """The picture with the guide and, of every n-th, as it is, by guide."""
        own = {NO_GUIDE: to_view(study.vit, sample)}
        guided = {study.guide.layout: study.guided_view(sample)} if study.guide.is_shown else {}
        return guided | (own if not guided or self.kind(study, item) else {})

    def kind(self, study: Study, item: Item) -> bool:  # noqa: ARG002
        """Whether it is studied without a guide, too."""
        return self.unguided_every > 0 and item.number % self.unguided_every == 0

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """A row per picture, guide, fill, method, order and fraction."""
        parts = []
        for guide in dict.fromkeys(guide for _, views in batch for guide in views):
            seen = [(item, views[guide]) for item, views in batch if guide in views]
            parts.append(
                perturbation_rows(
                    study.vit,
                    images_of([view for _, view in seen]),
                    [item.id for item, _ in seen],
                    torch.tensor([item.label for item, _ in seen]),
                    methods=study.methods,
                    target=study.target,
                    loss=study.loss,
                    reference=study.reference,
                    fractions=self.fractions,
                    fills=self.fills,
                    seed=study.seed,
                    engine=study.masked_model,
                    own=seen[0][1].own,
                ).assign(guide=guide)
            )
        return Rows(pd.concat(parts, ignore_index=True), self.seen(study, batch))

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What the curves are."""
        part = self.parts(stored)[0]
        return (
            "Share of images still recognised, and probability of the label, while patches are "
            f"filled ({part.rows['fill'].iloc[0]}); n = {part.rows['image_id'].nunique()} images "
            f"{part.words}. Left: least relevant first, higher is better. Right: most relevant "
            "first, lower is better. Seam fills the guide before the picture, each in random order."
        )
