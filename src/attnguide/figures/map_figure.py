"""An experiment that ends in maps: pictures explained, measured where relevance lies, shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from pydantic import PositiveInt

from attnguide.data.pictures import Item, Sample, Selection
from attnguide.data.user_pictures import given_pictures
from attnguide.data.views import View, to_view
from attnguide.errors import InputError
from attnguide.evaluation.localisation import (
    KEY,
    LIKE,
    REFERENCES,
    like,
    localisation_rows,
    on_target,
)
from attnguide.evaluation.statistics import Measure
from attnguide.figures.experiment import Choices, Stored, Study
from attnguide.figures.method_study import Entries, MethodStudy
from attnguide.figures.selecting import join, to_show
from attnguide.figures.shown import ShownView, views_in
from attnguide.figures.table_figure import OwnPictures, one_per_model
from attnguide.losses import ONE_CLASS, TWO_CLASS, loss_name
from attnguide.methods import Method
from attnguide.viz.panels import Panel, draw_panels
from attnguide.viz.style import method_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BESIDE = ("label", "runner-up")  # what is shown where competitors are explained
EACH_SCALE = (
    "Red speaks for the class named above a map, blue against it; every map has its own scale. "
    "Numbers beneath a map: positive minus negative relevance of the part that is named, as a "
    "share of the relevance of the whole map; r: correlation of a method's maps of two classes."
)


@dataclass
class MapFigure(MethodStudy, OwnPictures):
    """What a figure of maps declares; everything else is here.

    Attributes:
        shown: How many pictures to show.
        pairs: Whether pictures show two classes, each explained in turn.
        boxed: Whether two-class photographs with boxes are measured too.
        competitors: How many other classes are explained too, as in `localisation_rows`.
    """

    shown: PositiveInt = 4

    uses: ClassVar[frozenset[str]] = frozenset({"method", "loss", "reference"})
    key: ClassVar[tuple[str, ...]] = KEY
    pairs: ClassVar[bool] = False
    boxed: ClassVar[bool] = False
    competitors: ClassVar[int] = 0

    @property
    def own_classes(self) -> int:  # type: ignore[override]
        """Of each of the user's own pictures."""
        return 2 if self.pairs else 1

    def check(self, choices: Choices) -> None:
        """Methods, loss, pictures and data."""
        super().check(choices)
        check_reference(choices, pairs=self.pairs)

    def items(self, study: Study) -> Selection:
        """Pictures that are measured, boxed ones, and those that are shown."""
        vit, data = study.vit, study.pictures
        left_out = (*study.guide_classes, *reference_class(study))
        measured = data.pairs(vit) if self.pairs else data.singles(vit, exclude=left_out)
        if self.pictures:
            shown = given_pictures(vit, self.pictures)
        elif self.pairs:
            shown = data.shown_pairs(vit, self.shown)
        else:
            shown = data.shown_singles(vit, self.shown + len(left_out))
        kept = [item for item in shown.items if item.label not in left_out]
        kept = kept or list(measured.items)
        count = len(kept) if self.pictures else self.shown
        shown = Selection(tuple(kept[:count]), shown.note)
        return join(measured, data.boxed(vit) if self.boxed else Selection(()), to_show(shown))

    def inputs(self, study: Study, item: Item, sample: Sample) -> list[View]:  # noqa: ARG002
        """The sample as the model sees it, in one way or several."""
        return [to_view(study.vit, sample)]

    def group(self, item: Item) -> Any:
        """Boxed photographs are not explained for other classes."""
        return item.part == "boxed" and self.competitors > 0

    def table(self, study: Study, entries: Entries, methods: Mapping[str, Method]) -> pd.DataFrame:
        """Rows of every view, target and method."""
        views = [(item.shown is not None, view) for item, views in entries for view in views]
        size, competitors = study.batch_size, self.competitors
        if entries[0][0].part == "boxed":
            competitors = 0
        tables = [
            localisation_rows(
                study.vit,
                [view for _, view in part],
                [shown for shown, _ in part],
                methods,
                loss=study.loss,
                reference=study.reference,
                competitors=competitors,
            )
            for part in (views[start : start + size] for start in range(0, len(views), size))
        ]
        return pd.concat(tables, ignore_index=True)

    def views_of(self, inputs: Any) -> Sequence[View]:
        """Every view of a picture."""
        return list(inputs)

    def all_measures(self) -> Mapping[str, Measure]:
        """Measures of the label's maps, and how alike they are to those of other classes."""
        alike = {name: like(role) for role, name in LIKE.items()} if self.competitors else {}
        return alike | {name: on_target(measure) for name, measure in self.measures.items()}

    def note(self, view: ShownView, method: str, place: int) -> str:  # noqa: ARG002
        """What stands beneath a map."""
        return ""

    def column_titles(self, methods: Sequence[str], places: int) -> list[str]:
        """Above the columns of maps."""
        if self.competitors:
            columns = self.columns(methods, places)
            return [f"{method_label(method)}: {BESIDE[place]}" for method, place in columns]
        return [*map(method_label, methods)] * places

    def panels(self, shown: Sequence[ShownView], methods: Sequence[str]) -> Figure:
        """A row per picture: itself, then each target by each method."""
        places = len(shown[0].targets)
        rows = [
            [
                Panel(view.picture, note=view.note),
                *(
                    view.panel(method, place, self.note(view, method, place))
                    for method, place in self.columns(methods, places)
                ),
            ]
            for view in shown
        ]
        titles = ["image", *self.column_titles(methods, places)]
        return draw_panels(rows, column_titles=titles, letters=True)

    def columns(self, methods: Sequence[str], places: int) -> Iterator[tuple[str, int]]:
        """Method and target of every column: all methods of the first target first.

        With competitors each method's map of the label, then that of the runner-up.
        """
        if self.competitors:
            yield from product(methods, range(min(places, len(BESIDE))))
        else:
            yield from ((method, place) for place in range(places) for method in methods)

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """The figure of the first model, and those of the others by heading."""
        return one_per_model(
            "Maps of", stored.shown, lambda own: self.panels(views_in(stored, own), stored.methods)
        )

    def caption(self, stored: Stored, model: str) -> str:
        """What the figure shows."""
        return f"{self.title} ({model}, loss {stored.loss}). {EACH_SCALE}"


def check_reference(choices: Choices, *, pairs: bool, words: tuple[str, ...] | None = None) -> None:
    """Refuse a two-class loss without its second class, and a second class without such a loss.

    Args:
        choices: What was chosen.
        pairs: Whether pictures show two classes; there no class is the second one of all.
        words: Which of `REFERENCES` are understood; by default those that make sense.

    Raises:
        ValueError: what is missing or would do nothing.
    """
    name, reference = loss_name(choices.loss), choices.reference
    if words is None:
        words = REFERENCES if pairs else REFERENCES[1:]
    known = " or ".join(words if pairs else (*words, "CLASS"))
    if name in TWO_CLASS and reference is None:
        raise InputError(f"loss={name} compares two classes; pass reference={known}")
    if name in ONE_CLASS and reference is not None:
        raise InputError(
            f"loss={name} has no second class, got reference={reference}; leave it out, or choose "
            f"loss={', '.join(sorted(TWO_CLASS))}"
        )
    unknown = reference not in (None, *words) and (pairs or reference in REFERENCES)
    if unknown:
        raise InputError(f"reference is {known} here, got {reference!r}")


def reference_class(study: Study) -> tuple[int, ...]:
    """The class that is compared with: pictures of it cannot be studied."""
    if study.reference in (None, *REFERENCES):
        return ()
    return (study.vit.class_index(study.reference),)
