"""A descent of attention: maps along the steps with plots beneath, and an animation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnguide.evaluation.intervention_rows import crossed
from attnguide.evaluation.statistics import estimate_curve
from attnguide.figures.experiment import Stored
from attnguide.store.files import write_atomic
from attnguide.store.maps import relevance_of, stored_picture
from attnguide.viz.animation import animation
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.plots import FIRST, SECOND, Line, Plot
from attnguide.viz.style import INK, signed

FRAMES = 7  # of the figure, evenly over the steps
DASHES = ("-", "--")  # of the rates
SIDES = (("target", FIRST, "-"), ("other", SECOND, "--"))
Shown = tuple[pd.DataFrame, NDArray[np.uint8]]  # rows of one picture, and the picture


def draw_descents(stored: Stored) -> tuple[Figure, dict[str, Figure]]:
    """A figure of each shown picture, the first apart; those of its model move in animation.gif."""
    rows, figures, first = stored.all_rows, {}, stored.all_rows["model"].iloc[0]
    moving = []
    for (model, image), part in stored.shown.groupby(["model", "image_id"], sort=False):
        picture = stored_picture(stored.run_dir, f"{model} {image}")
        own = rows[rows["model"] == model]
        figures[f"{image}, {model}"] = _draw_descent(part, own, picture, stored.seed)
        if model == first:
            moving.append((part, picture))
    write_atomic(stored.run_dir / "animation.gif", _animate(moving))
    return figures.pop(next(iter(figures))), figures


def _draw_descent(
    part: pd.DataFrame, rows: pd.DataFrame, picture: NDArray[np.uint8], seed: int
) -> Figure:
    """Frames of one picture, a row per rate; beneath, its plots and those of all pictures.

    Args:
        part: Rows of the picture: a step and rate each, with maps.
        rows: Of all pictures of the model.
        picture: What the model saw.
        seed: Of the bootstrap.
    """
    last = int(rows["step"].max())
    steps = sorted({round(step) for step in np.linspace(0, last, FRAMES).tolist()})
    rates = _rates(part)
    names = [f"rate {own['lr'].iloc[0]:g}" for own in rates]
    alike = rows[rows["regions"] == part["regions"].iloc[0]]
    logits = [_logits(own, name) for own, name in zip(rates, names, strict=True)]
    shares = [_shares(own, name) for own, name in zip(rates, names, strict=True)]
    return draw_panels(
        [_frames(own, picture, steps) for own in rates],
        column_titles=["image", *(f"step {step}" for step in steps)],
        row_titles=names,
        panel_width=1.02,
        below=[[*logits, _row_error(alike)], [*shares, _crossed(alike, seed)]],
    )


def _animate(shown: Sequence[Shown]) -> bytes:
    """A GIF: the maps of the shown pictures, a row per rate."""
    split = [[(own, picture) for own in _rates(part)] for part, picture in shown]
    steps = range(len(split[0][0][0]))
    frames = [
        [
            [_frame(own.iloc[step], picture, _words(own.iloc[step])) for own, picture in row]
            for row in zip(*split, strict=True)
        ]
        for step in steps
    ]
    return animation(frames, [f"step {step}" for step in steps])


def _rates(part: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows by rate, in the order of the steps."""
    return [own for _, own in part.sort_values("step").groupby("lr", sort=True)]


def _frame(row: Any, picture: NDArray[np.uint8], words: tuple[str, str]) -> Panel:
    return Panel(picture, relevance_of(row), *words)


def _frames(part: pd.DataFrame, picture: NDArray[np.uint8], steps: Sequence[int]) -> list[Panel]:
    first = part.iloc[0]
    panels = [Panel(picture, note=f"target:\n{short_name(first['target_name'])}")]
    for step in steps:
        row = part.iloc[step]
        mine, other = (signed(row[f"share_{who}"]) for who, *_ in SIDES)
        note = f"{mine} on target\n{other} on other" if first["regions"] else ""
        panels.append(_frame(row, picture, ("", note)))
    return panels


def _words(row: pd.Series[Any]) -> tuple[str, str]:
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
    rows = rows.assign(crossed=crossed(rows))
    for (lr, own), dash in zip(rows.groupby("lr"), DASHES, strict=False):
        known = own[own["crossed"].notna()]
        table = known.pivot(index="image_id", columns="step", values="crossed")
        count = len(table)
        if count:
            band = estimate_curve(table, seed=seed, kind="answers")
            ends = band["ci_low"], band["ci_high"]
            lines.append(Line(f"rate {lr:g}", band.index, band["value"], INK, dash, *ends))
    title = f"Attention has crossed, n = {count}"
    return Plot(title, "step", "share of pictures", lines, limits=(-0.02, 1.02))
