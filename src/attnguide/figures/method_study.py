"""A study of methods: pictures in groups by the methods that they are measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd

from attnguide.data.pictures import Item
from attnguide.data.views import View
from attnguide.errors import unknown_name
from attnguide.figures.experiment import Choices, Rows, Study
from attnguide.figures.selecting import in_groups, limited
from attnguide.figures.shown import pictures_of
from attnguide.figures.table_figure import TableFigure
from attnguide.methods import Method, list_methods

Entries = Sequence[tuple[Item, Any]]


@dataclass
class MethodStudy(TableFigure):
    """What a study of methods declares; everything else is here.

    Attributes:
        limits: On how many of the pictures a slow method is measured, by its label.
    """

    limits: dict[str, int] = field(default_factory=dict)

    takes: ClassVar[frozenset[str]] = frozenset({"method"})

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

    def group(self, item: Item) -> Any:  # noqa: ARG002
        """What items have in common that `table` takes at once, beside their methods."""
        return None

    def table(self, study: Study, entries: Entries, methods: Mapping[str, Method]) -> pd.DataFrame:
        """Rows of items of one group, which all of these methods explain."""
        raise NotImplementedError

    def seen(self, inputs: Any) -> Sequence[View]:
        """The views in what `inputs` gives; those of shown items are stored."""
        return [inputs]

    def rows(self, study: Study, batch: Entries) -> Rows:
        """Rows of every group, and the pictures of what is shown."""

        def alike(item: Item) -> tuple[tuple[str, ...], Any]:
            return tuple(limited(study.methods, self.limits, item)), self.group(item)

        tables, views = [], []
        for (labels, _), entries in in_groups(batch, alike):
            methods = {label: study.methods[label] for label in labels}
            tables.append(self.table(study, entries, methods))
            shown = [inputs for item, inputs in entries if item.shown is not None]
            views += [view for inputs in shown for view in self.seen(inputs)]
        return Rows(pd.concat(tables, ignore_index=True), pictures_of(study.vit, views))
