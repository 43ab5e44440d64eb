"""Panels as a moving picture: one page of panels per frame."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from attnguide.viz.panels import Panel, draw_panels
from attnguide.viz.style import typography

PANEL_WIDTH, DOTS = 2.2, 100  # inches, dots per inch
FIRST, EACH, LAST = 1200, 180, 1800  # milliseconds that a frame stands


def animation(frames: Sequence[Sequence[Sequence[Panel]]], titles: Sequence[str]) -> bytes:
    """The content of a GIF that repeats.

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
    from matplotlib.backends import backend_agg

    agg: Any = backend_agg  # matplotlib leaves it without types
    with typography():
        figure = draw_panels(rows, title=title, panel_width=PANEL_WIDTH)
        figure.set_dpi(DOTS)
        canvas = agg.FigureCanvasAgg(figure)
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
