"""Figure 6: attention maps as the only parameters, descending the logit of the target."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image

from attnguide.api import explain
from attnguide.attention_descent import descend
from attnguide.data.case import Case, as_cases
from attnguide.data.cases import is_creatures, pair_cases, shown_pairs
from attnguide.data.named_pictures import known_pairs
from attnguide.data.views import View, look
from attnguide.evaluation.explained import store_picture, stored_picture
from attnguide.evaluation.shares import pick, summarise, text
from attnguide.evaluation.transfer import crossed, transfer_rows, transfer_summary
from attnguide.preprocess import Preprocess
from attnguide.results import load_maps, read, save_maps, write_atomic
from attnguide.runner import Findings, Job, Runner
from attnguide.runner.maps import check_choice
from attnguide.types import ViT
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.plots import FIRST, SECOND, Line, Plot, plots_below
from attnguide.viz.style import INK, QUIET, render

KEY = ("image_id", "model", "lr", "step")
LIKE = "correlation of the first map with the model's own"
FRAMES = 7  # of the figure, evenly over the steps


@dataclass
class Fig06AttentionTransfer(Runner):
    """Descend on many two-class pictures, at two rates; show some frames.

    Attributes:
        lr: Learning rate of the frames; the paper's.
        other_lr: A second rate, measured only.
        steps: How many.
        shown: How many pictures to show.
        pictures: The user's own to show instead: {file: PATH, classes: [TARGET, OTHER]} each.
    """

    lr: float = 4e-4
    other_lr: float = 4e-3
    steps: int = 32
    shown: int = 2
    pictures: list[dict[str, Any]] = field(default_factory=list)

    title: ClassVar[str] = "Figure 6: attention transfer"
    claim: ClassVar[str] = (
        "With the attention maps as the only parameters, descending the logit of the target class "
        "moves positive attention from the target to the other class in the picture, until the "
        "areas of the two overlap: gradient descent is attention transfer."
    )

    def check(self, job: Job) -> None:
        """Rates, steps, pictures and data, before any weights are loaded."""
        if not (self.lr > 0 and self.other_lr > 0) or self.steps < 1 or self.shown < 1:
            raise ValueError(
                f"runner.lr, other_lr, steps and shown must be positive, got {self.lr:g}, "
                f"{self.other_lr:g}, {self.steps} and {self.shown}"
            )
        check_choice(job, self.pictures, classes=2)

    def compute(self, job: Job) -> None:
        """A row per picture, rate and step; maps of the shown pictures at every step."""
        from attnguide.runner.predict import predict  # Lightning takes seconds, drawing needs none

        with job.results(*KEY) as results:
            for vit in job.vits():
                shown = shown_pairs(vit, job.data, self.shown, self.pictures)
                boxed = [] if is_creatures(job.data) else known_pairs(vit, job.data)
                if boxed and not self.pictures:  # the paper descends the zebra and the cat
                    shown, boxed = [*map(_swapped, shown)], [*map(_swapped, boxed)]
                step = partial(self._rows, job, vit, [case.id for case in shown])
                if job.data.shard == 0:
                    predict(job, vit, step, as_cases(shown), results)
                    predict(job, vit, step, as_cases(boxed), results)
                predict(job, vit, step, pair_cases(vit, job.data), results)

    def _rows(
        self, job: Job, vit: ViT, shown: Sequence[str], batch: Sequence[Case]
    ) -> pd.DataFrame:
        """Rows of a batch; pictures whose ids are `shown` are stored with their maps."""
        views = [look(vit, case) for case in batch]
        images = torch.stack([view.image for view in views])
        target = torch.tensor([view.targets[0] for view in views])
        own, parts = explain(vit, images, target), []
        for lr in dict.fromkeys((self.lr, self.other_lr)):
            found = descend(vit, images, target, lr=lr, steps=self.steps)
            parts.append(transfer_rows(vit, views, found, own).assign(lr=lr))
            for index, view in enumerate(views):
                if view.id in shown:
                    _store(job, vit, view, lr, found.relevance[:, index])
        rows = pd.concat(parts, ignore_index=True)
        places = {name: place for place, name in enumerate(shown)}
        return rows.assign(place=rows["image_id"].map(places).astype("Int64"))

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Frames with plots beneath, an animation, and how often attention crosses."""
        rows, seed = read(run_dir), int(settings.get("seed", 0))
        summary = transfer_summary(rows, seed)
        models = list(dict.fromkeys(rows["model"]))
        rates = list(dict.fromkeys((self.lr, self.other_lr)))
        figures = {
            f"Frames of {model}, rate {lr:g}": self._figure(
                run_dir, rows[rows["model"] == model], lr, seed
            )
            for model in models
            for lr in rates
        }
        _animate(run_dir, self._shown(rows[rows["model"] == models[0]], self.lr), self.steps)
        found = [
            sentence
            for keys, own in summary.groupby(["model", "regions", "lr"], sort=False)
            for sentence in _sentences(own, *keys, self.steps)
        ]
        return Findings(
            figure=figures.pop(next(iter(figures))),
            summary=summary,
            caption=(
                f"{models[0]}: attention after softmax of all layers and heads as the only "
                f"parameters, plain gradient descent of the logit of the class at the left, "
                f"learning rate {self.lr:g}. Maps: complete correction at the step above. Plots: "
                "logit of the target and of the other class; their signed share of the map's "
                "mass; right, the share of pictures in which the other's signed share has passed "
                f"the target's, for two rates. {found[0]} The same as animation.gif in this folder."
            ),
            found=tuple(found),
            figures=figures,
        )

    def _shown(self, rows: pd.DataFrame, lr: float) -> list[pd.DataFrame]:
        """The steps of each picture that is shown, in order."""
        own = rows[rows["place"].notna() & (rows["lr"] == lr)].sort_values(["place", "step"])
        return [part for _, part in own.groupby("place")]

    def _figure(self, run_dir: Path, rows: pd.DataFrame, lr: float, seed: int) -> Figure:
        """Frames of the shown pictures, and their plots."""
        shown = self._shown(rows, lr)
        steps = np.unique(np.linspace(0, self.steps, FRAMES).round().astype(int))
        panels = [_frames(run_dir, part, steps) for part in shown]
        titles = [f"step {step}" for step in steps]
        names = [f"target: {short_name(part['target_name'].iloc[0])}" for part in shown]
        figure = draw_panels(
            panels, column_titles=["image", *titles], row_titles=names, panel_width=1.02
        )
        logits = [_logits(part) for part in shown] + [_drift(rows, lr)]
        shares = [_shares(part) for part in shown] + [_crossed(rows, seed)]
        plots_below(figure, [logits, shares])
        return figure


def _swapped(case: Case) -> Case:
    """The case with its two classes in the other order."""
    return replace(
        case,
        targets=case.targets[::-1],
        names=case.names[::-1],
        masks=None if case.masks is None else case.masks[::-1],
    )


def _store(job: Job, vit: ViT, view: View, lr: float, relevance: torch.Tensor) -> None:
    assert isinstance(vit.preprocess, Preprocess)
    picture = vit.preprocess.denormalize(view.image)
    store_picture(job.run_dir, "shown", f"{vit.name} {view.id}", picture)
    several = f"|{vit.name}" if len(job.models) > 1 else ""
    save_maps(
        job.run_dir,
        {
            f"complete|{view.id}@{lr:g}-{step}|{view.targets[0]}{several}": own.cpu().numpy()
            for step, own in enumerate(relevance)
        },
    )


def _maps(run_dir: Path, part: pd.DataFrame) -> list[Any]:
    """Map of each step of one picture."""
    maps, first = load_maps(run_dir), part.iloc[0]
    name = f"complete|{first['image_id']}@{first['lr']:g}"
    keys = [f"{name}-{step}|{first['target']}" for step in part["step"]]
    return [maps.get(key, maps.get(f"{key}|{first['model']}")) for key in keys]


def _picture(run_dir: Path, part: pd.DataFrame) -> Any:
    return stored_picture(run_dir, "shown", f"{part['model'].iloc[0]} {part['image_id'].iloc[0]}")


def _frames(run_dir: Path, part: pd.DataFrame, steps: Sequence[int]) -> list[Panel]:
    picture, maps = _picture(run_dir, part), _maps(run_dir, part)
    first = part.iloc[0]
    panels = [Panel(picture, note=f"{short_name(first['other_name'])} is the other class")]
    for step in steps:
        row = part.iloc[step]
        note = f"{row['share_target']:+.2f} on target\n{row['share_other']:+.2f} on other"
        panels.append(Panel(picture, maps[step], note=note.replace("-", "\N{MINUS SIGN}")))
    return panels


def _logits(part: pd.DataFrame) -> Plot:
    first = part.iloc[0]
    lines = [
        Line(short_name(first[f"{who}_name"]), part["step"], part[f"logit_{who}"], colour, dash)
        for who, colour, dash in (("target", FIRST, "-"), ("other", SECOND, "--"))
    ]
    return Plot("Logits", "step", "logit", lines)


def _shares(part: pd.DataFrame) -> Plot:
    lines = [
        Line(f"on the {who}", part["step"], part[f"share_{who}"], colour, dash)
        for who, colour, dash in (("target", FIRST, "-"), ("other", SECOND, "--"))
    ]
    crossing = part.loc[part["share_other"] > part["share_target"], "step"]
    return Plot(
        "Signed share of the map", "step", "share", lines, crossing.head(1).tolist(), zero=True
    )


def _drift(rows: pd.DataFrame, lr: float) -> Plot:
    """How far the maps have left the distributions they were."""
    mean = rows[rows["lr"] == lr].groupby("step")[["row_error", "negative_entries"]].mean()
    lines = [
        Line("largest row-sum error", mean.index, mean["row_error"]),
        Line("share of entries below 0", mean.index, mean["negative_entries"], QUIET, "--"),
    ]
    return Plot("No longer distributions", "step", "mean over pictures", lines, limits=(0, None))


def _crossed(rows: pd.DataFrame, seed: int) -> Plot:
    lines = []
    rows = rows.assign(crossed=crossed(rows)).sort_values("step", kind="stable")
    for (lr, own), dash in zip(rows.groupby("lr"), ("-", "--"), strict=False):
        means = summarise(own, ["step"], {"crossed": lambda part: part["crossed"]}, seed)
        band = means["ci_low"], means["ci_high"]
        lines.append(Line(f"rate {lr:g}", means["step"], means["value"], INK, dash, *band))
    title = f"Attention has crossed, n = {rows['image_id'].nunique()}"
    return Plot(title, "step", "share of pictures", lines, limits=(-0.02, 1.02))


def _animate(run_dir: Path, shown: Sequence[pd.DataFrame], steps: int) -> None:
    """Write animation.gif: the maps of the shown pictures, step after step."""
    kept = [(_picture(run_dir, part), _maps(run_dir, part), part) for part in shown]
    frames: list[Image.Image] = []
    for step in range(steps + 1):
        panels = []
        for picture, maps, part in kept:
            row = part.iloc[step]
            lines = [
                f"{short_name(row[f'{who}_name'])}: logit {row[f'logit_{who}']:.1f}, "
                f"share {row[f'share_{who}']:+.2f}"
                for who in ("target", "other")
            ]
            note = "\n".join(lines).replace("-", "\N{MINUS SIGN}")
            panels.append(Panel(picture, maps[step], note=note))
        figure = draw_panels([panels], title=f"step {step}", panel_width=2.0, colour_bar=False)
        page = Image.open(io.BytesIO(render(figure))).convert("RGB")
        size = (page.width // 2, page.height // 2)
        frames.append(page.resize(size if not frames else frames[0].size))
    buffer = io.BytesIO()
    pauses = [1200, *[180] * (len(frames) - 2), 1800]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=pauses, loop=0)
    write_atomic(run_dir / "animation.gif", buffer.getvalue())


def _sentences(summary: pd.DataFrame, model: str, where: str, lr: float, steps: int) -> list[str]:
    """Whether attention crosses, and what becomes of the maps."""

    def at(measure: str) -> dict[str, Any]:
        return pick(summary, measure=measure)

    who = f"{model} ({where or 'objects not known'}), rate {lr:g}"
    begins, over = at("begins on the target"), at("crossed, of those that begin there")
    when = at("step of crossing")
    fall, other = at("change of the target's logit"), at("change of the other's logit")
    error, below = at("largest row-sum error"), at("share of entries below 0")
    verdict = "as claimed" if over["ci_low"] > 0.5 else "NOT in most pictures"
    first = (
        f"{who}: relevance begins on the target in {text(begins)}; of these it has "
        f"moved to the other object within {steps} steps in {text(over)}: {verdict}"
        + (f" (mean step {when['value']:.0f})." if when["n"] else ".")
    )
    return [
        first.replace("-", "\N{MINUS SIGN}"),
        f"{who}: the target's logit changes by {fall['value']:+.1f}, the other's by "
        f"{other['value']:+.1f}; at the end rows miss a sum of 1 by up to {error['value']:.2f} and "
        f"{below['value']:.0%} of the entries are negative. The first map correlates with the "
        f"model's own {at(LIKE)['value']:.2f}.",
    ]
