"""Figure 8: the same pictures alone and with a guide image of another class beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure

from attnguide.config import GuideConfig
from attnguide.data.case import Case
from attnguide.data.cases import (
    composed_case,
    is_creatures,
    of_kind,
    shown_singles,
    single_cases,
)
from attnguide.data.guide_image import GuideImage, open_guide
from attnguide.data.views import ALONE, View, guided_kind, look, look_beside, nearest_fraction
from attnguide.errors import InputError
from attnguide.evaluation.localisation import (
    all_net_positive,
    guided_share,
    net_positive,
    paired,
    pick,
    positive_within,
    summarise,
    text,
)
from attnguide.findings import Findings
from attnguide.guides import FITS, LAYOUTS, check_guide
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import KEY, check_choice, measure, read_rows
from attnguide.runs.shown import Shown, each_model, load_shown, notes, show, signed
from attnguide.types import ViT
from attnguide.viz.dots import draw_dots, table_panel
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label

COMPOSED = "composed"


def own_net_positive(rows: pd.DataFrame) -> pd.Series:
    """1 where the signed mass of the picture's own part is positive; alone, of the whole map."""
    return net_positive("own")(rows).where(rows["view"] != ALONE, all_net_positive(rows))


OBJECT, OWN = "sign right on the object", "sign right on the picture's part"
RED = "positive share of the object's mass"
SHARE = "mass of the right sign in its part"
MEASURES = {
    OBJECT: net_positive("target"),
    OWN: own_net_positive,
    RED: positive_within("target"),
    SHARE: guided_share,
}


@dataclass
class Fig08Guided(Runner):
    """Measure the same pictures alone, guided, and with the guide put in other ways.

    Attributes:
        creatures, photographs: Classes that are shown, of the embedded world or of photographs.
        pictures: The user's own to show instead: {file: PATH, classes: [NAME]} each.
        fractions: The guide's shares of the canvas in the sweep, moved to patch borders.
        sweep_images: On how many pictures the sweep is measured.
    """

    creatures: list[str] = field(default_factory=list)
    photographs: list[str] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    fractions: list[float] = field(default_factory=lambda: [0.25, 0.75])
    sweep_images: int = 32

    title: ClassVar[str] = "Figure 8: a guide image beside the picture"
    claim: ClassVar[str] = (
        "With a guide image of another class beside it, complete gradient correction fully "
        "interprets the target's region in a picture on which it fails alone."
    )

    def check(self, job: Job) -> None:
        """Guide, pictures and data, before any weights are loaded."""
        if job.guide is None:
            raise InputError("this figure needs a guide; pass guide=right, left, top or bottom")
        check_guide(job.guide.layout, job.guide.fraction, job.guide.fit)
        for fraction in self.fractions:
            check_guide(job.guide.layout, fraction, job.guide.fit)
        check_choice(job, self.pictures, classes=1)

    def compute(self, job: Job) -> None:
        """Rows of every picture alone and guided, the sweep on the first of them; maps shown."""
        assert job.guide is not None
        with job.results(*KEY) as results:
            for vit in job.vits():
                guide = open_guide(job.guide.image, vit, data=job.data.name, root=job.data.root)
                cases = single_cases(vit, job.data, () if guide.label is None else (guide.label,))
                swept = set(cases.ids[: self.sweep_images])
                views = self._views(job, vit, guide)

                def see(
                    case: Case,
                    views: Sequence[Callable[[Case], View]] = views,
                    swept: set[str] = swept,
                ) -> list[View]:
                    return [view(case) for view in views[: None if case.id in swept else 2]]

                measure(job, vit, cases, see, results)
                classes = of_kind(job.data, self.creatures, self.photographs)
                chosen = shown_singles(vit, job.data, classes, self.pictures)
                chosen = [case for case in chosen if guide.label not in case.targets]
                # The sweep is shown on the first picture; a composed scene has no such picture.
                drawn = len(views) - bool(is_creatures(job.data))
                show(
                    job,
                    vit,
                    [view(c) for n, c in enumerate(chosen) for view in views[: 2 if n else drawn]],
                    note=f"The guide is {guide.name}. {cases.note}".strip(),
                )

    def _views(self, job: Job, vit: ViT, guide: GuideImage) -> list[Callable[[Case], View]]:
        """Alone, guided as configured, then the sweep: every other way to put the guide."""
        assert job.guide is not None
        main = job.guide
        ways = [main]
        ways += [replace(main, layout=layout) for layout in LAYOUTS]
        ways += [
            replace(main, fraction=nearest_fraction(vit, main.layout, f)) for f in self.fractions
        ]
        ways += [replace(main, fit=fit) for fit in FITS]
        distinct = {guided_kind(way): way for way in ways}

        def beside(way: GuideConfig) -> Callable[[Case], View]:
            return lambda case: look_beside(vit, case, guide, way)

        def composed(case: Case) -> View:
            scene = composed_case(vit, job.data, case, guide.label or 0)
            return replace(look(vit, scene), kind=COMPOSED)

        views = [lambda case: look(vit, case), *map(beside, distinct.values())]
        return [*views, composed] if is_creatures(job.data) else views

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Maps alone and guided, the sweep in maps and dots, sentences with verdicts."""
        (rows, methods), shown = read_rows(run_dir, settings), load_shown(run_dir)
        main, seed = guided_kind(GuideConfig(**settings["guide"])), settings["seed"]
        order = {
            kind: n for n, kind in enumerate(dict.fromkeys([ALONE, main, *(s.kind for s in shown)]))
        }
        place = rows["view"].map(order).fillna(len(order))
        rows = rows.iloc[place.argsort(kind="stable")]
        summary = summarise(rows, ["model", "view", "method"], MEASURES, seed)
        figure, figures = each_model(shown, lambda own: _maps(own, main, methods))
        first = shown[0].model
        found = _sentences(rows, main, methods, seed)
        own = summary[(summary["model"] == first)]
        return Findings(
            figure=figure,
            summary=summary,
            caption=(
                f"Pictures of one class alone and with a guide ({main}), explained for the class "
                f"of the picture ({first}, loss {settings['loss']}). Red speaks for it, blue "
                "against it; every map has its own scale. Beneath: signed mass as a share of all "
                f"mass. {' '.join(found)} {notes(run_dir)}"
            ).strip(),
            found=tuple(found),
            figures=figures
            | {
                "Other places, shares and fits of the guide": _sweep(shown, first, methods[0]),
                "What was measured": _dots(own, main, methods),
            },
        )


def _maps(shown: Sequence[Shown], main: str, methods: Sequence[str]) -> Figure:
    """A row per picture: alone and guided, each with the first method, then the other methods."""
    alone = [one for one in shown if one.kind == ALONE]
    guided = {one.id: one for one in shown if one.kind == main}
    rows = []
    for one in alone:
        beside = guided[f"{one.id}@{main}"]
        rows.append(
            [
                Panel(one.picture, title=short_name(one.names[0]), note=one.note),
                one.panel(methods[0], 0, _net(one, methods[0]), title=""),
                Panel(beside.picture, title="with a guide"),
                *(beside.panel(m, 0, _net(beside, m), title="") for m in methods),
            ]
        )
    first = f"{method_label(methods[0])}"
    titles = [
        "image",
        f"{first}, alone",
        "guided",
        *(f"{method_label(m)}, guided" for m in methods),
    ]
    return draw_panels(rows, column_titles=titles)


def _sweep(shown: Sequence[Shown], model: str, method: str) -> Figure:
    """Every way to put the guide, on the first picture."""
    start = shown[0].id
    own = [s for s in shown if s.model == model and s.id.partition("@")[0] == start]
    panels = [one.panel(method, 0, _net(one, method), title=one.kind) for one in own]
    return draw_panels([panels[n : n + 5] for n in range(0, len(panels), 5)])


def _net(one: Shown, method: str) -> str:
    if one.own is None:
        whole = f"all {signed(one.net(method, 0, 'all'))}"
        return f"object {signed(one.net(method, 0, 'target'))}, {whole}" if one.objects else whole
    parts = (signed(one.net(method, 0, region)) for region in ("own", "guide"))
    return "picture {}, guide {}".format(*parts)


def _dots(summary: pd.DataFrame, main: str, methods: Sequence[str]) -> Figure:
    """The measures alone and guided by method, and the sweep of the first method."""
    both = summary[summary["view"].isin([ALONE, main])]
    both = both.assign(measure=both["view"].where(both["view"] == ALONE, "guided"))
    panels = []
    for name in MEASURES:
        part = both[summary.loc[both.index, "measure"] == name]
        if len(part):
            views = [*dict.fromkeys(part["measure"])]
            panels.append(table_panel(part, views, methods, name, "share", chance=0.5))
    known = [name for name in (RED, OWN, SHARE) if name in set(summary["measure"])]
    for name in (known[0], SHARE):
        part = summary[(summary["measure"] == name)]
        views = [*dict.fromkeys(part["view"])]
        part = part.assign(measure=part["view"])
        panels.append(table_panel(part, views, methods[:1], name, "share", chance=0.5))
    return draw_dots(panels)


def _sentences(rows: pd.DataFrame, main: str, methods: Sequence[str], seed: int) -> list[str]:
    """Guided against alone on the same pictures, with verdicts on the claim."""
    told = []
    for model, own in rows.groupby("model", sort=False):
        for method in methods:
            part = own[own["method"] == method]
            alone, guided = part[part["view"] == ALONE], part[part["view"] == main]
            who = f"{model}, {method_label(method)}"
            for name in (OBJECT, OWN, RED) if method == methods[0] else ():
                before, after = (
                    pick(summarise(p, ["view"], {name: MEASURES[name]}, seed))
                    for p in (alone, guided)
                )
                if not before["n"]:
                    continue
                gap = paired(guided, alone, MEASURES[name], seed)
                verdict = "better with the guide" if gap["ci_low"] > 0 else "NOT clearly better"
                told.append(
                    f"{who}: {name} {text(before)} alone, {after['value']:.2f} guided; paired "
                    f"difference {gap['value']:+.2f} [{gap['ci_low']:.2f}, {gap['ci_high']:.2f}]: "
                    f"{verdict}."
                )
            share = pick(summarise(guided, ["view"], {SHARE: guided_share}, seed))
            told.append(
                f"{who}, guided: {text(share)} of the mass is positive in the picture's part or "
                "negative in the guide's (chance 0.5)."
            )
    return told
