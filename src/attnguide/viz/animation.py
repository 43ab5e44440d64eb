"""Panels as a moving picture; drawn without matplotlib, which takes seconds per frame."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from attnguide.viz.overlay import as_picture, overlay
from attnguide.viz.panels import Panel
from attnguide.viz.style import INK, QUIET

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

SIDE, GAP, LINE, LETTERS = 224, 16, 18, 13  # pixels
FIRST, EACH, LAST = 1200, 180, 1800  # milliseconds that a frame stands


def animation(frames: Sequence[Sequence[Sequence[Panel]]], titles: Sequence[str]) -> bytes:
    """The content of a GIF that repeats.

    Args:
        frames: Rows of panels, alike in every frame; all notes with the same number of lines.
        titles: Above each frame.
    """
    pages = [_page(rows, title) for rows, title in zip(frames, titles, strict=True)]
    colours = Image.new("RGB", (pages[0].width, 2 * pages[0].height))  # one palette for all frames
    colours.paste(pages[0])
    colours.paste(pages[-1], (0, pages[0].height))
    palette = colours.quantize(255)
    shown = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    buffer = io.BytesIO()
    pauses = [FIRST, *[EACH] * (len(shown) - 2), LAST][-len(shown) :]
    shown[0].save(buffer, "GIF", save_all=True, append_images=shown[1:], duration=pauses, loop=0)
    return buffer.getvalue()


def _page(rows: Sequence[Sequence[Panel]], title: str) -> Image.Image:
    above, below = (
        max(getattr(panel, part).count("\n") + 1 for row in rows for panel in row) * LINE
        for part in ("title", "note")
    )
    height = SIDE + above + below + GAP
    across = max(len(row) for row in rows)
    page = Image.new("RGB", (across * (SIDE + GAP) + GAP, len(rows) * height + 2 * LINE), "white")
    draw = ImageDraw.Draw(page)
    draw.text((page.width / 2, LINE), title, INK, _font(), "mm")
    for number, row in enumerate(rows):
        for column, panel in enumerate(row):
            left, top = GAP + column * (SIDE + GAP), 2 * LINE + number * height
            middle, picture = left + SIDE / 2, _picture(panel)
            draw.multiline_text((middle, top), panel.title, INK, _font(), "ma", align="center")
            page.paste(picture, (left, top + above))
            place = (middle, top + above + SIDE + 4)
            draw.multiline_text(place, panel.note, QUIET, _font(), "ma", align="center")
    return page


def _picture(panel: Panel) -> Image.Image:
    pixels = as_picture(panel.image)
    if panel.relevance is not None:
        pixels = overlay(pixels, panel.relevance)
    return Image.fromarray(np.round(255 * pixels).astype(np.uint8)).resize((SIDE, SIDE))


@lru_cache(1)
def _font() -> FreeTypeFont:
    import matplotlib as mpl
    from PIL import ImageFont

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / "DejaVuSans.ttf", LETTERS)
