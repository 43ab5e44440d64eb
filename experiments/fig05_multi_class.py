"""Figure 5: two classes in one picture, each explained, complete rule against GAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.case import as_cases
from attnguide.data.cases import is_creatures, pair_cases, shown_pairs
from attnguide.data.named_pictures import known_pairs
from attnguide.data.views import look
from attnguide.evaluation.localisation import (
    both_signs,
    mass_share,
    net_negative,
    net_positive,
    paired,
    pick,
    positive_share,
    summarise,
    text,
)
from attnguide.findings import Findings
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import KEY, check_choice, measure, read_rows
from attnguide.runs.shown import Shown, each_model, load_shown, notes, show, signed
from attnguide.viz.dots import draw_dots, table_panel
from attnguide.viz.panels import Panel, draw_panels
from attnguide.viz.style import method_label

MEASURES = {
    "sign right on the target": net_positive("target"),
    "sign right on the other": net_negative("other"),
    "both signs right": both_signs,
    "positive mass on the target": positive_share("target"),
    "positive mass on the other": positive_share("other"),
    "positive mass on the background": positive_share("background"),
    "all mass on the background": mass_share("background"),
}
SIGNS, MASSES = tuple(MEASURES)[:3], tuple(MEASURES)[3:]


@dataclass
class Fig05MultiClass(Runner):
    """Measure two-class pictures, each class as target; show some.

    Attributes:
        shown: How many pictures to show.
        pictures: The user's own to show instead: {file: PATH, classes: [NAME, NAME]} each.
    """

    shown: int = 4
    pictures: list[dict[str, Any]] = field(default_factory=list)

    title: ClassVar[str] = "Figure 5: two classes in one picture"
    claim: ClassVar[str] = (
        "In a picture of two classes, complete gradient correction gives positive relevance to the "
        "target and negative relevance to the other class, with less background noise than GAE, "
        "which gives positive relevance to the other class too."
    )

    def check(self, job: Job) -> None:
        """Pictures and data, before any weights are loaded."""
        check_choice(job, self.pictures, classes=2)

    def compute(self, job: Job) -> None:
        """Rows of every two-class picture; maps of those that are shown."""
        with job.results(*KEY) as results:
            for vit in job.vits():
                cases = pair_cases(vit, job.data)
                measure(job, vit, cases, lambda case, vit=vit: [look(vit, case)], results)
                if not is_creatures(job.data) and job.data.shard == 0:
                    boxed = as_cases(known_pairs(vit, job.data))
                    measure(job, vit, boxed, lambda case, vit=vit: [look(vit, case)], results)
                chosen = shown_pairs(vit, job.data, self.shown, self.pictures)
                show(job, vit, [look(vit, case) for case in chosen], note=cases.note)

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Maps with what lies where, dots of the measures, sentences with verdicts."""
        (rows, methods), shown = read_rows(run_dir, settings), load_shown(run_dir)
        seed = int(settings["seed"])
        summary = summarise(rows, ["model", "regions", "method"], MEASURES, seed)
        figure, figures = each_model(shown, lambda own: _maps(own, methods))
        first = shown[0].model
        found = _sentences(rows, summary, methods, seed)
        where = dict.fromkeys(rows["regions"])
        return Findings(
            figure=figure,
            summary=summary,
            caption=(
                f"Pictures of two classes, each explained in turn ({first}, loss "
                f"{settings['loss']}). Red speaks for the class named above the map, blue against "
                "it; every map has its own scale. Beneath: signed mass on the target and on the "
                "other object, as a share of all mass. "
                f"{found[0]} Objects are given as {' and '.join(where)}. {notes(run_dir)}"
            ).strip(),
            found=tuple(found),
            figures=figures | {"What was measured": _dots(summary, first, methods)},
        )


def _maps(shown: Sequence[Shown], methods: Sequence[str]) -> Figure:
    rows = [
        [
            Panel(one.picture, note=one.note),
            *(
                one.panel(method, place, _net(one, method, place))
                for place in range(len(one.targets))
                for method in methods
            ),
        ]
        for one in shown
    ]
    titles = ["image", *[method_label(method) for method in methods] * 2]
    return draw_panels(rows, column_titles=titles)


def _net(one: Shown, method: str, place: int) -> str:
    if not one.objects:
        return ""
    target, other = (signed(one.net(method, place, region)) for region in ("target", "other"))
    return f"target {target}, other {other}"


def _dots(summary: pd.DataFrame, model: str, methods: Sequence[str]) -> Figure:
    panels = []
    for regions in dict.fromkeys(summary["regions"]):
        own = summary[(summary["model"] == model) & (summary["regions"] == regions)]
        panels += [
            table_panel(own, SIGNS, methods, f"Signs, {regions}", "share of the targets"),
            table_panel(own, MASSES, methods, f"Mass, {regions}", "share of the mass"),
        ]
    return draw_dots(panels)


def _sentences(
    rows: pd.DataFrame, summary: pd.DataFrame, methods: Sequence[str], seed: int
) -> list[str]:
    """What came out, in the order of the claim."""
    told = []
    for (model, regions), own in rows.groupby(["model", "regions"], sort=False):
        for method in methods:
            signs = {
                name: pick(summary, model=model, regions=regions, method=method, measure=name)
                for name in SIGNS
            }
            holds = min(signs[SIGNS[0]]["ci_low"], signs[SIGNS[1]]["ci_low"]) > 0.5
            told.append(
                f"{model} ({regions}), {method_label(method)}: the net sign is positive on the "
                f"target in {text(signs[SIGNS[0]])}, negative on the other object in "
                f"{text(signs[SIGNS[1]])}: {'both' if holds else 'not both'} better than chance."
            )
        if {"complete", "gae"} <= set(methods):
            part = {m: own[own["method"] == m] for m in ("complete", "gae")}
            filled = bool((own["area_background"] == 0).all())  # two halves leave no background
            for region in ("other",) if filled else ("other", "background"):
                gap = paired(part["complete"], part["gae"], positive_share(region), seed)
                less = gap["ci_high"] < 0
                told.append(
                    f"{model} ({regions}): share of the positive mass on the {region}, complete "
                    f"minus GAE: {text(gap)}: {'less, as claimed' if less else 'NOT less'}."
                )
    return told
