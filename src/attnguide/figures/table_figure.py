"""An experiment that ends in numbers: measures by method, claims, dots with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from attnguide.data.user_pictures import check_pictures
from attnguide.evaluation.statistics import Measure, per_image, summarise
from attnguide.figures.claims import Judged, MethodComparison, Table, counted, judge, tables_of
from attnguide.figures.experiment import Choices, Experiment, Stored
from attnguide.findings import Findings
from attnguide.viz.charts import DotPanel, draw_dots, table_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST = 50  # single pictures on the page
WHAT_BRACKETS_ARE = "Brackets are 95 % intervals over independent pictures."


@dataclass(frozen=True)
class Plot:
    """A panel of dots: a row per measure, in it a dot per method."""

    title: str
    measures: Sequence[str]
    x_label: str = "share"
    limits: tuple[float, float] = (0.0, 1.0)
    chance: float | None = None


@dataclass
class TableFigure(Experiment):
    """What a figure of numbers declares; everything else is here.

    Attributes:
        by: Columns that tell lines of the summary apart.
        claims_by: Columns whose groups are judged one by one; `by`, if not given.
        measures: Functions of rows to a value per row, by name.
        claims: What is judged.
        plots: Panels of dots.
        shows: What the figure shows, in full sentences; {model} is the first.
    """

    by: ClassVar[tuple[str, ...]] = ("model", "method")
    claims_by: ClassVar[tuple[str, ...] | None] = None
    measures: ClassVar[Mapping[str, Measure]] = {}
    claims: ClassVar[Sequence[Judged]] = ()
    plots: ClassVar[Sequence[Plot]] = ()
    shows: ClassVar[str] = ""

    def all_measures(self) -> Mapping[str, Measure]:
        """The measures."""
        return self.measures

    def select_rows(self, stored: Stored) -> pd.DataFrame:
        """The rows that measures read."""
        return stored.rows

    def claims_of(self, stored: Stored) -> Sequence[Judged]:  # noqa: ARG002
        """The claims, which may depend on the methods that were run."""
        return self.claims

    def summary(self, stored: Stored) -> pd.DataFrame:
        """Mean of every measure with its interval and n."""
        return summarise(self.select_rows(stored), self.by, self.all_measures(), stored.seed)

    def models_and_parts(self, stored: Stored) -> list[tuple[str, Table]]:
        """A table of every model and group, which are judged one by one."""
        rows, by = self.select_rows(stored), self.claims_by or self.by
        return tables_of(rows, self.all_measures(), by, stored.seed)

    def claims_table(self, stored: Stored) -> pd.DataFrame:
        """The lines of claims.csv."""
        return judge(self.claims_of(stored), self.models_and_parts(stored))

    def remarks(self, stored: Stored) -> list[str]:  # noqa: ARG002
        """Sentences beside the claims."""
        return []

    def tables(self, stored: Stored, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:  # noqa: ARG002
        """More tables of the report, by heading."""
        return {}

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What the figure shows, in full sentences."""
        return self.shows.format(model=model)

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """The figure, and further ones by heading."""
        raise NotImplementedError

    def dots(self, summary: pd.DataFrame, methods: Sequence[str]) -> dict[str, Figure]:
        """What was measured, of every model, by heading."""
        found = {}
        if "method" not in summary:
            summary, methods = summary.assign(method="complete"), ["complete"]
        for model, own in summary.groupby("model", sort=False) if self.plots else ():
            panels = [
                panel for plot in self.plots for panel in _panels(own, plot, methods, self.by)
            ]
            if panels:
                found[f"What was measured, {model}"] = draw_dots(panels)
        return found

    def draw(self, stored: Stored) -> Findings:
        """Figure, summary, claims with verdicts, sentences, dots."""
        summary, claims = self.summary(stored), self.claims_table(stored)
        figure, figures = self.main_figure(stored)
        compared = [c for c in self.claims_of(stored) if isinstance(c, MethodComparison)]
        found = [*counted(claims, compared), *self.remarks(stored)]
        caption = self.caption(stored, str(stored.all_rows["model"].iloc[0]))
        parts = (caption, WHAT_BRACKETS_ARE, stored.note)
        return Findings(
            figure=figure,
            summary=summary,
            claims=claims,
            caption=" ".join(part.strip() for part in parts if part),
            found=tuple(found),
            figures=figures | self.dots(summary, stored.methods),
            tables=self.tables(stored, summary),
            images=self.worst(stored),
        )

    def worst(self, stored: Stored) -> pd.DataFrame:
        """Numbers of single pictures by the first method, least of the first measure first."""
        rows = self.select_rows(stored)
        rows = rows[rows["measured"].astype(bool)]
        if "method" in rows:
            rows = rows[rows["method"] == stored.methods[0]]
        measures = self.all_measures().items()
        values = {name: per_image(rows, measure)[0] for name, measure in measures}
        table = pd.DataFrame({name: own for name, own in values.items() if len(own)})
        if table.empty:
            return table
        return table.sort_values(table.columns[0], kind="stable").head(WORST).reset_index()


@dataclass
class OwnPictures(TableFigure):
    """A figure that shows pictures: those of the data, or the user's own.

    Attributes:
        pictures: The user's own to show instead: {file: PATH, classes: [NAME, ...]} each.
        own_classes: How many classes each of them needs; None for any number.
    """

    pictures: list[dict[str, Any]] = field(default_factory=list)

    own_classes: ClassVar[int | None] = None

    def check(self, choices: Choices) -> None:
        """The user's own pictures, and the data."""
        check_pictures(self.pictures, self.own_classes)
        super().check(choices)


def one_per_model(
    heading: str, rows: pd.DataFrame, draw: Callable[[pd.DataFrame], Figure]
) -> tuple[Figure, dict[str, Figure]]:
    """The first model's figure, and those of the others by heading.

    Args:
        heading: Of the others, before the model's name.
        rows: Of all models, in order.
        draw: Rows of one model to its figure.
    """
    (_, first), *others = rows.groupby("model", sort=False)
    return draw(first), {f"{heading} {model}": draw(own) for model, own in others}


def _panels(
    own: pd.DataFrame, plot: Plot, methods: Sequence[str], by: Sequence[str]
) -> Iterator[DotPanel]:
    """The plot of every group; one plot with a row for each group, where it has one measure."""
    own = own[own["measure"].isin(plot.measures)]
    names = [name for name in by if name not in ("model", "method")]
    words = (", ".join(filter(None, map(str, keys))) for keys in own[names].to_numpy())
    where = pd.Series(list(words), own.index, dtype=str)
    measures, groups = plot.measures, list(where.unique())
    if len(measures) == 1:
        own, measures, groups = own.assign(measure=where), groups, [""]
        where = pd.Series("", own.index)
    for group in groups:
        part = own[where == group]
        title = f"{plot.title}, {group}" if group else plot.title
        look: Any = {"limits": plot.limits, "chance": plot.chance}
        panel = table_panel(part, measures, methods, title, plot.x_label, **look)
        if panel.rows:
            yield panel
