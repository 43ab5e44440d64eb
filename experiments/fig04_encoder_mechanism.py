"""Figure 4: absolute and positive (GAE) gradient correction: what the encoder attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure

from attnguide.data.case import as_cases
from attnguide.data.cases import of_kind, shown_singles, single_cases
from attnguide.data.named_pictures import known_pairs
from attnguide.data.views import look
from attnguide.evaluation.localisation import area, correlation, mass_share, pick, summarise, text
from attnguide.evaluation.map_study import LIKE, summarise_likeness
from attnguide.findings import Findings
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import KEY, check_choice, measure, read_rows
from attnguide.runs.shown import Shown, each_model, load_shown, notes, show, signed
from attnguide.viz.dots import draw_dots, table_panel
from attnguide.viz.panels import Panel, draw_panels
from attnguide.viz.style import method_label

BLIND = 0.5  # correlation between maps of two classes above which we call a method class-blind
MASS, AREA = "share of the mass on objects", "share of the area they take"
DENSITY = "mass over area, objects"


def on_objects(rows: pd.DataFrame) -> pd.Series:
    """Share of the mass on any object; the rest is the background's."""
    return 1 - mass_share("background")(rows)


def objects_area(rows: pd.DataFrame) -> pd.Series:
    """Share of the picture that all objects take."""
    return 1 - area("background")(rows)


def density(rows: pd.DataFrame) -> pd.Series:
    """How many times more mass than area the objects have; 1 for a map without knowledge."""
    return on_objects(rows) / objects_area(rows)


MEASURES = {MASS: on_objects, AREA: objects_area, DENSITY: density}


@dataclass
class Fig04EncoderMechanism(Runner):
    """Measure how much of the maps lies on objects, and how alike maps of classes are.

    Attributes:
        creatures, photographs: Classes that are shown, of the embedded world or of photographs.
        pictures: The user's own to show instead: {file: PATH, classes: [NAME]} each.
    """

    creatures: list[str] = field(default_factory=list)
    photographs: list[str] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)

    title: ClassVar[str] = "Figure 4: what the encoder attends to"
    claim: ClassVar[str] = (
        "Absolute gradient correction shows the encoder without the classifier: it cannot "
        "distinguish classes, but it lies on features of the learned classes and ignores the "
        "background. Positive correction (GAE) depends on the class."
    )

    def check(self, job: Job) -> None:
        """Pictures and data, before any weights are loaded."""
        check_choice(job, self.pictures, classes=1)

    def compute(self, job: Job) -> None:
        """Maps of the label and its rivals; boxed photographs too, where there are some."""
        with job.results(*KEY) as results:
            for vit in job.vits():
                cases = single_cases(vit, job.data)
                boxed = known_pairs(vit, job.data) if job.data.shard == 0 else []
                for each, rivals in ((cases, 2), (as_cases(boxed), 0)):
                    measure(
                        job, vit, each, lambda c, vit=vit: [look(vit, c)], results, rivals=rivals
                    )
                classes = of_kind(job.data, self.creatures, self.photographs)
                chosen = shown_singles(vit, job.data, classes, self.pictures)
                show(job, vit, [look(vit, case) for case in chosen], rivals=1, note=cases.note)

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Maps of two classes by each rule, dots of the measures, sentences with verdicts."""
        (rows, methods), shown = read_rows(run_dir, settings), load_shown(run_dir)
        by, label = ["model", "method"], rows[rows["role"] == "target"]
        tables = [
            summarise_likeness(rows, by, settings["seed"]),
            summarise(label, by, MEASURES, settings["seed"]),
        ]
        summary = pd.concat(tables, ignore_index=True)
        figure, figures = each_model(shown, lambda own: _maps(own, methods))
        first = shown[0].model
        found = _sentences(summary)
        own = summary[summary["model"] == first]
        panels = [
            table_panel(own, [*LIKE.values()], methods, "Class-blindness", "correlation of maps",
                        limits=(-1, 1), chance=0),
            table_panel(own, [MASS, AREA], methods, "Objects and background", "share"),
        ]  # fmt: skip
        return Findings(
            figure=figure,
            summary=summary,
            caption=(
                f"Maps of the label and of the most probable other class ({first}, loss "
                f"{settings['loss']}); every map has its own scale. Beneath: share of the mass on "
                "the object against the area it takes, where its mask is known, and the "
                f"correlation r of the two maps. {' '.join(found)} {notes(run_dir)}"
            ).strip(),
            found=tuple(found),
            figures=figures | {"What was measured": draw_dots([p for p in panels if p.rows])},
        )


def _maps(shown: Sequence[Shown], methods: Sequence[str]) -> Figure:
    rows = []
    for one in shown:
        row = [Panel(one.picture, note=one.note)]
        for method in methods:
            label, rival = (one.maps[method, target] for target in one.targets)
            alike = signed(correlation(label, rival))
            row.append(one.panel(method, 0, _share(one, method)))
            row.append(one.panel(method, 1, f"r = {alike}"))
        rows.append(row)
    each = [(f"{method_label(m)}: label", f"{method_label(m)}: runner-up") for m in methods]
    return draw_panels(rows, column_titles=["image", *(title for pair in each for title in pair)])


def _share(one: Shown, method: str) -> str:
    if not one.objects:
        return ""
    own = pd.DataFrame([one.masses(method, 0)])
    return f"{on_objects(own)[0]:.0%} on {objects_area(own)[0]:.0%} of the area"


def _sentences(summary: pd.DataFrame) -> list[str]:
    """Class-blindness and share of the objects by method, with verdicts on the claim."""
    told = []
    for (model, method), own in summary.groupby(["model", "method"], sort=False):
        near, far = (pick(own, measure=name) for name in LIKE.values())
        blind = min(near["ci_low"], far["ci_low"]) > BLIND
        told.append(
            f"{model}, {method_label(method)}: the label's map correlates with the runner-up's by "
            f"{text(near)}, and with a random other class's by {text(far)}: "
            f"{'class-blind' if blind else 'not class-blind'}."
        )
        mass, size, times = (pick(own, measure=name) for name in MEASURES)
        if mass["n"]:
            verdict = "more than chance" if times["ci_low"] > 1 else "NOT more than chance"
            told.append(
                f"{model}, {method_label(method)}: {text(mass)} of the mass lies on objects, which "
                f"take {size['value']:.2f} of the area ({times['value']:.1f} times their area "
                f"[{times['ci_low']:.1f}, {times['ci_high']:.1f}], {verdict}); the background "
                f"keeps {1 - mass['value']:.2f}."
            )
    return told
