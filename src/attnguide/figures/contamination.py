"""Figures 9 and 10: models of clean and of contaminated labels, their pictures, their drawings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnguide.data.pictures import Item, Sample, Selection, class_indices, retargeted
from attnguide.data.views import pixels_of, to_view
from attnguide.errors import InputError
from attnguide.evaluation.detail import DETAIL, EQ8, ROLES, Comparison, contamination_change
from attnguide.evaluation.localisation import net_share
from attnguide.evaluation.statistics import Estimate, Measure, paired_difference
from attnguide.figures.claims import Ask, Table
from attnguide.figures.experiment import Choices, Rows, Stored, Study
from attnguide.figures.shown import pictures_of
from attnguide.figures.table_figure import TableFigure
from attnguide.models.sources import Timm
from attnguide.store.maps import relevance_of, stored_picture
from attnguide.types import ViT
from attnguide.viz.dots import Dot, DotPanel, draw_dots
from attnguide.viz.panels import RED_FRAME, Panel, draw_panels, short_name
from attnguide.viz.style import method_label

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from torch import Tensor

LABELS = ("clean", "contaminated")  # as in `Pictures.contaminated`
FOR_THE_EYE = (
    "Whether a map uncovers the mixture in a photograph is for the eye; it cannot be measured "
    "without the part's mask."
)
LOSSES = {EQ8: "Eq. 8", "difference": "l1 \N{MINUS SIGN} l2", "ratio": "l1 / l2"}
TITLES = ("image", *LOSSES.values(), "example", "Eq. 8", "example")
FRAMED = "framed"  # part of the study whose pictures get a red frame
BAND = 7  # panels beside each other


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
    return replace(item, id=name, load=load, part=FRAMED)


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


def _renamed(load: Callable[[], Sample], name: str) -> Sample:
    return replace(load(), id=name)


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


def with_pictures(study: Study, table: pd.DataFrame, comparisons: Sequence[Comparison]) -> Rows:
    """The rows, what is shown of the comparisons, and an example of every second class.

    Args:
        study: Gives examples, where its pictures have one of the class.
        table: Of `detail_rows`; is told which examples there are.
        comparisons: Those of the rows.
    """
    vit = study.vit
    pictures = pictures_of(vit, (one.view for one in comparisons if one.is_shown))
    shown = table[table["relevance"].notna()]
    for index in shown["reference"].unique():
        pictures |= _example(study, int(index))
    names = (f"example {name}" for name in table["reference_name"])
    return Rows(table.assign(has_example=[name in pictures for name in names]), pictures)


def _example(study: Study, index: int) -> dict[str, Tensor]:
    """A picture of the class as the model would see it, by its name; none if there is none."""
    try:
        found = study.pictures.guide_picture(study.vit, str(index))
    except InputError:
        return {}
    view = to_view(study.vit, Sample(found.name, found.picture, (), ()))
    return {f"example {study.vit.class_names[index]}": pixels_of(study.vit, view.image)}


def draw_comparisons(stored: Stored, rows: pd.DataFrame) -> Figure:
    """A row of panels per model and picture, under `TITLES`; framed ones come last."""
    rows = rows.assign(framed=rows["part"] == FRAMED)
    rows = rows.sort_values(["framed", "model", "shown"], kind="stable")
    own = [part for _, part in rows.groupby(["model", "image_id"], sort=False)]
    several = rows.loc[~rows["framed"], "model"].nunique() > 1
    titles = [_row_title(part.iloc[0], several=several) for part in own]
    panels = [[*_panels(stored, part)] for part in own]
    return draw_panels(panels, column_titles=TITLES, row_titles=titles, panel_width=1.3)


def _row_title(row: Any, *, several: bool) -> str:
    if row["framed"] and row["labels"]:
        return f"{row['labels']} labels"
    return str(row["model"]) if several else ""


def _panels(stored: Stored, rows: pd.DataFrame) -> Iterator[Panel | None]:
    by_place = {(row.place, row.loss): row for row in rows.itertuples()}
    one, other = by_place[0, EQ8], by_place[1, EQ8]
    picture = stored_picture(stored.run_dir, f"{one.model} {one.image_id}")
    frame = RED_FRAME if one.framed else None

    def mapped(row: Any) -> Panel:
        note = f"l1 {row.logit_target:.1f}, l2 {row.logit_reference:.1f}"
        note = note.replace("-", "\N{MINUS SIGN}")
        if row.loss == EQ8 and not row.is_valid:
            note += "\nnot both positive"
        title = f"{short_name(row.target_name)} against {short_name(row.reference_name)}"
        return Panel(picture, relevance_of(row), title, note, frame)

    def example(row: Any) -> Panel | None:
        if not row.has_example:
            return None
        shown = stored_picture(stored.run_dir, f"example {row.reference_name}")
        return Panel(shown, title=short_name(row.reference_name))

    yield Panel(picture, note=str(one.top))
    yield from (mapped(by_place[0, loss]) for loss in LOSSES)
    yield from (example(one), mapped(other), example(other))


def label_of(method: str) -> str:
    """What the figure calls a method, detail interpretation among them."""
    return "detail, Eq. 8" if method == DETAIL else method_label(method)


def methods_of(stored: Stored) -> list[str]:
    """Detail interpretation first, then the methods."""
    return [DETAIL, *(method for method in stored.methods if method != DETAIL)]


def shown_by_model(stored: Stored) -> list[pd.DataFrame]:
    """Rows of the picture of each model, contaminated labels first."""
    own = [rows for _, rows in stored.shown.groupby("model", sort=False)]
    return sorted(own, key=lambda rows: rows["labels"].iloc[0] != "contaminated")


def draw_maps(stored: Stored, rows: pd.DataFrame) -> Figure:
    """Two panels per method, the mixed class above; the picture comes first."""
    first = rows.iloc[0]
    picture = stored_picture(stored.run_dir, f"{first['model']} {first['image_id']}")
    cells: list[list[Panel | None]] = [[Panel(picture, title="image", note=first["note"]), None]]
    for method in methods_of(stored):
        own = rows[rows["method"] == method].set_index("role")
        frame = RED_FRAME if method == DETAIL else None
        cells.append(
            [
                Panel(
                    picture,
                    relevance_of(own.loc[role]),
                    label_of(method) if role == "mixed" else "",
                    short_name(str(own.loc[role, "target_name"])),
                    frame,
                )
                for role in ROLES
            ]
        )
    bands = [cells[start : start + BAND] for start in range(0, len(cells), BAND)]
    lines = [[cell[place] for cell in band] for band in bands for place in (0, 1)]
    return draw_panels(lines, panel_width=1.15)


def draw_changes(changes: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """How each method's maps change with the contamination: lines of claims.csv as dots."""
    named = {line["id"].rpartition(".")[2]: line for line in changes.to_dict("records")}
    rows = [
        (label_of(method), [Dot(method, line["value"], line["low"], line["high"])])
        for method in methods
        if (line := named.get(method))
    ]
    reach = 1.1 * float(changes[["value", "low", "high"]].abs().max(axis=None)) or 1.0
    x_label = "signed share of the part, mixed minus shown class"
    title = "Contaminated minus clean labels"
    return draw_dots([DotPanel(title, x_label, rows, (-reach, reach), chance=0.0)])
