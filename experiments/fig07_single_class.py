"""Figure 7: where complete gradient correction points in pictures of one class."""

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
    area,
    mass_share,
    negative_share,
    net_positive,
    pick,
    positive_share,
    positive_within,
    summarise,
    text,
)
from attnguide.findings import Findings
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import KEY, check_choice, measure, read_rows
from attnguide.runs.shown import Shown, each_model, load_shown, notes, show, signed
from attnguide.viz.dots import draw_dots, table_panel
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label

SIGN, WHOLE = "net positive on the object", "net positive in all"
RED = "positive share of the object's mass"
BEHIND, AWAY = "positive mass on the background", "negative mass on the background"
SIZE = "area of the background"
SIGNS = {SIGN: net_positive("target"), WHOLE: all_net_positive, RED: positive_within("target")}
PLACES = {
    BEHIND: positive_share("background"),
    AWAY: negative_share("background"),
    "all mass on the background": mass_share("background"),
    SIZE: area("background"),
}
RELIABLE = 0.9  # share of right signs that a method must reach to interpret such pictures


@dataclass
class Fig07SingleClass(Runner):
    """Measure sign and place of the relevance in pictures of one class.

    Attributes:
        creatures, photographs: Classes that are shown, of the embedded world or of photographs.
        pictures: The user's own to show instead: {file: PATH, classes: [NAME]} each.
    """

    creatures: list[str] = field(default_factory=list)
    photographs: list[str] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)

    title: ClassVar[str] = "Figure 7: complete correction in pictures of one class"
    claim: ClassVar[str] = (
        "Complete gradient correction cannot interpret a picture of one class directly: no other "
        "class gives attention a direction to move to, and the direction that results is difficult "
        "to interpret and even points towards the background."
    )

    def check(self, job: Job) -> None:
        """Pictures and data, before any weights are loaded."""
        check_choice(job, self.pictures, classes=1)

    def compute(self, job: Job) -> None:
        """Rows of every picture; maps of those that are shown."""
        with job.results(*KEY) as results:
            for vit in job.vits():
                cases = single_cases(vit, job.data)
                measure(job, vit, cases, lambda case, vit=vit: [look(vit, case)], results)
                classes = of_kind(job.data, self.creatures, self.photographs)
                chosen = shown_singles(vit, job.data, classes, self.pictures)
                show(job, vit, [look(vit, case) for case in chosen], note=cases.note)

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Maps, dots of the measures, sentences with verdicts."""
        (rows, methods), shown = read_rows(run_dir, settings), load_shown(run_dir)
        summary = summarise(rows, ["model", "method"], SIGNS | PLACES, settings["seed"])
        method = "complete" if "complete" in methods else methods[0]
        figure, figures = each_model(shown, lambda own: _maps(own, method))
        first = shown[0].model
        found = _sentences(summary)
        own = summary[summary["model"] == first]
        panels = [
            table_panel(own, [*SIGNS], methods, "Signs", "share of images, or of mass", chance=0.5),
            table_panel(own, [*PLACES], methods, "Background", "share"),
        ]
        return Findings(
            figure=figure,
            summary=summary,
            caption=(
                f"Pictures of one class and their {method_label(method)} maps for it ({first}, "
                f"loss {settings['loss']}). Red speaks for the class, blue against it; every map "
                f"has its own scale. Beneath: signed mass as a share of all mass. {' '.join(found)}"
                f" {notes(run_dir)}"
            ).strip(),
            found=tuple(found),
            figures=figures | {"What was measured": draw_dots([p for p in panels if p.rows])},
        )


def _maps(shown: Sequence[Shown], method: str) -> Figure:
    """Picture and map beside each other, two such couples in a row."""
    couples = [
        [
            Panel(one.picture, title=short_name(one.names[0]), note=one.note),
            one.panel(method, 0, _net(one, method), title=""),
        ]
        for one in shown
    ]
    starts = range(0, len(couples), 2)
    rows = [[p for couple in couples[start : start + 2] for p in couple] for start in starts]
    titles = ["image", method_label(method)] * min(2, len(couples))
    return draw_panels(rows, column_titles=titles)


def _net(one: Shown, method: str) -> str:
    whole = f"all {signed(one.net(method, 0, 'all'))}"
    return f"object {signed(one.net(method, 0, 'target'))}, {whole}" if one.objects else whole


def _sentences(summary: pd.DataFrame) -> list[str]:
    """The sign of the maps and where they point, by method, with verdicts on the claim."""
    told = []
    for (model, method), own in summary.groupby(["model", "method"], sort=False):
        if method != "complete":
            continue
        sign, where = pick(own, measure=SIGN), "on the object"
        if not sign["n"]:
            sign, where = pick(own, measure=WHOLE), "in all"
        told.append(
            f"{model}, {method_label(method)}: the signed mass {where} is positive in "
            f"{text(sign)}: "
            + (
                "it fails on many pictures of one class, as claimed."
                if sign["ci_high"] < RELIABLE
                else "that it fails on pictures of one class does NOT hold by this measure."
            )
        )
        red, behind, away, size = (pick(own, measure=m) for m in (RED, BEHIND, AWAY, SIZE))
        if red["n"]:
            whole = "NOT so here" if red["ci_low"] > RELIABLE else "not interpreted fully"
            told.append(
                f"{model}, {method_label(method)}: {text(red)} of the object's mass is positive: "
                f"{whole}. The background, {size['value']:.2f} of the area, has "
                f"{behind['value']:.2f} of the positive mass and {text(away)} of the negative."
            )
    return told
