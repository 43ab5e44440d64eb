"""A study of methods: which are compared, on how many pictures, and their maps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd

from attnguide.data.pictures import Item, Selection
from attnguide.data.views import View
from attnguide.errors import unknown_name
from attnguide.figures.experiment import Choices, Rows, Study
from attnguide.figures.selecting import in_groups
from attnguide.figures.shown import pictures_of
from attnguide.figures.table_figure import TableFigure
from attnguide.methods import Method, class_blind_methods, fact_of, list_methods, name_of

Entries = Sequence[tuple[Item, Any]]
SLOW, SLOWEST = 40, 200  # COST of a method, in forward passes
GENERIC = "corrected_rollout"  # as it stands it is `complete`


@dataclass
class MethodStudy(TableFigure):
    """What a study of methods declares; everything else is here.

    A method enters every study by itself: `method=all` names it, its file says whether it tells
    classes apart, and its `COST` on how many pictures it is measured.

    Attributes:
        limits: On how many of the pictures a method is measured, by its label, where that is not
            what its cost allows.
        budget: On how many pictures methods of a cost of `SLOW` and of `SLOWEST` are measured; None
            for all.
        class_sensitive: Whether of all methods those that are blind to classes are left out.
        leaves_out: Methods that are left out of all, beside those.
    """

    limits: dict[str, int] = field(default_factory=dict)

    uses: ClassVar[frozenset[str]] = frozenset({"method"})
    budget: ClassVar[tuple[int | None, int | None]] = (None, None)
    class_sensitive: ClassVar[bool] = False
    leaves_out: ClassVar[frozenset[str]] = frozenset({GENERIC})

    def check(self, choices: Choices) -> None:
        """Limits and data.

        Raises:
            ValueError: the first limit of a method that nobody knows.
        """
        super().check(choices)
        known = {*choices.methods, *list_methods()}
        for label in self.limits:
            if label not in known:
                raise unknown_name("method in runner.limits", label, sorted(known))

    def compared(self, choices: Choices) -> dict[str, Method]:
        """The methods; of all, those that this study compares."""
        methods = dict(choices.methods)
        if not asks_for_all(methods):
            return methods
        left_out = {*self.leaves_out, *(blind_to_classes(methods) if self.class_sensitive else ())}
        return {label: method for label, method in methods.items() if label not in left_out}

    def limited(self, methods: Mapping[str, Method], item: Item) -> list[str]:
        """Labels of those that this item is measured with; what is shown is shown with all."""
        if item.shown is not None:
            return list(methods)
        limits = {label: self.limits.get(label, self._allowed(m)) for label, m in methods.items()}
        return [label for label, most in limits.items() if most is None or item.number < most]

    def _allowed(self, method: Method) -> int | None:
        """On how many pictures the budget lets it be measured."""
        slow, slowest = self.budget
        cost = fact_of(method, "COST", 0)
        return slowest if cost >= SLOWEST else slow if cost >= SLOW else None

    def to_study(self, study: Study) -> Selection:
        """The items, without those that no method is measured with."""
        found, methods = self.items(study), self.compared(study)
        kept = (item for item in found.items if self.limited(methods, item) or not methods)
        return Selection(tuple(kept), found.note)

    def group(self, item: Item) -> Any:  # noqa: ARG002
        """What items have in common that `table` takes at once, beside their methods."""
        return None

    def kind(self, study: Study, item: Item) -> Hashable:
        """Its part, methods and group."""
        return item.part, *self.limited(self.compared(study), item), self.group(item)

    def table(self, study: Study, entries: Entries, methods: Mapping[str, Method]) -> pd.DataFrame:
        """Rows of items of one group, which all of these methods explain."""
        raise NotImplementedError

    def views_of(self, inputs: Any) -> Sequence[View]:
        """The views in what `inputs` gives; those of shown items are stored."""
        return [inputs]

    def rows(self, study: Study, batch: Entries) -> Rows:
        """Rows of every group, and the pictures of what is shown."""
        compared = self.compared(study)

        def alike(item: Item) -> tuple[tuple[str, ...], Any]:
            return tuple(self.limited(compared, item)), self.group(item)

        tables, views = [], []
        for (labels, _), entries in in_groups(batch, alike):
            tables.append(self.table(study, entries, {label: compared[label] for label in labels}))
            shown = [inputs for item, inputs in entries if item.shown is not None]
            views += [view for inputs in shown for view in self.views_of(inputs)]
        return Rows(pd.concat(tables, ignore_index=True), pictures_of(study.vit, views))


def asks_for_all(methods: Mapping[str, Method]) -> bool:
    """Whether all methods were asked for, and not some of them by name."""
    return set(list_methods()) - {GENERIC} <= set(methods)


def blind_to_classes(methods: Mapping[str, Method]) -> list[str]:
    """Labels of methods whose maps are the same for every class, or nearly so (`absolute`)."""
    blind = ("absolute", *class_blind_methods())
    return [label for label, method in methods.items() if name_of(method) in blind]
