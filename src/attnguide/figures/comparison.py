"""Pictures whose classes are compared, with two-class maps and examples: stored and drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnguide.data.pictures import Sample
from attnguide.data.views import pixels_of, to_view
from attnguide.errors import InputError
from attnguide.evaluation.detail import EQ8, Comparison
from attnguide.figures.experiment import Rows, Stored, Study
from attnguide.figures.shown import pictures_of
from attnguide.store.maps import relevance_of, stored_picture
from attnguide.viz.panels import RED_FRAME, Panel, draw_panels, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

LOSSES = {EQ8: "Eq. 8", "difference": "l1 \N{MINUS SIGN} l2", "ratio": "l1 / l2"}
TITLES = ("image", *LOSSES.values(), "example", "Eq. 8", "example")
FRAMED = "framed"  # part of the study whose pictures get a red frame


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
