"""Figures 9 and 10: models of clean and of contaminated labels, their pictures, their drawings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from annotated_types import Ge
from pydantic import PositiveInt

from attnguide.data.pictures import Item, Sample, Selection, class_indices, retargeted
from attnguide.data.user_pictures import given_pictures
from attnguide.data.views import to_view
from attnguide.errors import InputError
from attnguide.evaluation.detail import (
    DETAIL,
    DIFFERENCE,
    EQ8,
    RATIO,
    ROLES,
    Comparison,
    contamination_change,
    detail_rows,
    mixed_minus_shown,
    to_part_view,
    valid_rows,
)
from attnguide.evaluation.localisation import net_share
from attnguide.evaluation.statistics import Estimate, Measure, paired_difference
from attnguide.figures.claims import Ask, Table, judge, tables_of
from attnguide.figures.experiment import Choices, Rows, Stored, Study
from attnguide.figures.selecting import in_groups, in_part, join, to_show
from attnguide.figures.shown import pictures_of
from attnguide.figures.table_figure import OwnPictures, TableFigure
from attnguide.models.preprocess import pixels_of
from attnguide.models.sources import Timm
from attnguide.store.maps import relevance_of
from attnguide.types import ViT
from attnguide.viz.charts import Dot, DotPanel, draw_dots
from attnguide.viz.panels import RED_FRAME, Panel, draw_panels, fitting, short_name
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
LOSSES = {EQ8: "Eq. 8", DIFFERENCE: "l1 \N{MINUS SIGN} l2", RATIO: "l1 / l2"}
TITLES = ("image", *LOSSES.values(), "example", "Eq. 8", "example")
SHARES = {"creatures_contaminated": 0.3}  # of the mixed class's training pictures that are wrong
DETAILS = ("detail", "beside")  # parts of the study: pictures alone, and beside a guide
BY_LOGIT = ("beside", "guided", "control")  # parts with another animal in the picture
FRAMED = "framed"  # part of the study whose pictures get a red frame
BAND = 7  # panels beside each other


@dataclass
class ContaminationFigure(TableFigure):
    """A study of the chosen models, and of those of clean and contaminated labels.

    Attributes:
        stronger: Models of more contaminated labels, which are studied too.
    """

    stronger: ClassVar[tuple[str, ...]] = ()

    def models(self, choices: Choices, device: torch.device) -> Iterator[ViT]:
        """All of them, each once."""
        yield from choices.models.load(device)
        if choices.pictures.contaminated:
            for name in (*choices.pictures.contaminated, *self.stronger):
                if name not in choices.models.names:
                    yield from Timm(name=name).load(device)


@dataclass
class DetailFigure(OwnPictures, ContaminationFigure):
    """One class explained against another, where the part that differs is known (Figure 9).

    Attributes:
        shown: How many pictures to show beside the framed one.
        impostors: How many pictures of the mixed class are measured on either model.
        pictures: The user's own to show instead: {file: PATH, classes: [FIRST, ...]} each; the
            first class is explained against the next ones, and then the model's own.
    """

    shown: PositiveInt = 3
    impostors: Annotated[int, Ge(2)] = 24

    key = ("image_id", "model", "part", "loss", "place")
    by = ("part", "model", "loss")

    def items(self, study: Study) -> Selection:
        """The chosen models' pictures; of clean and contaminated labels also the mixed class's."""
        vit, data, labels = study.vit, study.pictures, labels_of(study)
        measured, shown = [], []
        if not labels or vit.name in study.models.names:  # else it is there to be compared alone
            measured.append(in_part(data.singles(vit), "detail"))
            if data.contaminated:
                guide = data.guide_picture(vit, None).label
                others = data.singles(vit, exclude=() if guide is None else (guide,))
                measured.append(apart(others, "beside"))
            shown.append(
                apart(given_pictures(vit, self.pictures), "given")
                if self.pictures
                else in_part(data.shown_singles(vit, self.shown), "detail")
            )
        if not self.pictures and (labels or data.contaminated is None):
            shown.append(framed_picture(study))
        if labels:
            count = self.impostors
            beside = (data.beside_another(vit, count, control=control) for control in (False, True))
            mixed = (data.impostors(vit, count), *beside)
            measured += [Selection(tuple(items)) for items in mixed]
        return join(*measured, to_show(join(*shown)))

    def inputs(self, study: Study, item: Item, sample: Sample) -> Comparison:
        """The picture with its classes: those given, an animal's two variants, or the model's."""
        is_given = item.part in ("given", FRAMED)
        classes = sample.targets if is_given else ()
        sibling = None if is_given else study.pictures.sibling(study.vit, sample)
        if sibling is not None:
            pair = (sample.targets[0], sibling)
            classes = pair if item.part in DETAILS else pair[::-1]
        guide = study.pictures.guide_picture(study.vit, None) if item.part == "beside" else None
        view, is_shown = to_part_view(study.vit, sample, guide), item.shown is not None
        return Comparison(view, classes, is_shown, turns=item.part == FRAMED)

    def rows(self, study: Study, batch: Sequence[tuple[Item, Any]]) -> Rows:
        """Rows of every picture by every loss; beside another animal by the logit alone."""
        tables = []
        for by_logit, entries in in_groups(batch, lambda item: item.part in BY_LOGIT):
            losses = ("logit",) if by_logit else ("logit", *LOSSES)
            tables.append(detail_rows(study.vit, [own for _, own in entries], losses))
        table = pd.concat(tables, ignore_index=True).assign(labels=labels_of(study))
        return with_pictures(study, table, [comparison for _, comparison in batch])

    def select_rows(self, stored: Stored) -> pd.DataFrame:
        """Rows whose loss means what it should."""
        return valid_rows(stored.rows)

    def claims_table(self, stored: Stored) -> pd.DataFrame:
        """Claims about each model's details, then about what contamination changes."""
        rows = self.select_rows(stored)
        is_detail = rows["part"].isin(DETAILS)
        tables = tables_of(rows[is_detail], self.measures, ("model",), stored.seed)
        mixed = rows.loc[~is_detail & (rows["labels"] == "contaminated"), "model"].unique()
        tables += [(name, Table(rows[~is_detail], self.measures, stored.seed)) for name in mixed]
        return judge(self.claims, tables)


def labels_of(study: Study) -> str:
    """Which labels the model was trained on: one of `LABELS`, or "" where it is neither."""
    pair = study.pictures.contaminated or ()
    return LABELS[pair.index(study.vit.name)] if study.vit.name in pair else ""


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


def change_by(method: str) -> Ask:
    """How the part's signed share changes, for the mixed class minus for the class shown."""
    return lambda t: contamination_change(t.of(method), mixed_minus_shown, t.seed)


def gain_of(first: tuple[str, str], second: tuple[str, str], measure: Measure) -> Ask:
    """How much larger a measure is in the first part and loss than in the second, by picture.

    Pictures of a part of their own (`apart`) are paired with those of the same name.
    """

    def ask(table: Table) -> Estimate:
        one, other = (select(table, *rows).rows for rows in (first, second))
        names = other["image_id"].str.removesuffix(f" {second[0]}")
        return paired_difference(one, other.assign(image_id=names), measure, table.seed)

    return ask


def why_not_red(rows: pd.DataFrame) -> Iterator[str]:
    """What a loss of two classes can show of contaminated labels, by the model's probabilities.

    A calibrated model whose class j was mixed with a share q of class k gives pictures of k the
    probabilities q / (1 + q) for j and 1 / (1 + q) for k: less for j than for k if q < 1.

    Args:
        rows: Of pictures of the class that was mixed, by the logit.
    """
    clean = rows.loc[rows["labels"] == "clean", "logit_target"].mean()
    for model, own in rows[rows["model"].isin(SHARES)].groupby("model", sort=False):
        share, (first, *_) = SHARES[str(model)], own.to_dict("records")
        mixed, shown = own["probability_target"].mean(), own["probability_reference"].mean()
        yield (
            f"Of the training pictures of {first['target_name']}, {100 * share:.0f} % showed "
            f"{first['reference_name']}. {model} gives such pictures {mixed:.2f} for the former "
            f"and {shown:.2f} for the latter (mean of {own['image_id'].nunique()}; if calibrated, "
            f"q / (1 + q) = {share / (1 + share):.2f} and {1 / (1 + share):.2f}). For any share q "
            "below 100 % the part is evidence against the mixed class, so that no loss of the two "
            "classes should show it red. What rises is that class's logit: by "
            f"{own['logit_target'].mean() - clean:.1f}."
        )


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
    return {f"example {study.vit.class_names[index]}": pixels_of(study.vit.preprocess, view.image)}


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
    picture = stored.picture(one.model, one.image_id)
    frame = RED_FRAME if one.framed else None

    def mapped(row: Any) -> Panel:
        note = f"l1 {row.logit_target:.1f}, l2 {row.logit_reference:.1f}"
        note = note.replace("-", "\N{MINUS SIGN}")
        if row.loss in (EQ8, RATIO) and not row.is_valid:
            note += "\nnot both positive"
        title = f"{short_name(row.target_name)} against {short_name(row.reference_name)}"
        return Panel(picture, relevance_of(row), title, note, frame)

    def example(row: Any) -> Panel | None:
        if not row.has_example:
            return None
        shown = stored.picture("example", row.reference_name)
        return Panel(shown, title=short_name(row.reference_name))

    yield Panel(picture, note=str(one.top))
    yield from (mapped(by_place[0, loss]) for loss in LOSSES)
    yield from (example(one), mapped(other), example(other))


def label_of(method: str) -> str:
    """What the figure calls a method, detail interpretation among them."""
    return f"detail, {LOSSES[DIFFERENCE]}" if method == DETAIL else method_label(method)


def methods_of(stored: Stored) -> list[str]:
    """Detail interpretation first, then the methods."""
    return [DETAIL, *(method for method in stored.methods if method != DETAIL)]


def shown_by_model(stored: Stored) -> list[pd.DataFrame]:
    """Rows of the picture of each model, contaminated labels first."""
    own = [rows for _, rows in stored.shown.groupby("model", sort=False)]
    return sorted(own, key=lambda rows: rows["labels"].iloc[0] != "contaminated")


def answers(stored: Stored) -> Iterator[str]:
    """What each model says of the picture shown, for both classes."""
    for model, rows in stored.shown.groupby("model", sort=False):
        words = []
        row: Any
        for row in rows.drop_duplicates("role").itertuples():
            logit = f"{row.logit:.1f}".replace("-", "\N{MINUS SIGN}")
            words.append(f"{short_name(row.target_name)} {row.probability:.2f} (logit {logit})")
        yield f"{model} gives the picture: {', '.join(words)}."
    if stored.rows["area_part"].isna().all():
        yield FOR_THE_EYE


def draw_case(stored: Stored, claims: pd.DataFrame) -> tuple[Figure, dict[str, Figure]]:
    """Maps of every model, contaminated labels first, and the changes that claims judge."""
    first, *others = shown_by_model(stored)
    figures = {f"Maps of {rows['model'].iloc[0]}": _draw_maps(stored, rows) for rows in others}
    changes = claims[claims["id"].str.startswith("fig10.change.")]
    if len(changes):
        figures["What changes with the contamination"] = _draw_changes(changes, methods_of(stored))
    return _draw_maps(stored, first), figures


def _draw_maps(stored: Stored, rows: pd.DataFrame) -> Figure:
    """Two panels per method, the mixed class above; the picture comes first."""
    first = rows.iloc[0]
    picture = stored.picture(first["model"], first["image_id"])
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
    beside = fitting(BAND)
    bands = [cells[start : start + beside] for start in range(0, len(cells), beside)]
    lines = [[cell[place] for cell in band] for band in bands for place in (0, 1)]
    return draw_panels(lines, panel_width=1.15)


def _draw_changes(changes: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """How each method's maps change with the contamination: lines of claims.csv as dots."""
    named = {line["id"].rpartition(".")[2]: line for line in changes.to_dict("records")}
    rows = [
        (label_of(method), [Dot(method, line["value"], line["low"], line["high"])])
        for method in methods
        if (line := named.get(method))
    ]
    reach = 1.1 * float(np.nanmax(changes[["value", "low", "high"]].abs().to_numpy())) or 1.0
    x_label = "signed share of the part, mixed minus shown class"
    title = "Contaminated minus clean labels"
    return draw_dots([DotPanel(title, x_label, rows, (-reach, reach), chance=0.0)])
