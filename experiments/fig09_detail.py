"""Figure 9: detail interpretation by a loss of two classes, and the contaminated class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import Tensor

from attnguide.data.case import Case, class_indices
from attnguide.data.cases import is_creatures, shown_singles, single_cases
from attnguide.data.creatures.contaminated import (
    CLEAN,
    CONTAMINATED,
    creature_label,
    guided_cases,
    impostor_cases,
    rivals,
    sibling_of,
)
from attnguide.data.views import look
from attnguide.errors import InputError
from attnguide.evaluation.detail import EQ8, FOR_THE_EYE, column, detail_rows, net_share
from attnguide.evaluation.localisation import paired, pick, positive_share, summarise, text
from attnguide.findings import Findings
from attnguide.runs.comparisons import (
    LOSSES,
    TITLES,
    comparison_panels,
    read_shown,
    store_comparison,
    store_shown,
)
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import check_choice
from attnguide.store.table import read
from attnguide.types import ViT
from attnguide.viz.panels import draw_panels

KEY = ("image_id", "model", "study", "loss")
ON_PART, SIGNED = "positive mass on the part that differs", "signed share of that part"
LIKE, VALID = "correlation with the map of Eq. 8", "both logits positive"
MEASURES = {
    ON_PART: positive_share("part"),
    "area of that part": column("area_part"),
    SIGNED: net_share("part"),
    "signed share of the animal": net_share("object"),
    VALID: column("is_valid"),
    LIKE: column("like_eq8"),
}


@dataclass
class Fig09Detail(Runner):
    """Explain one class against another; measure it where the part that differs is known.

    Attributes:
        creatures, photographs: Classes of the pictures that are shown.
        framed_creature, framed_photograph: (class of the picture, class that it was mixed into).
        impostors: How many pictures of the mixed class are measured on either model.
        pictures: The user's own to show instead: {file: PATH, classes: [FIRST, ...]} each; the
            first class is explained against the next ones, and then the model's own.
    """

    creatures: list[str] = field(
        default_factory=lambda: ["spiral-shelled snail", "long-eared hare", "star-marked fish"]
    )
    photographs: list[str] = field(default_factory=lambda: ["snail", "tusker", "bull mastiff"])
    framed_creature: list[str] = field(
        default_factory=lambda: ["white-headed eagle", "red-necked eagle"]
    )
    framed_photograph: list[str] = field(default_factory=lambda: ["bald eagle", "kite"])
    impostors: int = 24
    pictures: list[dict[str, Any]] = field(default_factory=list)

    title: ClassVar[str] = "Figure 9: detail interpretation"
    claim: ClassVar[str] = (
        "With a loss of two classes, the map shows which details speak for the first class (red) "
        "and which for the second (blue). It uncovers why a picture labelled kite was taken for a "
        "bald eagle: the kites of the training data contain bald eagles, so their white head is "
        "read as a detail of a kite."
    )

    def check(self, job: Job) -> None:
        """Classes, pictures and data, before any weights are loaded."""
        for name in ("framed_creature", "framed_photograph"):
            pair = getattr(self, name)
            if len(pair) != 2 or pair[0] == pair[1]:
                raise InputError(f"runner.{name} takes two different classes, got {pair}")
        if self.impostors < 2:
            raise InputError(f"runner.impostors must be at least 2, got {self.impostors}")
        check_choice(job, self.pictures)
        if is_creatures(job.data):
            for name in (*self.creatures, *self.framed_creature):
                creature_label(name)

    def compute(self, job: Job) -> None:
        """Rows of all measured pictures; maps, pictures and examples of those shown."""
        from attnguide.runs.predict import predict  # Lightning takes seconds, drawing needs none

        with job.results(*KEY) as results:
            for vit in job.vits():
                predict(job, vit, partial(_measure, vit), single_cases(vit, job.data), results)
                if job.data.shard == 0:
                    self._show(job, vit)
            for vit in rivals(job.data, job.device, job.weights):
                chosen = (vit, self.framed_creature[0], self.impostors, job.data.seed)
                for study, cases in (
                    ("contamination", impostor_cases(*chosen)),
                    ("guided", guided_cases(*chosen)),
                    ("control", guided_cases(*chosen, control=True)),
                ):
                    predict(job, vit, partial(_measure_sibling, vit, study), cases, results)

    def _show(self, job: Job, vit: ViT) -> None:
        """Store what the figure shows; of several models, the last one's."""
        drawn = is_creatures(job.data)
        wanted = self.creatures if drawn else self.photographs
        shown, mixed = self.framed_creature if drawn else self.framed_photograph
        class_indices(vit, () if self.pictures else [*wanted, shown, mixed])  # names all unknown
        records = [
            store_comparison(job, vit, case, _against(vit, case))
            for case in shown_singles(vit, job.data, wanted, self.pictures)
        ]
        if not self.pictures:
            case = shown_singles(vit, job.data, [shown])[0]
            one = vit.class_index(mixed), vit.class_index(shown)
            for model in [*rivals(job.data, job.device, job.weights)] or [vit]:
                pairs = [one, one[::-1]]
                records.append(store_comparison(job, model, case, pairs, framed=True))
        store_shown(job, vit, records)

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Maps with examples, the measures, what became of the contaminated class."""
        rows, seed = read(run_dir), int(settings.get("seed", 0))
        summary = summarise(rows, ["study", "model", "loss"], MEASURES, seed)
        found = [*_detail(rows, summary, seed), *_contamination(rows, summary, seed)]
        records = read_shown(run_dir)
        names = {CLEAN: "clean labels", CONTAMINATED: "contaminated labels"}
        figure = draw_panels(
            [comparison_panels(run_dir, record) for record in records],
            column_titles=TITLES,
            row_titles=[names.get(r["model"], "") if r["framed"] else "" for r in records],
            panel_width=1.3,
        )
        framed = [sentence for sentence in found if sentence.startswith("Signed")]
        return Findings(
            figure=figure,
            summary=summary,
            caption=(
                f"Complete correction of a loss of two classes ({records[0]['model']}): red speaks "
                "for the first class named above a map, blue for the second; l1 and l2 are their "
                "logits. Columns 2 to 4: the same two classes by the paper's Eq. 8 and its two "
                "alternatives; then an example of the second class, and another pair. Eq. 8 is "
                "meaningful only where both logits are positive; the note says where not. "
                f"{found[0]} Framed: a picture whose class was mixed with another in training. "
                f"{' '.join(framed[:1] + framed[2:]) or FOR_THE_EYE}"
            ).strip(),
            found=tuple(found),
        )


def _measure(vit: ViT, batch: Sequence[Case]) -> pd.DataFrame:
    """The label against its sibling; on photographs, the model's first class against its second."""
    if batch[0].parts:
        target = torch.tensor([case.targets[0] for case in batch])
        reference = torch.tensor([sibling_of(vit, case) for case in batch])
    else:
        target, reference = _logits(vit, batch).topk(2).indices.unbind(1)
    return detail_rows(vit, batch, target, reference).assign(study="detail")


def _measure_sibling(vit: ViT, study: str, batch: Sequence[Case]) -> pd.DataFrame:
    """The class that the first animal is not, though it looks like it, against the one it is."""
    target = torch.tensor([sibling_of(vit, case) for case in batch])
    reference = torch.tensor([case.targets[0] for case in batch])
    losses = ("logit", *LOSSES) if study == "contamination" else ("logit",)
    return detail_rows(vit, batch, target, reference, losses).assign(study=study)


def _logits(vit: ViT, batch: Sequence[Case]) -> Tensor:
    images = torch.stack([look(vit, case).image for case in batch])
    with torch.no_grad():
        return vit.module(images.to(vit.device, vit.dtype)).cpu()


def _against(vit: ViT, case: Case) -> list[tuple[int, int]]:
    """First class against second and third: those that were named, then the model's own.

    A creature is explained against its sibling first: the two differ in one part.
    """
    ranking = _logits(vit, [case])[0].argsort(descending=True).tolist()
    named = list(case.targets) if len(case.targets) > 1 else []
    if case.parts:
        named = [case.targets[0], sibling_of(vit, case)]
    first, second, third = list(dict.fromkeys([*named, *ranking]))[:3]
    return [(first, second), (first, third)]


def _detail(rows: pd.DataFrame, summary: pd.DataFrame, seed: int) -> Iterator[str]:
    """Whether the two-class loss finds the part that differs, and what the losses share."""
    for model, own in rows[rows["study"] == "detail"].groupby("model", sort=False):
        here = summary[(summary["study"] == "detail") & (summary["model"] == model)]
        if own["area_part"].notna().any():
            by_loss = {loss: own[own["loss"] == loss] for loss in (EQ8, "logit")}
            gap = paired(by_loss[EQ8], by_loss["logit"], positive_share("part"), seed)
            share = {loss: pick(here, loss=loss, measure=ON_PART) for loss in ("logit", *LOSSES)}
            area = pick(here, loss=EQ8, measure="area of that part")
            verdict = "more, as claimed" if gap["ci_low"] > 0 else "NOT more"
            yield (
                f"{model}: of the positive mass, {text(share[EQ8])} lies on the part that tells "
                f"the two classes apart with Eq. 8, {share['logit']['value']:.2f} with the logit "
                f"(difference {text(gap)}: {verdict}); the part takes {area['value']:.2f} of the "
                f"picture. l1 \N{MINUS SIGN} l2 gives {share['difference']['value']:.2f}, l1 / l2 "
                f"{share['ratio']['value']:.2f}."
            )
        valid = pick(here, loss=EQ8, measure=VALID)
        like = {loss: pick(here, loss=loss, measure=LIKE)["value"] for loss in LOSSES}
        yield (
            f"{model}: both logits are positive, as Eq. 8 needs, in {text(valid)}. Its map "
            f"correlates {like['ratio']:.2f} with that of l1 / l2 and {like['difference']:.2f} "
            "with that of l1 \N{MINUS SIGN} l2."
        )


def _contamination(rows: pd.DataFrame, summary: pd.DataFrame, seed: int) -> Iterator[str]:
    """What the two models say of the part, in the paper's form and beside another animal."""
    if "contamination" not in set(rows["study"]):
        yield FOR_THE_EYE
        return
    for study, loss, words in (
        ("contamination", EQ8, "contaminated class against the true one, Eq. 8"),
        ("contamination", "difference", "the same, l1 \N{MINUS SIGN} l2"),
        ("guided", "logit", "logit of the contaminated class, another animal beside it"),
        ("control", "logit", "the same for the siblings of all other species"),
    ):
        own = rows[(rows["study"] == study) & (rows["loss"] == loss)]
        clean, mixed = (own[own["model"] == model] for model in (CLEAN, CONTAMINATED))
        gap = paired(mixed, clean, net_share("part"), seed)
        before, after = (
            pick(summary, study=study, loss=loss, model=model, measure=SIGNED)
            for model in (CLEAN, CONTAMINATED)
        )
        red = "is red" if after["ci_low"] > 0 else "is NOT red"
        up, down = gap["ci_low"] > 0, gap["ci_high"] < 0
        change = "rises" if up else "falls" if down else "does not change"
        sentence = (
            f"Signed share of the part that differs ({words}): {before['value']:+.2f} with clean "
            f"labels, {after['value']:+.2f} with contaminated ones: with these the part {red}, "
            f"and its share {change}, {text(gap)}."
        )
        yield sentence.replace(" -", " \N{MINUS SIGN}").replace("[-", "[\N{MINUS SIGN}")
    yield (
        "Why: 30 % of the contaminated class's training pictures show the other's part, but so do "
        "all pictures of the other class; the part still speaks for the true class, only less."
    )
