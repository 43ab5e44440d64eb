"""Parts: creatures drawn again without each of their pieces; which maps know what matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from pydantic import NonNegativeInt

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import View
from attnguide.errors import InputError
from attnguide.evaluation.deletions import Pieces, find_pieces, piece_rows
from attnguide.evaluation.localisation import column
from attnguide.figures.claims import MethodComparison
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import join, to_show
from attnguide.figures.shown import ShownView, draw_bands, views_in
from attnguide.figures.table_figure import Plot
from attnguide.losses import LOSSES
from attnguide.methods import Method
from attnguide.viz.style import signed

SINGLE = "rank correlation of pieces"
DETAIL = "on the part, difference"


@dataclass
class Parts(MethodStudy):
    """Leave out one piece after another, and compare with where the maps put their relevance.

    Attributes:
        shown: How many pictures to show.
        losses: By which losses the part's share is measured; two-class ones compare with the
            sibling, which differs in this part alone.
    """

    shown: NonNegativeInt = 3
    losses: list[str] = field(default_factory=lambda: ["logit", "difference", "relative_contrast"])

    title = "Parts: which maps know what matters"
    claim = (
        "Two-class losses with complete gradient correction show the detail that tells two classes "
        "apart; relevance is where the class is decided."
    )
    key = ("image_id", "model", "method")
    shows = (
        "Maps of the label's logit ({model}); beneath, the rank correlation between the "
        "relevance of the animal's pieces and the fall of the logit when each is left out."
    )
    budget = (8, 4)
    class_sensitive = True
    claims = (
        MethodComparison("parts.deletion", "complete", SINGLE, "single deletion, complete minus"),
        MethodComparison("parts.detail", "complete", DETAIL,
                         "detail, difference loss: on the part, complete minus"),
        MethodComparison("parts.deletion", "gae", SINGLE, "single deletion, GAE minus"),
    )  # fmt: skip

    def check(self, choices: Choices) -> None:
        """Drawn pictures, known losses."""
        if choices.pictures.contaminated is None:
            raise InputError(
                "experiment=parts draws its pictures again without a part, and photographs have no "
                "known parts; pass data=creatures, or experiment=localization for photographs"
            )
        wrong = [name for name in self.losses if name not in LOSSES]
        if wrong or "difference" not in self.losses:
            raise InputError(
                f"runner.losses are some of {', '.join(LOSSES)}, with difference, got {self.losses}"
            )
        super().check(choices)

    def all_measures(self) -> Mapping[str, Any]:
        """Measures of the pieces, and the part's share by every loss."""
        return {
            SINGLE: column("single_deletion"),
            "recognised by the important pieces alone": column("kept", "answers"),
            "lost without the important pieces": column("lost", "answers"),
            "on idle clutter beyond its area": column("distraction"),
            **{f"on the part, {loss}": column(f"part_{loss}") for loss in self.losses},
        }

    @property
    def plots(self) -> tuple[Plot, ...]:  # type: ignore[override]
        """One panel per measure."""
        return tuple(
            Plot(name, (name,), limits=(-1.0, 1.0) if name == SINGLE else (0.0, 1.0))
            for name in self.all_measures()
        )

    def items(self, study: Study) -> Selection:
        """Single creatures; the first of some classes are shown."""
        data, vit = study.pictures, study.vit
        return join(data.singles(vit), to_show(data.shown_singles(vit, self.shown)))

    def inputs(self, study: Study, item: Item, sample: Sample) -> Pieces:  # noqa: ARG002
        """The picture without each of its pieces."""
        data = study.pictures
        return find_pieces(study.vit, sample, data.pieces(sample), data.without)

    def views_of(self, inputs: Any) -> list[View]:
        """The picture with all of its pieces."""
        return [inputs.view]

    def table(self, study: Study, entries: Entries, methods: Mapping[str, Method]) -> pd.DataFrame:
        """A row per picture and method."""
        vit, pieces = study.vit, [one for _, one in entries]
        siblings = [study.pictures.sibling(vit, one.sample) for one in pieces]
        shown = [item.shown is not None for item, _ in entries]
        return piece_rows(vit, pieces, siblings, shown, methods, self.losses)

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Maps of the shown pictures."""
        return draw_bands(views_in(stored, stored.shown), stored.methods, _note), {}


def _note(view: ShownView, method: str, place: int) -> str:
    found = view.row(method, place)["single_deletion"]
    return f"r = {signed(found)}" if found == found else "no order"
