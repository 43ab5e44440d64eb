"""Parts: creatures drawn again without each of their pieces; which maps know what matters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from attnguide.api import explain_many
from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import View
from attnguide.errors import InputError
from attnguide.evaluation.localisation import column
from attnguide.evaluation.pieces import (
    Pieces,
    deletion_correlation,
    distraction,
    drops,
    find_pieces,
    kept_and_lost,
    share_on_part,
)
from attnguide.figures.bands import draw_bands
from attnguide.figures.claims import Family
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import join, to_show
from attnguide.figures.shown import ShownView, shown_views
from attnguide.figures.table_figure import Plot
from attnguide.losses import LOSSES, TWO_CLASS
from attnguide.methods import Method
from attnguide.store.maps import as_columns
from attnguide.viz.style import signed

SINGLE = "rank correlation of pieces"
DETAIL = "on the part, difference"
FAMILIES = (
    Family("complete", SINGLE, "single deletion, complete minus"),
    Family("complete", DETAIL, "detail, difference loss: on the part, complete minus"),
    Family("gae", SINGLE, "single deletion, GAE minus"),
)
# On how many pictures a slow method is measured.
LIMITS = {"dix": 8, "integrated_gradients": 8, "smoothgrad": 8, "vit_cx": 4, "tis": 4}


@dataclass
class Parts(MethodStudy):
    """Leave out one piece after another, and compare with where the maps put their relevance.

    Attributes:
        shown: How many pictures to show.
        losses: By which losses the part's share is measured; two-class ones compare with the
            sibling, which differs in this part alone.
    """

    shown: int = 3
    losses: list[str] = field(default_factory=lambda: ["logit", "difference", "relative_contrast"])
    limits: dict[str, int] = field(default_factory=LIMITS.copy)

    title = "Parts: which maps know what matters"
    claim = (
        "Two-class losses with complete gradient correction show the detail that tells two classes "
        "apart; relevance is where the class is decided."
    )
    key = ("image_id", "model", "method")
    families = FAMILIES

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

    def asked(self) -> Mapping[str, Any]:
        """Measures of the pieces, and the part's share by every loss."""
        return {
            SINGLE: column("single_deletion"),
            "recognised by the important pieces alone": column("kept"),
            "lost without the important pieces": column("lost"),
            "on idle clutter beyond its area": column("distraction"),
            **{f"on the part, {loss}": column(f"part_{loss}") for loss in self.losses},
        }

    @property
    def plots(self) -> tuple[Plot, ...]:  # type: ignore[override]
        """One panel per measure."""
        return tuple(
            Plot(name, (name,), limits=(-1.0, 1.0) if name == SINGLE else (0.0, 1.0))
            for name in self.asked()
        )

    def items(self, study: Study) -> Selection:
        """Single creatures; the first of some classes are shown."""
        data, vit = study.pictures, study.vit
        return join(data.singles(vit), to_show(data.shown_singles(vit, self.shown)))

    def inputs(self, study: Study, item: Item, sample: Sample) -> Pieces:  # noqa: ARG002
        """The picture without each of its pieces."""
        data = study.pictures
        return find_pieces(study.vit, sample, data.pieces(sample), data.without)

    def seen(self, inputs: Any) -> list[View]:
        """The picture with all of its pieces."""
        return [inputs.view]

    def table(self, study: Study, entries: Entries, methods: Mapping[str, Method]) -> pd.DataFrame:
        """A row per picture and method."""
        vit, pieces = study.vit, [one for _, one in entries]
        falls, clean = drops(vit, pieces)
        maps = self._maps(study, methods, pieces)
        logit_maps = {label: maps[label, "logit"].numpy() for label in methods}
        kept = kept_and_lost(vit, pieces, logit_maps)
        rows = []
        for index, ((item, one), fall) in enumerate(zip(entries, falls, strict=True)):
            target = one.view.targets[0]
            is_right = int(clean[index].argmax()) == target
            for label in methods:
                relevance = logit_maps[label][index]
                known, lost = kept[label, index] if is_right else (np.nan, np.nan)
                logit = float(clean[index, target])
                rows.append(
                    {
                        "image_id": item.id,
                        "view": "alone",
                        "method": label,
                        "target": target,
                        "target_name": vit.class_names[target],
                        "place": 0,
                        "regions": "pieces",
                        "note": "",
                        "pieces": int(one.is_animal.sum()),
                        "single_deletion": deletion_correlation(relevance, one, fall),
                        "kept": float(known),
                        "lost": float(lost),
                        "distraction": distraction(relevance, one, fall, logit),
                        **{
                            f"part_{loss}": share_on_part(maps[label, loss][index].numpy(), one)
                            for loss in self.losses
                        },
                        **as_columns(
                            maps[label, "logit"][index] if item.shown is not None else None
                        ),
                    }
                )
        return pd.DataFrame(rows)

    def _maps(
        self, study: Study, methods: Mapping[str, Method], pieces: Sequence[Pieces]
    ) -> dict[tuple[str, str], Tensor]:
        """(B, rows, cols) by method and loss."""
        vit, named = study.vit, {label: (method, {}) for label, method in methods.items()}
        images = torch.stack([one.view.image for one in pieces])
        target = torch.tensor([one.view.targets[0] for one in pieces])
        other = torch.tensor([study.pictures.sibling(vit, one.sample) for one in pieces])
        maps = {}
        for loss in dict.fromkeys(["logit", *self.losses]):
            second = other if loss in TWO_CLASS else None
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "relative_contrast needs both logits positive")
                many = explain_many(vit, images, target, methods=named, loss=loss, reference=second)
            maps |= {(label, loss): found.relevance.cpu() for label, found in many.items()}
        return maps

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What is shown."""
        return (
            f"Maps of the label's logit ({model}); beneath, the rank correlation between the "
            "relevance of the animal's pieces and the fall of the logit when each is left out."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Maps of the shown pictures."""
        return draw_bands(shown_views(stored), stored.methods, _note), {}


def _note(view: ShownView, method: str, place: int) -> str:
    found = view.row(method, place)["single_deletion"]
    return f"r = {signed(found)}" if found == found else "no order"
