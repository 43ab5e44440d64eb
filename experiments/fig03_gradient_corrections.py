"""Figure 3: absolute and complete gradient correction on pictures of one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.cases import of_kind, shown_singles, single_cases
from attnguide.data.views import look
from attnguide.evaluation.localisation import (
    all_net_positive,
    correlation,
    net_positive,
    pick,
    positive_within,
    summarise,
    text,
)
from attnguide.evaluation.map_study import LIKE, summarise_likeness
from attnguide.findings import Findings
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import KEY, check_choice, measure, read_rows
from attnguide.runs.shown import Shown, each_model, load_shown, notes, show, signed
from attnguide.viz.dots import draw_dots, table_panel
from attnguide.viz.panels import Panel, draw_panels
from attnguide.viz.style import method_label

SIGN, WHOLE = "net positive on the object", "net positive in all"
RED = "positive share of the object's mass"
MEASURES = {
    SIGN: net_positive("target"),
    WHOLE: all_net_positive,
    RED: positive_within("target"),
}
BLIND = 0.5  # correlation between maps of two classes above which we call a method class-blind
RELIABLE = 0.9  # share of right signs that a method must reach to interpret such pictures


@dataclass
class Fig03GradientCorrections(Runner):
    """Measure pictures of one class: how alike maps of classes are, and their sign.

    Attributes:
        creatures, photographs: Classes that are shown, of the embedded world or of photographs.
        pictures: The user's own to show instead: {file: PATH, classes: [NAME]} each.
    """

    creatures: list[str] = field(default_factory=list)
    photographs: list[str] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)

    title: ClassVar[str] = "Figure 3: absolute and complete gradient correction"
    claim: ClassVar[str] = (
        "On pictures of one class, absolute gradient correction cannot tell classes apart, and "
        "complete gradient correction cannot fully interpret the region of the class."
    )

    def check(self, job: Job) -> None:
        """Pictures and data, before any weights are loaded."""
        check_choice(job, self.pictures, classes=1)

    def compute(self, job: Job) -> None:
        """Maps of the label, the runner-up and an absent class; those that are shown."""
        with job.results(*KEY) as results:
            for vit in job.vits():
                cases = single_cases(vit, job.data)
                measure(job, vit, cases, lambda case, vit=vit: [look(vit, case)], results, rivals=2)
                classes = of_kind(job.data, self.creatures, self.photographs)
                chosen = shown_singles(vit, job.data, classes, self.pictures)
                show(job, vit, [look(vit, case) for case in chosen], rivals=1, note=cases.note)

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Maps of two classes by each rule, dots of the measures, sentences with verdicts."""
        (rows, methods), shown = read_rows(run_dir, settings), load_shown(run_dir)
        seed = int(settings["seed"])
        by, label = ["model", "method"], rows[rows["role"] == "target"]
        summary = pd.concat(
            [summarise_likeness(rows, by, seed), summarise(label, by, MEASURES, seed)],
            ignore_index=True,
        )
        figure, figures = each_model(shown, lambda own: _maps(own, methods))
        first = shown[0].model
        found = _sentences(summary)
        own = summary[summary["model"] == first]
        signs = "share of images, or of mass"
        panels = [
            table_panel(own, [*LIKE.values()], methods, "Class-blindness", "correlation of maps",
                        limits=(-1, 1), chance=0),
            table_panel(own, [*MEASURES], methods, "Sign of the label's map", signs, chance=0.5),
        ]  # fmt: skip
        return Findings(
            figure=figure,
            summary=summary,
            caption=(
                f"Pictures of one class ({first}, loss {settings['loss']}): maps of the label and "
                "of the most probable other class. Red speaks for the class named above the map, "
                "blue against it; every map has its own scale. Beneath: signed mass in all"
                f"{' and on the object' if shown[0].objects else ''} as a share of all mass, and "
                f"the correlation r of the two maps. {' '.join(found)} {notes(run_dir)}"
            ).strip(),
            found=tuple(found),
            figures=figures | {"What was measured": draw_dots(panels)},
        )


def _maps(shown: Sequence[Shown], methods: Sequence[str]) -> Figure:
    rows = []
    for one in shown:
        row = [Panel(one.picture, note=one.note)]
        for method in methods:
            label, rival = (one.maps[method, target] for target in one.targets)
            alike = signed(correlation(label, rival))
            row.append(one.panel(method, 0, _net(one, method)))
            row.append(one.panel(method, 1, f"r = {alike}"))
        rows.append(row)
    each = [
        (f"{method_label(method)}: label", f"{method_label(method)}: runner-up")
        for method in methods
    ]
    return draw_panels(rows, column_titles=["image", *(title for pair in each for title in pair)])


def _net(one: Shown, method: str) -> str:
    whole = f"all {signed(one.net(method, 0, 'all'))}"
    return f"object {signed(one.net(method, 0, 'target'))}, {whole}" if one.objects else whole


def _sentences(summary: pd.DataFrame) -> list[str]:
    """Class-blindness of every method and the sign of its maps, with verdicts on the claim."""
    told = []
    for (model, method), own in summary.groupby(["model", "method"], sort=False):
        near, far = (pick(own, measure=name) for name in LIKE.values())
        blind = min(near["ci_low"], far["ci_low"]) > BLIND
        told.append(
            f"{model}, {method_label(method)}: the label's map correlates with the runner-up's by "
            f"{text(near)}, and with that of a random other class by {text(far)}: "
            f"{'class-blind' if blind else 'not class-blind'}."
        )
        if method == "complete":
            sign, red = pick(own, measure=SIGN), pick(own, measure=RED)
            where = "on the object" if sign["n"] else "in all"
            measured = sign if sign["n"] else pick(own, measure=WHOLE)
            fails = min(measured["ci_high"], red["ci_high"] if red["n"] else 1) < RELIABLE
            share = f", and {text(red)} of the object's mass is positive" if red["n"] else ""
            verdict = (
                "the object is not interpreted fully, as claimed"
                if fails
                else "the object is interpreted, so the claim does NOT hold"
            )
            told.append(
                f"{model}, complete: the signed mass {where} is positive in {text(measured)}"
                f"{share}: {verdict}."
            )
    return told
