"""Figure 12: positive and negative perturbation of guided images, complete rule against GAE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import to_guided_view, to_view
from attnguide.errors import InputError
from attnguide.evaluation.fills import check_fill
from attnguide.evaluation.perturbation import FRACTIONS, check_fractions
from attnguide.evaluation.perturbation_rows import RANDOM, perturbation_rows
from attnguide.figures.curves import perturbation_findings
from attnguide.figures.experiment import Choices, Experiment, Rows, Stored, Study
from attnguide.figures.map_figure import check_reference, reference_class
from attnguide.findings import Findings

NO_GUIDE = "none"


@dataclass
class Fig12Perturbation(Experiment):
    """Fill patches by relevance; follow the label's recognition and probability.

    Attributes:
        fill: What replaces a patch, as in `evaluation.fills`; several are studied side by side.
        fractions: Shares of the patches that are filled.
        unguided_every: Run the same study without a guide on every n-th picture; 0 for none.
    """

    fill: str | float | list[str | float] = "zero"
    fractions: list[float] = field(default_factory=lambda: list(FRACTIONS))
    unguided_every: int = 3

    title = "Figure 12: perturbation of guided images"
    claim = (
        "With a guide image of another class beside the picture, the complete gradient correction "
        "keeps the label's recognition clearly longer than GAE when patches are masked from the "
        "least relevant on (negative test), with a rise at the beginning. Masked from the most "
        "relevant on (positive test), the two are alike."
    )
    takes = frozenset({"method", "loss", "reference", "target", "guide", "engine"})
    key = ("image_id", "model", "guide", "fill", "method", "order", "fraction")

    @property
    def fills(self) -> list[str | float]:
        """The fills, in order."""
        return self.fill if isinstance(self.fill, list) else [self.fill]

    def check(self, choices: Choices) -> None:
        """Fractions, fills, the number of unguided pictures, loss and data."""
        if self.unguided_every < 0:
            raise InputError(
                f"runner.unguided_every must be 0 (none) or a number n, got {self.unguided_every}"
            )
        check_fractions(self.fractions)
        if not self.fills:
            raise InputError("runner.fill must name a fill, or several, got none")
        for fill in self.fills:
            check_fill(fill)
        if RANDOM in choices.methods:
            raise InputError(f"{RANDOM} is the order that all are compared with; leave it out")
        check_reference(choices, pairs=False, words=())
        super().check(choices)

    def items(self, study: Study) -> Selection:
        """The chosen pictures, without those of the guide's class and of the second class."""
        left_out = (*study.guide_classes, *reference_class(study))
        return study.pictures.singles(study.vit, exclude=left_out)

    def inputs(self, study: Study, item: Item, sample: Sample) -> dict[str, Tensor]:
        """The picture with the guide and, of every n-th, as it is: (3, H, W) by guide."""
        own = to_view(study.vit, sample).image
        if study.guide_picture is None:
            return {NO_GUIDE: own}
        views = to_guided_view(study.vit, sample, study.guide_picture, study.guide)
        alone = self.unguided_every > 0 and item.number % self.unguided_every == 0
        return {study.guide.layout: views.image} | ({NO_GUIDE: own} if alone else {})

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """A row per picture, guide, fill, method, order and fraction."""
        parts = []
        for guide in dict.fromkeys(guide for _, views in batch for guide in views):
            seen = [(item, views[guide]) for item, views in batch if guide in views]
            parts.append(
                perturbation_rows(
                    study.vit,
                    torch.stack([image for _, image in seen]),
                    [item.id for item, _ in seen],
                    torch.tensor([item.label for item, _ in seen]),
                    methods={label: (method, {}) for label, method in study.methods.items()},
                    target=study.target,
                    loss=study.loss,
                    reference=study.reference,
                    fractions=self.fractions,
                    fills=self.fills,
                    seed=study.seed,
                    engine=study.masked_model,
                ).assign(guide=guide)
            )
        return Rows(pd.concat(parts, ignore_index=True))

    def draw(self, stored: Stored) -> Findings:
        """Curves with bands, areas with intervals, paired differences, claims."""
        return perturbation_findings(stored, list(self._parts(stored.rows)))

    def _parts(self, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """The study with the guide first, then without; of each fill in turn."""
        for fill in map(str, self.fills):
            own = rows[rows["fill"] == fill]
            which = f", fill {fill}" if len(self.fills) > 1 else ""
            for guide in sorted(own["guide"].unique(), key=lambda name: name == NO_GUIDE):
                place = "without a guide" if guide == NO_GUIDE else f"with the guide at the {guide}"
                yield place + which, own[own["guide"] == guide]
