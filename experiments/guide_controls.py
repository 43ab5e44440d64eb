"""Guide controls: is it another class or just company, does one picture profit, which guide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import NonNegativeInt

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.views import ALONE, COMPANY, View, beside_company, to_guided_view
from attnguide.evaluation.fills import seed_of_name
from attnguide.evaluation.guide_rows import THROUGH, guide_rows
from attnguide.evaluation.localisation import column, guided_share, right_signs
from attnguide.evaluation.perturbation import FRACTIONS, check_fractions
from attnguide.evaluation.scores import LEAST, SRG
from attnguide.figures.claims import Claim, slug
from attnguide.figures.experiment import Choices, Rows, Stored, Study
from attnguide.figures.phenomena import RIGHT, between, more_than_company
from attnguide.figures.table_figure import TableFigure, one_per_model
from attnguide.methods import get_method
from attnguide.viz.charts import draw_dots, table_panel
from attnguide.viz.style import method_label

METHODS = {name: get_method(name) for name in ("complete", "gae")}
SHARE, LABEL = "mass of the right sign in its part", "recognised beside it"


@dataclass
class GuideControls(TableFigure):
    """Explain every picture alone, beside several guides, and beside what is no guide.

    The picture alone is the whole picture at the model's size, so that its grid is that of its part
    beside a guide. Guides are those of guide.image, or the default and the classes of data.shown.

    Attributes:
        sweep_images: On how many pictures the perturbation test is repeated beside every guide.
        fractions: Shares of the patches that are filled.
    """

    sweep_images: NonNegativeInt = 48
    fractions: list[float] = field(default_factory=lambda: list(FRACTIONS))

    title = "Guide controls: what a guide does, and what any company does"
    claim = (
        "A picture of another class beside it directs attention, so that complete gradient "
        "correction interprets the picture. (The paper shows no other company and one guide.)"
    )
    uses = frozenset({"guide", "engine"})
    needs_guide = True
    key = ("image_id", "model", "view", "method")
    by = ("model", "view", "method")
    claims_by = ("model",)
    measures = {
        RIGHT: right_signs, SHARE: guided_share, LABEL: column("correct", "answers"),
        LEAST: column(LEAST), SRG: column(SRG),
    }  # fmt: skip
    shows = (
        "Left: by what stands beside ({model}); right: the picture alone, by maps through guides."
    )

    def check(self, choices: Choices) -> None:
        """Fractions and data."""
        check_fractions(self.fractions)
        super().check(choices)

    def items(self, study: Study) -> Selection:
        """Single pictures of classes that no guide shows."""
        return study.pictures.singles(study.vit, exclude=study.with_more_guides.guide_classes)

    def inputs(self, study: Study, item: Item, sample: Sample) -> dict[str, View]:  # noqa: ARG002
        """The whole picture alone, beside every guide, and beside company, by what is beside."""
        guides, guide, vit = study.with_more_guides.guide_pictures, study.guide, study.vit
        found = {ALONE: to_guided_view(vit, sample, guides[0], replace(guide, fraction=0.0))}
        found |= {PurePath(g.name).stem: to_guided_view(vit, sample, g, guide) for g in guides}
        company = beside_company(vit, sample, guide, seed_of_name(sample.id, study.seed))
        return found | {view.kind: view for view in company}

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """As `guide_rows`; `chosen` is the guide that speaks least for the label."""
        wide = study.with_more_guides
        guides = [PurePath(guide.name).stem for guide in wide.guide_pictures]
        ids, target = zip(*((item.id, item.label) for item, _ in batch), strict=True)
        views = {view: [inputs[view] for _, inputs in batch] for view in batch[0][1]}
        swept = [n for n, (item, _) in enumerate(batch) if item.number < self.sweep_images]
        table = guide_rows(
            study.vit, ids, views, torch.tensor(target), METHODS, guides=guides, swept=swept,
            fractions=self.fractions, engine=study.masked_model,
        )  # fmt: skip
        least = wide.evidence[:, list(target)].argmin(0).tolist()
        best = {name: guides[number] for name, number in zip(ids, least, strict=True)}
        return Rows(table.assign(chosen=table["view"] == table["image_id"].map(best)))

    def claims_of(self, stored: Stored) -> list[Claim]:
        """Company, the single picture, the choice of a guide, and Figure 12 beside every guide."""
        return [*more_than_company("guide_controls"), *_claims(stored)]

    def remarks(self, stored: Stored) -> list[str]:
        """How far numbers of Figure 12 depend on the guide."""
        lines = self.claims_table(stored)
        lines = lines[lines["id"].str.startswith("guide_controls.negative")]
        areas = self.summary(stored).query("measure == @LEAST and method == 'complete'")["value"]
        return [
            f"Across {len(lines)} guides the area of complete in the negative test goes from "
            f"{areas.min():.1f} to {areas.max():.1f}, complete minus GAE from "
            f"{lines['value'].min():+.1f} to {lines['value'].max():+.1f}, and it is above 0 beside "
            f"{(lines['verdict'] == 'holds').sum()}."
        ]

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Signs by what is beside; SRG of the picture alone."""
        places = [*_guides(stored), *COMPANY]

        def draw(own: pd.DataFrame) -> Figure:
            named = own.assign(was=own["measure"], measure=own["view"])
            signs, gains = (named[named["was"] == measure] for measure in (RIGHT, SRG))
            left = table_panel(signs, places, ["complete"], "Right signs", "share")
            rows, words = [ALONE, *THROUGH.values()], ("The picture alone", "SRG (points)")
            alone = table_panel(gains, rows, list(METHODS), *words, limits=(0.0, 100.0))
            return draw_dots([left, alone])

        return one_per_model("Guides of", self.summary(stored), draw)


def _guides(stored: Stored) -> list[str]:
    return list(dict.fromkeys(stored.rows.query("main")["view"]))


def _claims(stored: Stored) -> Iterator[Claim]:
    def ours(name: str, words: str, measure: str, *rows: tuple[str, str, Any]) -> Claim:
        ask = between(measure, *rows)
        return Claim(f"guide_controls.{name}", words, ask, above=0, source="ours")

    six, words = ("complete", "view", THROUGH[6]), "SRG of the picture alone, complete through six"
    for method in METHODS:
        sentence = f"{words} guides minus {method_label(method)} alone"
        yield ours(f"single.{method}", sentence, SRG, six, (method, "view", ALONE))
    words = f"complete: {SHARE}, beside the guide with the lowest logit of the label minus any"
    yield ours("auto", words, SHARE, ("complete", "chosen", True), ("complete", "main", True))
    for name in _guides(stored):
        words = f"negative test beside {name}: complete minus GAE, points of AUC"
        both = (("complete", "view", name), ("gae", "view", name))
        yield ours(f"negative.{slug(name)}", words, LEAST, *both)
