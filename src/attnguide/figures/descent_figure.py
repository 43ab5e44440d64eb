"""A descent of attention: maps along the steps with plots beneath, and an animation."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends import backend_agg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from attnguide.evaluation.intervention_rows import crossed
from attnguide.evaluation.statistics import estimate_curve
from attnguide.figures.experiment import Stored
from attnguide.store.files import write_atomic
from attnguide.store.maps import relevance_of
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import INK, QUIET, SMALL, open_axes, signed, typography

FRAMES = 7  # of the figure, evenly over the steps
DASHES = ("-", "--")  # of the rates
SIDES = (("target", "#c4262e", "-"), ("other", "#1f5fbf", "--"))
FIRST, EACH, LAST = 1200, 180, 1800  # milliseconds that a frame of the animation stands
Picture = NDArray[np.uint8]


def draw_descents(stored: Stored) -> tuple[Figure, dict[str, Figure]]:
    """A figure of each shown picture, the first apart; those of its model move in animation.gif."""
    rows, figures, moving = stored.all_rows, {}, []
    for (model, image), part in stored.shown.groupby(["model", "image_id"], sort=False):
        picture = stored.picture(model, image)
        of_model = rows[rows["model"] == model]
        figures[f"{image}, {model}"] = _draw_descent(part, of_model, picture, stored.seed)
        if model == rows["model"].iloc[0]:
            moving.append([(rate, picture) for rate in _rates(part)])
    titles, frames = zip(*_frames(moving), strict=True)
    write_atomic(stored.run_dir / "animation.gif", animation(frames, titles))
    return figures.pop(next(iter(figures))), figures


def _draw_descent(part: pd.DataFrame, rows: pd.DataFrame, picture: Picture, seed: int) -> Figure:
    """Frames of one picture, a row per rate; beneath, its plots and those of all pictures.

    Args:
        part: Rows of the picture: a step and rate each, with maps.
        rows: Of all pictures of the model.
        picture: What the model saw.
        seed: Of the bootstrap.
    """
    steps = sorted({round(s) for s in np.linspace(0, int(rows["step"].max()), FRAMES).tolist()})
    rates = _rates(part)
    names = [f"rate {rate['lr'].iloc[0]:g}" for rate in rates]
    alike = rows[rows["regions"] == part["regions"].iloc[0]]
    logits = [partial(_logits, rate, name) for rate, name in zip(rates, names, strict=True)]
    shares = [partial(_shares, rate, name) for rate, name in zip(rates, names, strict=True)]
    return draw_panels(
        [_row_of_frames(rate, picture, steps) for rate in rates],
        column_titles=["image", *(f"step {step}" for step in steps)],
        row_titles=names,
        panel_width=1.02,
        below=[[*logits, partial(_row_error, alike)], [*shares, partial(_crossed, alike, seed)]],
    )


def _rates(part: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows by rate, in the order of the steps."""
    return [rate for _, rate in part.sort_values("step").groupby("lr", sort=True)]


def _row_of_frames(part: pd.DataFrame, picture: Picture, steps: Sequence[int]) -> list[Panel]:
    first = part.iloc[0]
    panels = [Panel(picture, note=f"target:\n{short_name(first['target_name'])}")]
    for step in steps:
        row = part.iloc[step]
        lines = [f"{signed(row[f'share_{who}'])} on {who}" for who, *_ in SIDES]
        note = "\n".join(lines) if first["regions"] else ""
        panels.append(Panel(picture, relevance_of(row), note=note))
    return panels


# Plots beneath the frames: each draws into its axes


def _logits(part: pd.DataFrame, rate: str, axes: Axes) -> None:
    for who, colour, dash in SIDES:
        name = short_name(part[f"{who}_name"].iloc[0])
        _line(axes, part["step"], part[f"logit_{who}"], dash, colour, name)
    _finish(axes, f"Logits,\n{rate}", "logit")


def _shares(part: pd.DataFrame, rate: str, axes: Axes) -> None:
    for who, colour, dash in SIDES:
        _line(axes, part["step"], part[f"share_{who}"], dash, colour, f"on the {who}")
    axes.axhline(0, color=QUIET, linewidth=0.6, zorder=0)
    for step in part.loc[part["share_other"] > part["share_target"], "step"].head(1):
        axes.axvline(step, color=QUIET, linewidth=0.7, dashes=(3, 2), zorder=0)
    _finish(axes, f"Signed share of the map,\n{rate}", "share")


def _row_error(rows: pd.DataFrame, axes: Axes) -> None:
    """How far the maps have left the distributions they were."""
    means = rows.groupby(["lr", "step"])["row_error"].mean().unstack(0)
    for lr, dash in zip(means, DASHES, strict=False):
        _line(axes, means.index, means[lr], dash, INK, f"rate {lr:g}")
    limits = (0.0, 1.05 * float(means.to_numpy().max()) or 1.0)
    _finish(axes, "Rows no longer\nsum to 1", "largest error, mean", limits)


def _crossed(rows: pd.DataFrame, seed: int, axes: Axes) -> None:
    count, known = 0, rows.assign(crossed=crossed(rows)).dropna(subset="crossed")
    for (lr, rate), dash in zip(known.groupby("lr"), DASHES, strict=False):
        table = rate.pivot(index="image_id", columns="step", values="crossed")
        band, count = estimate_curve(table, seed=seed, kind="answers"), len(table)
        _line(axes, band.index, band["value"], dash, INK, f"rate {lr:g}")
        ends = band["ci_low"], band["ci_high"]
        axes.fill_between(band.index, *ends, color=INK, alpha=0.14, linewidth=0)
    title = f"Attention has crossed,\nn = {count}"
    _finish(axes, title, "share of pictures", (-0.02, 1.02))


def _line(axes: Axes, x: Any, y: Any, dash: str, colour: str, label: str) -> None:
    axes.plot(x, y, dash, color=colour, linewidth=1.3, label=label)


def _finish(
    axes: Axes, title: str, y_label: str, limits: tuple[float, float] | None = None
) -> None:
    axes.set_title(title, loc="left", pad=4, size=SMALL + 1)
    axes.set(xlabel="step", ylabel=y_label, ylim=limits)
    axes.margins(x=0.01)
    open_axes(axes, "y")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, borderpad=0.1, handlelength=1.6, labelspacing=0.25)


# The animation


def _frames(
    moving: Sequence[Sequence[tuple[pd.DataFrame, Picture]]],
) -> Iterator[tuple[str, list[list[Panel]]]]:
    """Title and panels of every step: a row per rate, in it the shown pictures."""
    for step in range(len(moving[0][0][0])):
        yield (
            f"step {step}",
            [
                [_moving_panel(part.iloc[step], picture) for part, picture in rate]
                for rate in zip(*moving, strict=True)
            ],
        )


def _moving_panel(row: pd.Series[Any], picture: Picture) -> Panel:
    lines = [
        f"{who}: logit {signed(row[f'logit_{who}'])}"
        + (f", share {signed(row[f'share_{who}'])}" if row["regions"] else "")
        for who, *_ in SIDES
    ]
    title = f"target: {short_name(row['target_name'])}\nrate {row['lr']:g}"
    return Panel(picture, relevance_of(row), title, "\n".join(lines))


def animation(frames: Sequence[Sequence[Sequence[Panel]]], titles: Sequence[str]) -> bytes:
    """The content of a GIF that repeats: a page of panels per frame.

    Args:
        frames: Rows of panels, alike in every frame.
        titles: Above each frame.
    """
    pages = [_page(rows, title) for rows, title in zip(frames, titles, strict=True)]
    width, height = (max(page.size[side] for page in pages) for side in (0, 1))
    colours = Image.new("RGB", (width, 2 * height), "white")  # one palette for all frames
    colours.paste(pages[0])
    colours.paste(pages[-1], (0, height))
    palette = colours.quantize(255)
    shown = []
    for page in pages:
        whole = Image.new("RGB", (width, height), "white")
        whole.paste(page)
        shown.append(whole.quantize(palette=palette, dither=Image.Dither.NONE))
    buffer = io.BytesIO()
    pauses = [FIRST, *[EACH] * (len(shown) - 2), LAST][-len(shown) :]
    shown[0].save(buffer, "GIF", save_all=True, append_images=shown[1:], duration=pauses, loop=0)
    return buffer.getvalue()


def _page(rows: Sequence[Sequence[Panel]], title: str) -> Image.Image:
    agg: Any = backend_agg  # matplotlib leaves it without types
    with typography():
        figure = draw_panels(rows, title=title, panel_width=2.2)
        figure.set_dpi(100)
        canvas = agg.FigureCanvasAgg(figure)
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
