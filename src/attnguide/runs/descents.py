"""What Figure 6 shows: maps along a descent with plots beneath, and an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from attnguide.data.views import View
from attnguide.evaluation.explained import store_picture, stored_picture
from attnguide.evaluation.localisation import summarise
from attnguide.evaluation.transfer import crossed
from attnguide.models.preprocess import Preprocess
from attnguide.runs.job import Job
from attnguide.runs.shown import signed
from attnguide.store.files import write_atomic
from attnguide.store.table import load_maps, save_maps
from attnguide.types import ViT
from attnguide.viz.animation import animation
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.plots import FIRST, SECOND, Line, Plot, plots_below
from attnguide.viz.style import INK

FRAMES = 7  # of the figure, evenly over the steps
DASHES = ("-", "--")  # of the rates
SIDES = (("target", FIRST, "-"), ("other", SECOND, "--"))


def store_descent(job: Job, vit: ViT, view: View, lr: float, relevance: Tensor) -> None:
    """Store a picture and its maps (S, rows, cols), one per step."""
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


def shown_descents(rows: pd.DataFrame) -> list[list[pd.DataFrame]]:
    """The steps of every shown picture, in order, by picture and rate."""
    own = rows[rows["place"].notna()].sort_values(["place", "step"])
    return [
        [steps for _, steps in part.groupby("lr", sort=True)] for _, part in own.groupby("place")
    ]


def descent_figure(
    run_dir: Path, rows: pd.DataFrame, rates: Sequence[pd.DataFrame], seed: int
) -> Figure:
    """Frames of one picture, a row per rate; beneath, its plots and those of all pictures.

    Args:
        run_dir: Where pictures and maps are stored.
        rows: Of all pictures of the model.
        rates: Of this picture, from `shown_descents`.
        seed: Of the bootstrap.
    """
    last = int(rows["step"].max())
    steps = sorted({round(step) for step in np.linspace(0, last, FRAMES).tolist()})
    names = [f"rate {part['lr'].iloc[0]:g}" for part in rates]
    figure = draw_panels(
        [_frames(run_dir, part, steps) for part in rates],
        column_titles=["image", *(f"step {step}" for step in steps)],
        row_titles=names,
        panel_width=1.02,
    )
    alike = rows[rows["regions"] == rates[0]["regions"].iloc[0]]
    logits = [_logits(part, name) for part, name in zip(rates, names, strict=True)]
    shares = [_shares(part, name) for part, name in zip(rates, names, strict=True)]
    plots_below(figure, [[*logits, _row_error(alike)], [*shares, _crossed(alike, seed)]])
    return figure


def animate(run_dir: Path, shown: Sequence[Sequence[pd.DataFrame]]) -> None:
    """Write animation.gif: the maps of the shown pictures, a row per rate."""
    kept = [
        [(_picture(run_dir, part), _maps(run_dir, part), part) for part in rates]
        for rates in zip(*shown, strict=True)
    ]
    steps = range(len(kept[0][0][2]))
    frames = [
        [
            [Panel(picture, maps[step], *_told(part.iloc[step])) for picture, maps, part in row]
            for row in kept
        ]
        for step in steps
    ]
    write_atomic(run_dir / "animation.gif", animation(frames, [f"step {step}" for step in steps]))


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
    panels = [Panel(picture, note=f"target:\n{short_name(first['target_name'])}")]
    for step in steps:
        mine, other = (signed(part.iloc[step][f"share_{who}"]) for who, *_ in SIDES)
        note = f"{mine} on target\n{other} on other" if first["regions"] else ""
        panels.append(Panel(picture, maps[step], note=note))
    return panels


def _told(row: pd.Series[Any]) -> tuple[str, str]:
    """Above and beneath a frame of the animation."""
    title = f"target: {short_name(row['target_name'])}\nrate {row['lr']:g}"
    lines = [f"{who}: logit {signed(row[f'logit_{who}'])}" for who, *_ in SIDES]
    if row["regions"]:
        lines = [
            f"{line}, share {signed(row[f'share_{who}'])}"
            for line, (who, *_) in zip(lines, SIDES, strict=True)
        ]
    return title, "\n".join(lines)


def _logits(part: pd.DataFrame, rate: str) -> Plot:
    first = part.iloc[0]
    lines = [
        Line(short_name(first[f"{who}_name"]), part["step"], part[f"logit_{who}"], colour, dash)
        for who, colour, dash in SIDES
    ]
    return Plot(f"Logits, {rate}", "step", "logit", lines)


def _shares(part: pd.DataFrame, rate: str) -> Plot:
    lines = [
        Line(f"on the {who}", part["step"], part[f"share_{who}"], colour, dash)
        for who, colour, dash in SIDES
    ]
    crossing = part.loc[part["share_other"] > part["share_target"], "step"]
    marks = crossing.head(1).tolist()
    return Plot(f"Signed share of the map, {rate}", "step", "share", lines, marks, zero=True)


def _row_error(rows: pd.DataFrame) -> Plot:
    """How far the maps have left the distributions they were."""
    lines, most = [], 0.0
    for (lr, own), dash in zip(rows.groupby("lr"), DASHES, strict=False):
        mean = own.groupby("step")["row_error"].mean()
        lines.append(Line(f"rate {lr:g}", mean.index, mean, INK, dash))
        most = max(most, float(mean.max()))
    limits = (0.0, 1.05 * most or 1.0)
    return Plot("Rows no longer sum to 1", "step", "largest error, mean", lines, limits=limits)


def _crossed(rows: pd.DataFrame, seed: int) -> Plot:
    lines, count = [], 0
    rows = rows.assign(crossed=crossed(rows)).sort_values("step", kind="stable")
    for (lr, own), dash in zip(rows.groupby("lr"), DASHES, strict=False):
        means = summarise(own, ["step"], {"crossed": lambda part: part["crossed"]}, seed)
        count = int(means["n"].max()) if len(means) else 0
        band = means["ci_low"], means["ci_high"]
        lines.append(Line(f"rate {lr:g}", means["step"], means["value"], INK, dash, *band))
    title = f"Attention has crossed, n = {count}"
    return Plot(title, "step", "share of pictures", lines, limits=(-0.02, 1.02))
