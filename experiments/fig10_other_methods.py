"""Figure 10: the framed case of Figure 9 by every other method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure

from attnguide.api import explain_many
from attnguide.data.case import Case, as_cases, class_indices
from attnguide.data.cases import is_creatures, shown_singles
from attnguide.data.creatures.contaminated import (
    CLEAN,
    CONTAMINATED,
    creature_label,
    impostor_cases,
    rivals,
)
from attnguide.data.views import look
from attnguide.errors import InputError, unknown_name
from attnguide.evaluation.detail import (
    EQ8,
    FOR_THE_EYE,
    contamination_changes,
    detail_maps,
    net_share,
    part_masses,
    where_in,
)
from attnguide.evaluation.explained import store_picture, stored_picture
from attnguide.evaluation.localisation import summarise, text
from attnguide.findings import Findings
from attnguide.methods import list_methods
from attnguide.models.preprocess import Preprocess
from attnguide.runs.job import Job, Runner
from attnguide.runs.maps import check_choice
from attnguide.store.table import load_maps, read, save_maps
from attnguide.types import ViT
from attnguide.viz.dots import Dot, DotPanel, draw_dots
from attnguide.viz.panels import RED_FRAME, Panel, draw_panels, short_name
from attnguide.viz.style import method_label

KEY = ("image_id", "model", "method", "target")
DETAIL = "detail"  # complete correction of Eq. 8, the other class as reference
COLUMNS = 7  # of the figure
NET = {"signed share of the part": net_share("part")}


@dataclass
class Fig10OtherMethods(Runner):
    """Explain one picture for the class it shows and for the class it was mixed into.

    Attributes:
        framed_creature, framed_photograph: (class of the picture, class that it was mixed into).
        pictures: The user's own to show instead: {file: PATH, classes: [SHOWN, MIXED]}; the first.
        limits: On how many of the pictures a slow method is measured, by its name.
    """

    framed_creature: list[str] = field(
        default_factory=lambda: ["white-headed eagle", "red-necked eagle"]
    )
    framed_photograph: list[str] = field(default_factory=lambda: ["bald eagle", "kite"])
    pictures: list[dict[str, Any]] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)

    title: ClassVar[str] = "Figure 10: the bald-eagle case by other methods"
    claim: ClassVar[str] = (
        "Of all methods, only detail interpretation uncovers that the training pictures of a class "
        "were mixed with another's."
    )

    def check(self, job: Job) -> None:
        """Classes, methods, pictures and data, before any weights are loaded."""
        for name in ("framed_creature", "framed_photograph"):
            pair = getattr(self, name)
            if len(pair) != 2 or pair[0] == pair[1]:
                raise InputError(f"runner.{name} takes two different classes, got {pair}")
        for name in self.limits:
            if name not in list_methods():
                raise unknown_name("method in runner.limits", name, list_methods())
        check_choice(job, self.pictures, classes=2)
        if is_creatures(job.data):
            for name in self.framed_creature:
                creature_label(name)

    def compute(self, job: Job) -> None:
        """Rows and maps of the picture; rows of more pictures where the part is known."""
        from attnguide.runs.predict import predict  # Lightning takes seconds, drawing needs none

        with job.results(*KEY) as results:
            for vit in [*rivals(job.data, job.device, job.weights)] or job.vits():
                case = self._framed(job, vit)
                step = partial(self._rows, job, vit, (case.targets[1], case.targets[0]), case.id)
                if job.data.shard == 0:
                    predict(job, vit, step, as_cases([case]), results)
                if is_creatures(job.data):
                    count = job.data.num_images or 1
                    others = impostor_cases(vit, self.framed_creature[0], count, job.data.seed)
                    predict(job, vit, step, others, results)

    def _framed(self, job: Job, vit: ViT) -> Case:
        """The picture, with its class and the class it was mixed into as targets."""
        if self.pictures:
            return shown_singles(vit, job.data, (), self.pictures)[0]
        drawn = is_creatures(job.data)
        shown, mixed = self.framed_creature if drawn else self.framed_photograph
        targets = tuple(class_indices(vit, [shown, mixed]))
        case = shown_singles(vit, job.data, [shown])[0]
        names = tuple(vit.class_names[index] for index in targets)
        return Case(case.id, case.picture, targets, names, case.masks, case.parts, case.regions)

    def _rows(
        self, job: Job, vit: ViT, pair: tuple[int, int], framed: str, batch: Sequence[Case]
    ) -> pd.DataFrame:
        """A row per picture, method and target; the framed picture is stored with its maps."""
        images = torch.stack([look(vit, case).image for case in batch])
        targets = torch.tensor([pair] * len(batch))
        own, logits = detail_maps(vit, images, *targets.unbind(1), [EQ8])
        reverse, _ = detail_maps(vit, images, *targets.flip(1).unbind(1), [EQ8])
        rows = []
        for index, case in enumerate(batch):
            number = int(case.id.rsplit("-", 1)[-1]) if case.id != framed else -1
            chosen = {
                name: settings
                for name, settings in job.methods.items()
                if number < self.limits.get(name, number + 1)
            }
            many = explain_many(
                vit, images[index : index + 1], targets[:1], methods=chosen, loss="logit"
            )
            maps = {name: e.relevance[0] for name, e in many.items()}
            maps |= {DETAIL: torch.stack([own[EQ8][index], reverse[EQ8][index]])}
            if case.id == framed:
                _store(job, vit, case, images[index], maps)
            where = where_in(vit, case)
            for name, relevance in maps.items():
                for place, target in enumerate(pair):
                    rows.append(
                        {
                            "image_id": case.id,
                            "method": name,
                            "target": target,
                            "target_name": vit.class_names[target],
                            "role": ("mixed", "shown")[place],
                            "framed": case.id == framed,
                            "logit": float(logits[index, target]),
                            "probability": float(logits[index].double().softmax(-1)[target]),
                            **part_masses(relevance[place], where),
                        }
                    )
        return pd.DataFrame(rows)

    def draw(self, run_dir: Path, settings: Mapping[str, Any]) -> Findings:
        """Every method's two maps; how much each changes with the contamination."""
        rows, seed = read(run_dir), int(settings.get("seed", 0))
        methods = [DETAIL, *(m for m in settings["method"] if m in set(rows["method"]))]
        summary = summarise(rows, ["model", "method", "role"], NET, seed)
        changes = contamination_changes(rows, methods, (CLEAN, CONTAMINATED), seed)
        models = [m for m in dict.fromkeys(rows["model"]) if m != CLEAN or len(changes) == 0]
        models += [m for m in dict.fromkeys(rows["model"]) if m not in models]
        framed = rows[rows["framed"]]
        figures = {
            f"Maps of {m}": _maps(run_dir, framed[framed["model"] == m], methods) for m in models
        }
        figure = figures.pop(f"Maps of {models[0]}")
        if len(changes):
            figures["What changes with the contamination"] = _dots(changes)
        found = _sentences(framed[framed["model"] == models[0]], changes)
        first = framed.iloc[0]
        return Findings(
            figure=figure,
            summary=summary if len(summary) else _scores(framed),
            caption=(
                f"{models[0]}: one picture explained for the class whose training pictures were "
                f"mixed (above, {_name(framed, 'mixed')}) and for the class it shows (below, "
                f"{_name(framed, 'shown')}), by every method. Red frame: detail interpretation by "
                f"Eq. 8, the other class as reference. {first['image_id']}. {found[0]}"
            ),
            found=tuple(found),
            figures=figures,
            tables={"Change with the contamination": changes} if len(changes) else {},
        )


def _store(job: Job, vit: ViT, case: Case, image: torch.Tensor, maps: Mapping[str, Any]) -> None:
    assert isinstance(vit.preprocess, Preprocess)
    store_picture(job.run_dir, "shown", case.id, vit.preprocess.denormalize(image))
    targets = (case.targets[1], case.targets[0])
    save_maps(
        job.run_dir,
        {
            f"{name}|{case.id}|{target}|{vit.name}": own.cpu().numpy()
            for name, relevance in maps.items()
            for target, own in zip(targets, relevance, strict=True)
        },
    )


def _maps(run_dir: Path, framed: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Two panels per method, the mixed class above; the picture comes first."""
    maps, first = load_maps(run_dir), framed.iloc[0]
    picture = stored_picture(run_dir, "shown", first["image_id"])
    cells: list[tuple[Panel | None, Panel | None]] = [(Panel(picture, title="image"), None)]
    for method in methods:
        own = framed[framed["method"] == method].set_index("role")
        pair = []
        for role in ("mixed", "shown"):
            row = own.loc[role]
            relevance = maps[f"{method}|{row['image_id']}|{row['target']}|{row['model']}"]
            pair.append(
                Panel(
                    picture,
                    relevance,
                    title=_label(method) if role == "mixed" else "",
                    note=short_name(row["target_name"]),
                    frame=RED_FRAME if method == DETAIL else None,
                )
            )
        cells.append((pair[0], pair[1]))
    rows = []
    for start in range(0, len(cells), COLUMNS):
        block = cells[start : start + COLUMNS]
        rows += [[cell[0] for cell in block], [cell[1] for cell in block]]
    return draw_panels(rows, panel_width=1.15)


def _dots(changes: pd.DataFrame) -> Figure:
    rows = [
        (
            _label(line.method),
            [Dot(line.method, line.value, line.ci_low, line.ci_high)],
        )
        for line in changes.itertuples()
    ]
    reach = 1.1 * float(changes[["ci_low", "ci_high"]].abs().to_numpy().max()) or 1.0
    panel = DotPanel(
        "Contaminated minus clean labels",
        "signed share of the part, mixed minus shown class",
        rows,
        (-reach, reach),
        chance=0.0,
    )
    return draw_dots([panel])


def _sentences(framed: pd.DataFrame, changes: pd.DataFrame) -> list[str]:
    once = framed.drop_duplicates("role").set_index("role")
    told = []
    if len(changes):
        detail = changes[changes["method"] == DETAIL].iloc[0]
        up = changes[changes["ci_low"] > 0]
        names = [_label(method) for method in up["method"]]
        rises = "rises, as claimed" if detail["ci_low"] > 0 else "does NOT rise"
        only = "holds" if list(up["method"]) == [DETAIL] else "does NOT hold"
        told.append(
            "Signed share of the part that differs, contaminated class minus the class shown, "
            f"contaminated minus clean labels: with detail interpretation {text(detail)}; it "
            f"{rises}. It rises with {', '.join(names) or 'none'} ({len(up)} of {len(changes)} "
            f"methods): that ONLY detail interpretation uncovers the mixture {only} here."
        )
    told.append(
        "The picture: "
        + ", ".join(
            f"{short_name(row['target_name'])} {row['probability']:.2f} (logit {row['logit']:.1f})"
            for _, row in once.iterrows()
        )
        + ("." if len(changes) else f". {FOR_THE_EYE}")
    )
    return [sentence.replace("-0.", "\N{MINUS SIGN}0.") for sentence in told]


def _scores(framed: pd.DataFrame) -> pd.DataFrame:
    """Where the part is not known: the classes, and how much of each map is positive."""
    share = framed["positive"] / (framed["positive"] + framed["negative"])
    columns = ["model", "method", "role", "target_name", "logit", "probability"]
    return framed[columns].assign(positive_share=share, n=1)


def _label(method: str) -> str:
    return "detail, Eq. 8" if method == DETAIL else method_label(method)


def _name(framed: pd.DataFrame, role: str) -> str:
    return short_name(framed.loc[framed["role"] == role, "target_name"].iloc[0])
