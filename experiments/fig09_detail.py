"""Figure 9: detail interpretation by a loss of two classes, and the contaminated class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
from annotated_types import Ge
from matplotlib.figure import Figure
from pydantic import PositiveInt

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.user_pictures import given_pictures
from attnguide.evaluation.detail import EQ8, Comparison, detail_rows, to_part_view
from attnguide.evaluation.localisation import column, net_share, positive_share
from attnguide.figures import contamination
from attnguide.figures.claims import Claim, Table, judge, tables_of
from attnguide.figures.contamination import (
    FRAMED,
    LOSSES,
    ContaminationFigure,
    change_of,
    draw_comparisons,
    gain_of,
    mean_of,
    with_pictures,
)
from attnguide.figures.experiment import Rows, Stored, Study
from attnguide.figures.selecting import in_groups, in_part, join, to_show
from attnguide.figures.table_figure import OwnPictures

SIGNED, VALID = "signed share of that part", "both logits positive"
BY_LOGIT = ("guided", "control")  # parts of the study with another animal in the picture
UNCHANGED = 0.05  # a signed share that rises by less has not changed
FORMS = {  # in which the two models are compared: part of the study, loss, words
    "eq8": ("contamination", EQ8, "Eq. 8"),
    "difference": ("contamination", "difference", LOSSES["difference"]),
    "logit": ("guided", "logit", "its logit, another animal beside it"),
}


@dataclass
class Fig09Detail(OwnPictures, ContaminationFigure):
    """Explain one class against another; measure it where the part that differs is known.

    Attributes:
        shown: How many pictures to show beside the framed one.
        impostors: How many pictures of the mixed class are measured on either model.
        pictures: The user's own to show instead: {file: PATH, classes: [FIRST, ...]} each; the
            first class is explained against the next ones, and then the model's own.
    """

    shown: PositiveInt = 3
    impostors: Annotated[int, Ge(2)] = 24

    title = "Figure 9: detail interpretation"
    claim = (
        "With a loss of two classes, the map shows which details speak for the first class (red) "
        "and which for the second (blue). It uncovers why a picture labelled kite was taken for a "
        "bald eagle: the kites of the training data contain bald eagles, so their white head is "
        "read as a detail of a kite."
    )
    key = ("image_id", "model", "part", "loss", "place")
    by = ("part", "model", "loss")
    measures = {
        "positive mass on the part that differs": positive_share("part"),
        "area of that part": column("area_part"),
        SIGNED: net_share("part"),
        "signed share of the animal": net_share("object"),
        VALID: column("is_valid", "answers"),
        "correlation with the map of Eq. 8": column("like_eq8", "mean"),
    }
    claims = (
        Claim("fig09.part", "Eq. 8 puts more of the positive mass on the part that tells the "
              "classes apart than the logit does (difference)",
              gain_of("detail", EQ8, "logit", positive_share("part")), above=0),
        Claim("fig09.valid", "both logits are positive, as Eq. 8 needs, in most pictures",
              mean_of("detail", EQ8, VALID), above=0.5),
        *(Claim(f"fig09.red.{name}", "once labels are contaminated, the part is red for the class "
                f"that it was mixed into ({words}; signed share)",
                mean_of(part, loss, SIGNED, "contaminated"), above=0)
          for name, (part, loss, words) in FORMS.items()),
        *(Claim(f"fig09.redder.{name}", "the part is redder than with clean labels "
                f"({words}; change of the signed share)", change_of(part, loss), above=0)
          for name, (part, loss, words) in FORMS.items()),
        Claim("fig09.control", "parts of the other species, whose labels are clean in both models, "
              f"become redder by less than {UNCHANGED} (logit, another animal beside them)",
              change_of("control", "logit"), below=UNCHANGED),
    )  # fmt: skip

    def items(self, study: Study) -> Selection:
        """The chosen models' pictures; of clean and contaminated labels also the mixed class's."""
        vit, data, labels = study.vit, study.pictures, contamination.labels_of(study)
        measured, shown = [], []
        if contamination.is_chosen(study):
            measured.append(in_part(data.singles(vit), "detail"))
            shown.append(
                contamination.apart(given_pictures(vit, self.pictures), "given")
                if self.pictures
                else in_part(data.shown_singles(vit, self.shown), "detail")
            )
        if not self.pictures and (labels or data.contaminated is None):
            shown.append(contamination.framed_picture(study))
        if labels:
            measured += contamination.mixed_pictures(study, self.impostors)
        return join(*measured, to_show(join(*shown)))

    def inputs(self, study: Study, item: Item, sample: Sample) -> Comparison:
        """The picture with its classes: those given, an animal's two variants, or the model's."""
        is_given = item.part in ("given", FRAMED)
        classes = sample.targets if is_given else ()
        sibling = None if is_given else study.pictures.sibling(study.vit, sample)
        if sibling is not None:
            pair = (sample.targets[0], sibling)
            classes = pair if item.part == "detail" else pair[::-1]
        view, is_shown = to_part_view(study.vit, sample), item.shown is not None
        return Comparison(view, classes, is_shown, turns=item.part == FRAMED)

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """Rows of every picture by every loss; beside another animal by the logit alone."""
        tables = []
        for by_logit, entries in in_groups(batch, lambda item: item.part in BY_LOGIT):
            losses = ("logit",) if by_logit else ("logit", *LOSSES)
            tables.append(detail_rows(study.vit, [own for _, own in entries], losses))
        table = pd.concat(tables, ignore_index=True).assign(labels=contamination.labels_of(study))
        return with_pictures(study, table, [comparison for _, comparison in batch])

    def judged(self, stored: Stored) -> pd.DataFrame:
        """Claims about each model's details, then about what contamination changes."""
        rows = stored.rows
        details, others = (rows[(rows["part"] == "detail") == own] for own in (True, False))
        tables = tables_of(details, self.measures, ("model",), stored.seed)
        mixed = others.loc[others["labels"] == "contaminated", "model"].unique()
        tables += [(name, Table(others, self.measures, stored.seed)) for name in mixed]
        return judge(self.claims, tables)

    def further(self, stored: Stored) -> list[str]:
        """What claims leave open."""
        if stored.rows["area_part"].isna().all():
            return [contamination.FOR_THE_EYE]
        return [
            "All training pictures of the class shown have the part too: with contaminated labels "
            "it may still speak for that class, only less."
        ]

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What the columns are."""
        models = ", ".join(dict.fromkeys(stored.shown["model"]))
        return (
            f"Complete correction of a loss of two classes ({models}): red speaks for the first "
            "class named above a map, blue for the second; l1 and l2 are their logits. First pair: "
            "by the paper's Eq. 8, which needs both logits positive, and by its two alternatives; "
            "then another pair. Framed: a picture whose class was mixed with another in training."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Every picture with its maps, the framed one last."""
        return draw_comparisons(stored, stored.shown), {}
