"""Explanations in notebooks and files: figures, grids, overlays, one line, `.npz`."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from attnguide.errors import InputError, InputTypeError
from attnguide.models.preprocess import Preprocess, pixels_of
from attnguide.store.files import write_atomic
from attnguide.types import Explanation
from attnguide.viz.overlay import MAP_WEIGHT, as_picture, as_values, overlay
from attnguide.viz.panels import Panel, draw_panel, draw_panels, short_name
from attnguide.viz.style import method_label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MAX_SHOWN, MAX_THUMBNAILS = 32, 8  # images of a figure, of a thumbnail row
PATCH_PIXELS = 16  # of a map without a picture
COLUMNS = 4  # of maps without pictures
ASPECT_TOLERANCE = 0.1

Picture = NDArray[np.float32]


def plot(
    explanation: Explanation,
    pictures: Any = None,
    *,
    class_names: Sequence[str] = (),
    grey: bool = False,
    alpha: float = MAP_WEIGHT,
    cmap: str | None = None,
    ax: Axes | None = None,
) -> Figure | SubFigure:
    """A figure of the maps, over the pictures if these are given.

    Args:
        explanation: Of one or many images and targets.
        pictures: One per image. Of PIL pictures, the originals, what the model saw is cropped; all
            of it beside a guide. Arrays (H, W, 3), or a tensor (B, 3, H, W) in [0, 1], such as
            `vit.preprocess.denormalize(images)`, are what the model saw.
        class_names: Of the model; without them classes are numbers.
        grey: Take the colours out of the pictures beneath the maps.
        alpha: Share of the map over a picture, in [0, 1].
        cmap: Name of a colour map of matplotlib's, from -max|S| to max|S|; by default red for the
            target, white for zero, blue against it.
        ax: Axes to draw into, instead of a figure of its own; takes one map.

    Raises:
        ValueError: pictures that do not fit; several maps for one `ax`.
    """
    maps, targets = _by_image(explanation)
    count, cut = _shown(len(maps))
    shown = None if pictures is None else _pictures(pictures, explanation)
    rows = []
    for place in range(count):
        row = [] if shown is None else [Panel(shown[place], title=f"image {place}")]
        under = _white(maps[place, 0]) if shown is None else shown[place]
        for relevance, target in zip(maps[place], targets[place], strict=True):
            note = _note(explanation, place, target) + "\nall zero" * (not relevance.any())
            weight = 1.0 if shown is None else alpha
            title = _class(target, class_names)
            row.append(Panel(under, relevance, title, note, None, weight, grey, cmap))
        rows.append(row)
    if ax is not None:
        if targets.size != 1:
            raise InputError(
                f"ax takes one map, got {targets.size}; pass one as explanation[0].plot(ax=ax)"
            )
        draw_panel(ax, rows[0][-1])
        return ax.figure
    if shown is None and maps.shape[1] == 1:
        flat = [row[0] for row in rows]
        rows = [flat[start : start + COLUMNS] for start in range(0, count, COLUMNS)]
    return draw_panels(rows, title=method_label(explanation.method) + cut)


def compare(
    explanations: Mapping[str, Explanation] | Sequence[Explanation],
    pictures: Any,
    *,
    class_names: Sequence[str] = (),
    grey: bool = False,
) -> Figure:
    """A grid: a row per picture and target, a column per method.

    Args:
        explanations: Of the same images and targets, as `explain_many` returns them.
        pictures, class_names, grey: As in `plot`.

    Raises:
        ValueError: nothing to compare, or explanations of other images or targets.
    """
    named = (
        dict(explanations)
        if isinstance(explanations, Mapping)
        else {each.method: each for each in explanations}
    )
    if not named or len(named) != len(explanations):
        raise InputError(
            "compare needs explanations with different names; pass a mapping of names to them"
        )
    for name, each in named.items():
        if not isinstance(each, Explanation):
            raise InputTypeError(f"{name!r} must be an Explanation, got {type(each).__name__}")
    first = next(iter(named.values()))
    for name, each in named.items():
        if not torch.equal(each.target.cpu(), first.target.cpu()):
            raise InputError(f"{name!r} explains other targets than {first.method!r}")
        if each.own.shape[-2:] != first.own.shape[-2:]:
            raise InputError("compare needs maps of one grid; pass explanations of the same guide")
    maps = [_by_image(each)[0] for each in named.values()]
    targets = _by_image(first)[1]
    count, cut = _shown(len(targets))
    shown = _pictures(pictures, first)
    places = [(image, t) for image in range(count) for t in range(targets.shape[1])]
    rows = [
        [Panel(shown[i]), *(Panel(shown[i], own[i, t], grey=grey) for own in maps)]
        for i, t in places
    ]
    return draw_panels(
        rows,
        column_titles=["image", *(method_label(name) for name in named)],
        row_titles=[_class(targets[place], class_names) for place in places],
        title=cut.removeprefix(", "),
    )


def overlays(
    explanation: Explanation, pictures: Any, *, weight: float = MAP_WEIGHT, grey: bool = False
) -> list[Any]:
    """The maps over the pictures, as PIL pictures; a list per image where targets are several.

    Args:
        explanation, pictures, grey: As in `plot`.
        weight: Share of the map, in [0, 1].
    """
    maps, _ = _by_image(explanation)
    mixed = [
        [_as_pil(overlay(under, own, weight=weight, grey=grey)) for own in of_image]
        for under, of_image in zip(_pictures(pictures, explanation), maps, strict=True)
    ]
    return mixed if explanation.target.ndim == 2 else [row[0] for row in mixed]


def upsample(explanation: Explanation, size: tuple[int, int] | None = None) -> Tensor:
    """The raw maps in pixels, (B, H, W) or (B, T, H, W), bilinear; not rescaled.

    Args:
        explanation: Any; of one with a guide, the original's part.
        size: (H, W); by default 16 pixels per patch.
    """
    relevance = explanation.own
    rows, cols = relevance.shape[-2:]
    height, width = size or (rows * PATCH_PIXELS, cols * PATCH_PIXELS)
    if min(height, width) < 1:
        raise InputError(f"size must be (height, width) in pixels, at least 1, got {size}")
    flat = relevance.reshape(-1, 1, rows, cols)
    large = interpolate(flat, size=(height, width), mode="bilinear", align_corners=False)
    return large.reshape(*relevance.shape[:-2], height, width)


def explanation_line(explanation: Explanation) -> str:
    """One line for people."""
    rows, cols = explanation.relevance.shape[-2:]
    targets = explanation.target.flatten().tolist()
    listed = ", ".join(map(str, targets[:6])) + (", ..." if len(targets) > 6 else "")
    count = len(explanation.relevance)
    kind = str(explanation.relevance.dtype).removeprefix("torch.")
    given = (explanation.settings.get(key) for key in ("guide", "layout"))
    guide = ", ".join(str(value) for value in given if value is not None)
    beside = "" if explanation.mask is None else f" beside a guide ({guide})"
    empty = int((explanation.relevance == 0).flatten(-2).all(-1).sum())
    zero = f", {empty} of {len(targets)} maps all zero" if empty else ""
    return (
        f"Explanation({explanation.method}: {count} image{'s' * (count != 1)}{beside}, {rows} x "
        f"{cols} patches, target {listed}, {kind}{zero})"
    )


def to_frame(explanation: Explanation) -> pd.DataFrame:
    """A row per patch: image, target, row, col, relevance; of one with a guide the original's."""
    import pandas as pd

    maps, targets = _by_image(explanation)
    image, place, row, col = np.indices(maps.shape).reshape(4, -1)
    columns = {"image": image, "target": targets[image, place], "row": row, "col": col}
    return pd.DataFrame(columns | {"relevance": maps.ravel()})


def explanation_html(explanation: Explanation) -> str:
    """The line, and thumbnails of the first maps."""
    from markupsafe import Markup

    maps, targets = _by_image(explanation)
    pictures = Markup("").join(
        Markup(
            '<figure style="display:inline-block;margin:4px;text-align:center">'
            '<img width="96" alt="{}" src="data:image/png;base64,{}">'
            "<figcaption>{}</figcaption></figure>"
        ).format(f"map for class {target}", _thumbnail(own), target)
        for own, target in list(
            zip(maps.reshape(-1, *maps.shape[-2:]), targets.ravel(), strict=True)
        )[:MAX_THUMBNAILS]
    )
    return str(Markup("<div>{}<br>{}</div>").format(explanation_line(explanation), pictures))


def save(explanation: Explanation, path: str | PathLike[str]) -> Path:
    """Write an explanation to a `.npz` file, which `load_explanation` reads; returns its path.

    Functions among the settings are kept by their names, a function as preprocess is not.
    """
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    kept = {name: getattr(explanation, name) for name in ("relevance", "target", "logits", "mask")}
    kept |= {f"settings.{name}": value for name, value in explanation.settings.items()}
    steps = explanation.preprocess
    tensors = {name: value for name, value in kept.items() if isinstance(value, Tensor)}
    about = {
        "method": explanation.method,
        "settings": {k: v for k, v in explanation.settings.items() if not isinstance(v, Tensor)},
        "dtypes": {name: str(t.dtype).removeprefix("torch.") for name, t in tensors.items()},
        "preprocess": asdict(steps) if isinstance(steps, Preprocess) else None,
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {
        name: as_values(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
        for name, tensor in tensors.items()
    }  # numpy knows no bfloat16
    np.savez_compressed(buffer, about=json.dumps(about, default=_name_of), **arrays)
    write_atomic(path, buffer.getvalue())
    return path


def load_explanation(path: str | PathLike[str]) -> Explanation:
    """An explanation that `Explanation.save` has written.

    Raises:
        ValueError: no such file, or another one.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            tensors = {
                name: torch.from_numpy(stored[name]).to(getattr(torch, kind))
                for name, kind in about["dtypes"].items()
            }
        given = {name: tensors.pop(name) for name in list(tensors) if name.startswith("settings.")}
        settings = {name.removeprefix("settings."): tensor for name, tensor in given.items()}
        settings = about["settings"] | settings
        steps = Preprocess(**about["preprocess"]) if about.get("preprocess") else None
        return Explanation(**tensors, method=about["method"], settings=settings, preprocess=steps)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; pass what Explanation.save returned") from None
    except Exception as error:
        raise InputError(
            f"{path} holds no explanation ({error}); pass a file that Explanation.save has written"
        ) from error


def _name_of(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else repr(value)


def _by_image(explanation: Explanation) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Maps (B, T, rows, cols) of the original's part, and targets (B, T)."""
    maps, targets = as_values(explanation.own.float()), as_values(explanation.target)
    return (maps, targets) if targets.ndim == 2 else (maps[:, None], targets[:, None])


def _shown(count: int) -> tuple[int, str]:
    shown = min(count, MAX_SHOWN)
    return shown, f", the first {shown} of {count} images" if shown < count else ""


def _pictures(pictures: Any, explanation: Explanation) -> list[Picture]:
    """What the model saw of each image.

    Raises:
        ValueError: another number of them; another shape; an original whose crop is not known.
    """
    single = isinstance(pictures, Image.Image) or getattr(pictures, "ndim", 4) == 3
    given = [pictures] if single else list(pictures)
    if len(given) != len(explanation):
        raise InputError(f"expected one picture per image, {len(explanation)}, got {len(given)}")
    return [_seen(each, explanation) for each in given]


def _seen(picture: Any, explanation: Explanation) -> Picture:
    steps = explanation.preprocess
    if isinstance(picture, Image.Image):
        if isinstance(steps, Preprocess):
            return as_picture(steps.seen(picture))
        if steps is None:
            raise InputError(
                "how this explanation's pictures were cropped is not known; pass what the model "
                "saw, as an array or tensor in [0, 1]: vit.preprocess.denormalize(images)"
            )
        return as_picture(pixels_of(steps, steps([picture])[0]))
    seen = as_picture(picture)
    (height, width), (rows, cols) = seen.shape[:2], explanation.own.shape[-2:]
    if explanation.mask is None and abs(height * cols / (width * rows) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"a map of {rows} x {cols} patches does not fit a picture of {height} x {width} "
            "pixels; pass what the model saw: vit.preprocess.denormalize(images)"
        )
    return seen


def _white(relevance: NDArray[Any]) -> Picture:
    rows, cols = relevance.shape
    return np.ones((rows * PATCH_PIXELS, cols * PATCH_PIXELS, 3), np.float32)


def _class(target: int, names: Sequence[str]) -> str:
    return short_name(names[target]) if len(names) else f"class {target}"


def _note(explanation: Explanation, image: int, target: int) -> str:
    logits = explanation.logits[image].float()
    share = logits.sigmoid() if "multi_label" in explanation.settings else logits.softmax(-1)
    logit, probability = float(logits[target]), float(share[target])
    return f"logit {logit:.2f}, p = {probability:.2f}"


def _thumbnail(relevance: NDArray[Any]) -> str:
    buffer = io.BytesIO()
    _as_pil(overlay(_white(relevance), relevance, weight=1)).save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode()


def _as_pil(pixels: Picture) -> Image.Image:
    return Image.fromarray(np.round(255 * pixels).astype(np.uint8))
