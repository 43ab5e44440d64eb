"""Figure 13: all class-sensitive methods on pictures of two classes, with the signed shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.cases import pair_cases, shown_pairs
from attnguide.data.views import look
from attnguide.errors import InputError, unknown_name
from attnguide.evaluation.localisation import (
    both_signs,
    correlation,
    net_negative,
    net_positive,
    pick,
    positive_share,
    summarise,
    text,
)
from attnguide.findings import Findings
from attnguide.methods import list_methods
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import KEY, check_choice, measure, read_rows
from attnguide.runs.shown import Shown, load_shown, notes, show, signed
from attnguide.viz.dots import draw_dots, table_panel
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label

BOTH = "both signs right"
MEASURES = {
    "sign right on the target": net_positive("target"),
    "sign right on the other": net_negative("other"),
    BOTH: both_signs,
    "positive mass on the target": positive_share("target"),
    "positive mass on the other": positive_share("other"),
    "positive mass on the background": positive_share("background"),
}
OTHER = "positive mass on the other"
CLASS_BLIND = ("absolute", "attention_flow", "raw_attention", "rollout")
COLUMNS = 9


@dataclass
class Fig13MethodComparison(Runner):
    """Measure two-class pictures by every method; show some, both targets.

    Attributes:
        shown: How many pictures to show.
        pictures: The user's own to show instead: {file: PATH, classes: [NAME, NAME]} each.
        limits: On how many of the pictures a slow method is measured, by its name.
    """

    shown: int = 2
    pictures: list[dict[str, Any]] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)

    title: ClassVar[str] = "Figure 13: all class-sensitive methods"
    claim: ClassVar[str] = (
        "In pictures of two classes, only complete gradient correction gives positive relevance to "
        "the target and negative relevance to the other class at once; other methods give positive "
        "relevance to the other class, and some have difficulty in distinguishing classes."
    )

    def check(self, job: Job) -> None:
        """Methods, pictures and data, before any weights are loaded."""
        blind = [name for name in job.methods if name in CLASS_BLIND]
        if blind:
            raise InputError(
                f"this figure compares class-sensitive methods; leave out {', '.join(blind)}"
            )
        for name in self.limits:
            if name not in list_methods():
                raise unknown_name("method in runner.limits", name, list_methods())
        check_choice(job, self.pictures, classes=2)

    def compute(self, job: Job) -> None:
        """Rows of every two-class picture, of the first ones by slow methods; maps shown."""
        with job.results(*KEY) as results:
            for vit in job.vits():
                cases = pair_cases(vit, job.data)
                see = lambda case, vit=vit: [look(vit, case)]  # noqa: E731
                measure(job, vit, cases, see, results, limits=self.limits)
                chosen = shown_pairs(vit, job.data, self.shown, self.pictures)
                show(job, vit, [look(vit, case) for case in chosen], note=cases.note)

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Every method's maps, the table of the signed shares, sentences with verdicts."""
        (rows, methods), shown = read_rows(run_dir, settings), load_shown(run_dir)
        summary = summarise(rows, ["model", "method"], MEASURES, settings["seed"])
        found = _sentences(summary)
        models = list(dict.fromkeys(one.model for one in shown))
        figures = {}
        for model in models:
            own = summary[summary["model"] == model]
            figures[f"Signs by method, {model}"] = _dots(own, list(MEASURES)[:3], methods)
            figures[f"Positive mass by method, {model}"] = _dots(own, list(MEASURES)[3:], methods)
        wide = summary.pivot(index=["model", "method"], columns="measure", values="value")
        wide = wide.loc[[(m, name) for m in models for name in methods], list(MEASURES)]
        return Findings(
            figure=_maps(shown, methods),
            summary=summary,
            caption=(
                f"Pictures of two classes, each explained in turn by {len(methods)} methods "
                f"({', '.join(models)}, loss {settings['loss']}). Red speaks for the class at the "
                "left, blue against it; every map has its own scale. Beneath: correlation r with "
                f"the same method's map of the other class. {' '.join(found)} {notes(run_dir)}"
            ).strip(),
            found=tuple(found),
            figures=figures,
            tables={"Signed shares, means": wide.reset_index()},
        )


def _maps(shown: Sequence[Shown], methods: Sequence[str]) -> Figure:
    """Bands of methods; in each a row per model, picture and target."""
    rows, titles = [], []
    several = len({one.model for one in shown}) > 1
    for start in range(0, len(methods), COLUMNS - 1):
        band = methods[start : start + COLUMNS - 1]
        for number, one in enumerate(shown):
            for place, name in enumerate(one.names):
                top = number == place == 0
                row = [Panel(one.picture, note=one.note)]
                for method in band:
                    title = method_label(method) if top else ""
                    row.append(one.panel(method, place, _alike(one, method), title=title))
                rows.append(row)
                titles.append(short_name(name) + (f", {one.model}" if several else ""))
    return draw_panels(rows, row_titles=titles, panel_width=1.15)


def _alike(one: Shown, method: str) -> str:
    maps = [one.maps[method, target] for target in one.targets]
    alike = correlation(*maps)
    return f"r = {signed(alike)}" if alike == alike else "a map of zeros"


def _dots(summary: pd.DataFrame, names: Sequence[str], methods: Sequence[str]) -> Figure:
    """A panel per measure, in it a row per method."""
    panels = []
    for name in names:
        part = summary[summary["measure"] == name]
        part = part.assign(measure=part["method"].map(method_label))
        labels = [method_label(method) for method in methods]
        panels.append(table_panel(part, labels, methods, name, "share", chance=None))
    return draw_dots(panels, columns=3)


def _sentences(summary: pd.DataFrame) -> list[str]:
    """Which methods give both signs, and how much the others give to the other class."""
    told = []
    for model, own in summary.groupby("model", sort=False):
        signs = own[own["measure"] == BOTH].sort_values("value", ascending=False)
        able = signs[signs["ci_low"] > 0.5]
        names = [f"{method_label(line['method'])} {text(line)}" for line in able.to_dict("records")]
        only = list(able["method"]) == ["complete"]
        told.append(
            f"{model}: both signs are right, better than chance, with "
            f"{'; '.join(names) or 'no method'}: "
            + (
                "only complete, as claimed."
                if only
                else "that only complete does it does NOT hold."
            )
        )
        rest = own[(own["measure"] == OTHER) & (own["method"] != "complete")]
        least, most = rest["value"].idxmin(), rest["value"].idxmax()
        mine = pick(own, measure=OTHER, method="complete")
        told.append(
            f"{model}: share of the positive mass on the other class: complete {text(mine)}; "
            f"others from {rest['value'][least]:.2f} ({method_label(rest['method'][least])}) to "
            f"{rest['value'][most]:.2f} ({method_label(rest['method'][most])})."
        )
    return told
