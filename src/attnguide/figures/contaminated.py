"""What Figures 9 and 10 share: models of clean and of contaminated labels, the framed picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from attnguide.data.pictures import Item, Sample, Selection, class_indices, retargeted
from attnguide.errors import InputError
from attnguide.evaluation.detail import contamination_change
from attnguide.evaluation.localisation import net_share
from attnguide.evaluation.statistics import Estimate, Measure, paired_difference
from attnguide.figures.claims import Ask, Table
from attnguide.figures.experiment import Choices, Study
from attnguide.figures.table_figure import TableFigure
from attnguide.models.sources import Timm
from attnguide.types import ViT

if TYPE_CHECKING:
    import torch

LABELS = ("clean", "contaminated")  # as in `Pictures.contaminated`
FOR_THE_EYE = (
    "Whether a map uncovers the mixture in a photograph is for the eye; it cannot be measured "
    "without the part's mask."
)


@dataclass
class ContaminationFigure(TableFigure):
    """A study of the chosen models, and of those of clean and contaminated labels."""

    def models(self, choices: Choices, device: torch.device) -> Iterator[ViT]:
        """All of them, each once."""
        yield from choices.models.load(device)
        missing = [n for n in choices.pictures.contaminated or () if n not in choices.models.names]
        if missing:
            yield from Timm(name=missing).load(device)


def labels_of(study: Study) -> str:
    """Which labels the model was trained on: one of `LABELS`, or "" where it is neither."""
    pair = study.pictures.contaminated or ()
    return LABELS[pair.index(study.vit.name)] if study.vit.name in pair else ""


def is_chosen(study: Study) -> bool:
    """Whether the model is one that was asked for, and not there for the comparison alone."""
    return not labels_of(study) or study.vit.name in study.models.names


def framed_classes(study: Study) -> tuple[int, int]:
    """The class that pictures were mixed into, and the class that they show.

    Raises:
        ValueError: classes that the model does not know.
    """
    shown, mixed = class_indices(study.vit, study.pictures.framed)
    return mixed, shown


def framed_item(study: Study) -> Item:
    """The first picture of the class shown, to be explained for both classes, the mixed one first.

    Raises:
        ValueError: classes that the model does not know, or no such picture.
    """
    classes = framed_classes(study)
    item = study.pictures.of_class(study.vit, study.pictures.framed[0])
    name = f"{item.id} framed"
    load = partial(retargeted, item.load, study.vit, name, classes)
    return replace(item, id=name, load=load, part="framed")


def framed_picture(study: Study) -> Selection:
    """That item; where the data has no picture of the class, none and a note.

    Raises:
        ValueError: classes that the model does not know.
    """
    framed_classes(study)
    try:
        return Selection((framed_item(study),))
    except InputError as error:
        return Selection((), f"The framed picture is left out: {error}.")


def mixed_pictures(study: Study, count: int) -> list[Selection]:
    """Pictures of the mixed class alone and beside another animal, and the latter's control."""
    data, vit = study.pictures, study.vit
    beside = (data.beside_another(vit, count, control=control) for control in (False, True))
    return [Selection(tuple(items)) for items in (data.impostors(vit, count), *beside)]


def apart(selection: Selection, part: str) -> Selection:
    """The items in a part of their own, under ids that no picture of the data has."""
    items = []
    for item in selection.items:
        name = f"{item.id} {part}"
        items.append(replace(item, id=name, load=partial(_renamed, item.load, name), part=part))
    return Selection(tuple(items), selection.note)


def select(table: Table, part: str, loss: str, labels: str = "") -> Table:
    """Rows of a part of the study by a loss; of the model of these labels alone."""
    rows = table.rows[(table.rows["part"] == part) & (table.rows["loss"] == loss)]
    return replace(table, rows=rows[rows["labels"] == labels] if labels else rows)


def mean_of(part: str, loss: str, measure: str, labels: str = "") -> Ask:
    """The mean of a measure in such rows."""
    return lambda table: select(table, part, loss, labels).at("", measure)


def change_of(part: str, loss: str) -> Ask:
    """How the signed share of the part changes in such rows, contaminated minus clean labels."""
    share = net_share("part")
    return lambda t: contamination_change(select(t, part, loss).rows, share, t.seed)


def gain_of(part: str, first: str, second: str, measure: Measure) -> Ask:
    """How much larger a measure is by the first loss than by the second, on the same pictures."""

    def ask(table: Table) -> Estimate:
        one, other = (select(table, part, loss).rows for loss in (first, second))
        return paired_difference(one, other, measure, table.seed)

    return ask


def _renamed(load: Callable[[], Sample], name: str) -> Sample:
    return replace(load(), id=name)
