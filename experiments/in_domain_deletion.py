"""In-domain deletion: cells are filled for a model that was trained with filled cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from matplotlib.figure import Figure

from attnguide.data.pictures import Selection
from attnguide.errors import InputError
from attnguide.evaluation.deletions import CELLS, cell_drops
from attnguide.evaluation.localisation import column
from attnguide.evaluation.metrics import single_deletion
from attnguide.evaluation.perturbation import FRACTIONS
from attnguide.evaluation.rows import explain_batch, first_targets, row_of
from attnguide.evaluation.scores import SRG, agreement, area_rows, table_of_means
from attnguide.figures.claims import MethodComparison
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.table_figure import Plot
from attnguide.methods import Method
from attnguide.models.sources import Timm
from attnguide.types import ViT
from attnguide.viz.charts import draw_dots, table_panel

MASKED = "creatures_masked"
DELETION = "rank correlation of cells"


@dataclass
class InDomainDeletion(MethodStudy):
    """Compare cell sums of maps with the logit's fall, in the masked model and the ordinary one.

    Attributes:
        ordinary: Whether the chosen models, which do not know filled cells, are measured too.
    """

    ordinary: bool = True

    title = "In-domain deletion: do out-of-distribution inputs make the ranking?"
    claim = (
        "Filled patches are out of distribution for an ordinary model. (The paper calls "
        "perturbation crude; it does not check whether its ranking survives a model that knows "
        "them.)"
    )
    key = ("image_id", "model", "method")
    shows = (
        f"Rank correlation of a map's sums over {CELLS} x {CELLS} cells with the fall of the "
        f"logit when each is filled; {MASKED} was trained with filled cells."
    )
    budget = (8, 4)
    class_sensitive = True
    measures = {DELETION: column("deletion"), SRG: column("srg")}
    claims = tuple(
        MethodComparison("in_domain.deletion", first, DELETION, f"single deletion, {label} minus")
        for first, label in (("complete", "complete"), ("gae", "GAE"))
    )
    plots = (Plot("Single deletion", (DELETION,), "rank correlation", (-1.0, 1.0), 0.0),)

    def check(self, choices: Choices) -> None:
        """Creatures, and the model that knows filled cells."""
        if choices.pictures.contaminated is None:
            raise InputError(
                "experiment=in_domain_deletion needs a model trained with filled cells, which "
                "exists for the creatures only; pass data=creatures"
            )
        super().check(choices)

    def models(self, choices: Choices, device: torch.device) -> Iterator[ViT]:
        """The masked model, then the chosen ones."""
        yield from Timm(name=MASKED).load(device)
        if self.ordinary:
            yield from (vit for vit in choices.models.load(device) if vit.name != MASKED)

    def items(self, study: Study) -> Selection:
        """Single creatures."""
        return study.pictures.singles(study.vit)

    def table(self, study: Study, entries: Entries, methods: Mapping[str, Method]) -> pd.DataFrame:
        """A row per picture and method."""
        images, target = first_targets([view for _, view in entries])
        batch = explain_batch(study.vit, images, target, methods)
        falls = cell_drops(study.vit, images, target)
        areas = area_rows(batch, FRACTIONS)
        gains = {(i, label): value for i, label, name, value in areas if name == SRG}
        return pd.DataFrame(
            row_of(study.vit, view, view.targets[0], label)
            | {
                "deletion": single_deletion(batch.maps[label][index], falls[index]),
                "srg": gains[index, label],
            }
            for index, (_, view) in enumerate(entries)
            for label in methods
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """A panel of dots per model."""
        panels = [
            table_panel(own, (DELETION,), stored.methods, str(model), "rank correlation",
                        limits=(-1.0, 1.0), chance=0.0)
            for model, own in self.summary(stored).groupby("model", sort=False)
        ]  # fmt: skip
        return draw_dots(panels), {}

    def remarks(self, stored: Stored) -> list[str]:
        """Kendall's tau between the ranking by deletion and those of perturbation."""
        return [
            f"Rankings by {line['first']} and by {line['second']}: tau {line['tau']:.2f} over "
            f"{line['methods']} methods."
            for line in rankings(self.summary(stored)).to_dict("records")
        ]

    def tables(self, stored: Stored, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:  # noqa: ARG002
        """The same as a table."""
        return {"Do rankings agree": rankings(summary)}


def rankings(summary: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau between the rankings of every two of models and measures."""
    joined = summary.assign(measure=summary["measure"] + ", " + summary["model"])
    means = table_of_means(joined)
    alike = agreement(means, dict.fromkeys(means.columns, "more"))
    names = list(means.columns)
    lines = [
        (one, two, alike.loc[one, two], len(means[[one, two]].dropna()))
        for number, one in enumerate(names)
        for two in names[number + 1 :]
    ]
    return pd.DataFrame(lines, columns=["first", "second", "tau", "methods"])
