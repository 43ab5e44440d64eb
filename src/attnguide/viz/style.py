"""How everything looks: the colours of relevance, one line style per method, type sizes.

This is the one place that knows them, so that a method looks the same in every figure.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from attnguide.errors import unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

INK, QUIET, HAIRLINE = "#1b1b1f", "#6a6a72", "#c9c9d0"
BODY, SMALL = 8.0, 7.0  # points, as in the text of a paper
PAD = 0.06  # inches around a figure

# Blue, white, red at equal steps from -1 to 1, equally dark at equal distance from zero.
RELEVANCE_COLOURS = ("#0b2f8a", "#2f63d6", "#8fb2f5", "#ffffff", "#f79a8c", "#d93a32", "#8a0b1c")


@dataclass(frozen=True)
class FigureSettings:
    """How figures are drawn: settings `figure.*`, which stage=draw takes too.

    Attributes:
        width: Inches, such as 3.5 for a column of a paper; panels that do not fit stand below each
            other. null for what a figure needs, which tables of colours always take.
        underlay: Pictures beneath maps in "colour", or in "grey", over which zero is white.
    """

    width: Annotated[float, Field(ge=2.5, le=20)] | None = None
    underlay: Literal["colour", "grey"] = "colour"


_settings: ContextVar[FigureSettings] = ContextVar("figure settings")


def figure_settings() -> FigureSettings:
    """What figures are drawn with now."""
    return _settings.get(FigureSettings())


@contextmanager
def drawn_with(settings: FigureSettings) -> Iterator[None]:
    """Draw with these settings within."""
    token = _settings.set(settings)
    try:
        yield
    finally:
        _settings.reset(token)


Dash = str | tuple[int, tuple[float, ...]]  # matplotlib's name, or (offset, on and off in points)


@dataclass(frozen=True)
class LineStyle:
    """How the curve of one method is drawn: readable in colour, and in grey by dash and marker."""

    colour: str
    dash: Dash
    marker: str
    label: str = ""  # its name, where that is not the file's


_LONG_DASH, _DASH_DOT_DOT = (0, (6.0, 1.6)), (0, (4.0, 1.4, 1.0, 1.4, 1.0, 1.4))
METHOD_STYLES = {
    "complete": LineStyle("#c4262e", "-", "o"),
    "gae": LineStyle("#1f5fbf", "--", "s", "GAE"),
    "absolute": LineStyle("#2f8f4e", "-.", "^"),
    "rollout": LineStyle("#8a5a2b", ":", "D"),
    "random": LineStyle("#77777f", _LONG_DASH, "x"),
    "raw_attention": LineStyle("#b08500", _DASH_DOT_DOT, "v"),
    "attention_flow": LineStyle("#7a3e9d", "-", "P"),
    "t_attr": LineStyle("#00838f", "--", "*", "T-Attr"),
    "lrp": LineStyle("#5d6d1e", "-.", "<", "LRP"),
    "partial_lrp": LineStyle("#9aa52f", ":", ">", "partial LRP"),
    "attn_gradcam": LineStyle("#d6568b", _LONG_DASH, "h", "attention GradCAM"),
    "gradcam": LineStyle("#e07b1a", _DASH_DOT_DOT, "p", "GradCAM"),
    "layercam": LineStyle("#f0a860", "-", "d", "LayerCAM"),
    "tam": LineStyle("#3b3b9a", "--", "X", "TAM"),
    "bi_head": LineStyle("#4f9fd0", "-.", "1", "BI (head)"),
    "bi_token": LineStyle("#86c5e8", ":", "2", "BI (token)"),
    "dix": LineStyle("#a3195b", _LONG_DASH, "3", "DIX"),
    "vit_cx": LineStyle("#0f6b5c", _DASH_DOT_DOT, "4", "ViT-CX"),
    "tis": LineStyle("#54c2a8", "-", "+", "TIS"),
    "grad_eclip": LineStyle("#b48ede", "--", "8", "Grad-ECLIP"),
    "input_x_gradient": LineStyle("#785aff", _LONG_DASH, "^", "input × gradient"),
    "integrated_gradients": LineStyle("#d900c0", "-.", "o", "Integrated Gradients"),
    "smoothgrad": LineStyle("#e19696", ":", "s", "SmoothGrad"),
    "cp_lrp": LineStyle("#2d9600", _DASH_DOT_DOT, "D", "CP-LRP"),
    "attn_lrp": LineStyle("#14c83c", "-", "x", "AttnLRP"),
    "legrad": LineStyle("#b4b487", "--", "v", "LeGrad"),
    "attcat": LineStyle("#5a2d4b", "-.", "P", "AttCAT"),
    "cdam": LineStyle("#003c5a", ":", "*", "CDAM"),
    "centred": LineStyle("#8c7800", _LONG_DASH, "p"),
    "seam": LineStyle("#4b4b55", ":", "8"),
    "complete_libra": LineStyle("#ff4b00", "--", "o"),
    "gae_libra": LineStyle("#1e1ee6", "-", "s"),
    "absolute_libra": LineStyle("#0f4b1e", "--", "^"),
    "input_x_gradient_libra": LineStyle("#b4b4ff", "-", "^"),
    "attcat_libra": LineStyle("#a55a87", "--", "P"),
}
_LIBRA = "_libra"


def method_style(method: str) -> LineStyle:
    """The style of a method; one that nobody listed keeps a style of its own from its name."""
    if method in METHOD_STYLES:
        return METHOD_STYLES[method]
    colours = ["#5b4b8a", "#a65e2e", "#2e7d7a", "#8c2f5a", "#50702a"]
    dashes: list[Dash] = ["--", "-.", ":", _LONG_DASH, _DASH_DOT_DOT]
    pick = crc32(method.encode())
    return LineStyle(colours[pick % 5], dashes[pick // 5 % 5], "os^Dv"[pick // 25 % 5])


def method_label(method: str) -> str:
    """The name of a method as figures print it; `<method>_libra` has the Libra gradient."""
    if method.endswith(_LIBRA):
        return f"{method_label(method.removesuffix(_LIBRA))} (Libra)"
    style = METHOD_STYLES.get(method)
    return (style and style.label) or method.replace("_", " ")


def relevance_colours(values: NDArray[np.floating], cmap: str | None = None) -> NDArray[np.float32]:
    """(..., 3) colours in [0, 1] of values in [-1, 1]: red positive, white zero, blue negative.

    Args:
        values: Any shape.
        cmap: Name of another colour map, as of `relevance_colormap`.
    """
    if cmap is not None:
        return relevance_colormap(cmap)((values + 1) / 2)[..., :3].astype(np.float32)
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in RELEVANCE_COLOURS])
    at = np.linspace(-1, 1, len(anchors))
    channels = [np.interp(values, at, anchors[:, channel] / 255) for channel in range(3)]
    return np.stack(channels, -1).astype(np.float32)


def relevance_colormap(name: str | None = None) -> Colormap:
    """The same colours for matplotlib, from 0 (negative) to 1 (positive), or others by name.

    Raises:
        ValueError: matplotlib has no colour map of this name.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    if name is None:
        return LinearSegmentedColormap.from_list("relevance", RELEVANCE_COLOURS, N=513)
    if name not in colormaps:
        raise unknown_name("cmap", name, list(colormaps))
    return colormaps[name]


@contextmanager
def typography() -> Iterator[None]:
    """Type, lines and fonts of all figures, for the time of a drawing only.

    It starts from matplotlib's defaults, so that nobody's matplotlibrc changes a figure.
    """
    from matplotlib.style import context

    settings: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": BODY,
        "axes.titlesize": BODY + 1,
        "axes.labelsize": BODY,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": QUIET,
        "axes.linewidth": 0.6,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "pdf.fonttype": 42,  # text stays text
    }
    subsetting = logging.getLogger("fontTools")  # tells every step where the root logs at INFO
    level = subsetting.level
    subsetting.setLevel(logging.WARNING)
    try:
        with context(["default", settings]):
            yield
    finally:
        subsetting.setLevel(level)


def open_axes(axes: Axes, grid: Literal["x", "y"]) -> None:
    """Pale lines across one axis, no frame above and at the right."""
    axes.grid(axis=grid, color=HAIRLINE, linewidth=0.4, alpha=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2.5)


def signed(value: float) -> str:
    """Two decimals and the sign, for the eye."""
    return minus(f"{value:+.2f}")


def minus(text: str) -> str:
    """The text with true minus signs before its negative numbers."""
    return re.sub(r"(?<![\w.-])-(?=\.?\d)", "\N{MINUS SIGN}", text)


def without_wnid(text: str) -> str:
    """The text with classes instead of names of files: "bald eagle" for "n01614925_bald_eagle"."""
    named = r"\b(?:n\d{8}/)?n\d{8}_([A-Za-z][\w'-]*)(?:\.[A-Za-z]+)?"
    return re.sub(named, lambda found: found[1].replace("_", " "), text)


def render(figure: Figure, kind: str = "png", dpi: int = 200) -> bytes:
    """The content of a PNG or PDF file; the same bytes for the same figure.

    A figure of the width that was set keeps it; others are cut where their content ends.
    """
    buffer, box = BytesIO(), cast("Any", "tight")
    with typography():
        if (width := figure.get_figwidth()) == figure_settings().width:
            figure.draw_without_rendering()
            box = figure.get_tightbbox().padded(PAD)
            box.x0, box.x1 = 0, width
        figure.savefig(
            buffer,
            format=kind,
            dpi=dpi,
            bbox_inches=box,
            pad_inches=PAD if box == "tight" else 0,
            facecolor="white",
            metadata={"pdf": {"CreationDate": None}, "png": {"Software": None}}[kind],
        )
    return buffer.getvalue()
