"""A case as the model sees it: its input, and on the patch grid where everything lies."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attnguide.config import GuideConfig
from attnguide.data.case import Case, Mask
from attnguide.data.guide_image import GuideImage
from attnguide.errors import InputError
from attnguide.guides import stitch
from attnguide.models.preprocess import Preprocess
from attnguide.types import ViT

log = logging.getLogger(__name__)
ALONE = "alone"


@dataclass(frozen=True)
class View:
    """One input of the model.

    Attributes:
        id: Of the case; a view with a guide adds how it was made.
        kind: "alone", or how the guide was put beside the picture.
        image: (3, H, W), normalised.
        targets: Class indices to explain.
        objects: Share of every patch, (rows, cols) in [0, 1], that each target's object covers;
            fewer than targets where no more is known, empty where nothing is.
        own: (rows, cols), 1 on the patches of the picture and 0 on the guide's; None without one.
        regions: What the objects are: "masks", "boxes", "halves", or "".
        note: What happened to the picture on the way; empty if nothing.
    """

    id: str
    kind: str
    image: Tensor
    targets: tuple[int, ...]
    objects: tuple[Tensor, ...] = ()
    own: Tensor | None = None
    regions: str = ""
    note: str = ""


def look(vit: ViT, case: Case) -> View:
    """The picture as the model's preprocessing makes it, its masks by the same geometry."""
    pre = cast(Preprocess, vit.preprocess)

    def see(picture: Image.Image) -> Tensor:
        return pre.normalize(picture) if case.as_is else pre([picture])[0]

    seen = [pre.denormalize(see(_as_picture(mask))).mean(0) > 0.5 for mask in case.masks or ()]
    return View(
        case.id,
        ALONE,
        see(case.picture),
        case.targets,
        tuple(coverage(mask, vit.grid) for mask in seen),
        regions=case.regions,
        note=_upscaled(vit, case),
    )


def look_beside(vit: ViT, case: Case, guide: GuideImage, settings: GuideConfig) -> View:
    """The whole picture, uncropped, with the guide stitched beside it; masks likewise.

    Raises:
        ValueError: as `stitch`; or a guide of a class that is to be explained.
    """
    if guide.label in case.targets:
        raise InputError(
            f"the guide {guide.name} shows the class that {case.id} is explained for; pass a "
            "guide.image of another class"
        )
    pre = cast(Preprocess, vit.preprocess)

    def beside(image: Tensor, guide_image: Tensor, fill: float) -> tuple[Tensor, Tensor]:
        stitched, own = stitch(
            [image],
            guide_image,
            settings.layout,
            settings.fraction,
            settings.fit,
            patch_size=vit.patch_size,
            size=vit.image_size,
            fill=fill,
        )
        return stitched[0], own

    image, own = beside(pre.normalize(case.picture), pre.normalize(guide.picture), settings.fill)
    layers = [torch.from_numpy(mask).float().expand(3, -1, -1) for mask in case.masks or ()]
    seen = [beside(layer, torch.zeros(3, 8, 8), 0.0)[0].mean(0) > 0.5 for layer in layers]
    kind = guided_kind(settings)
    return View(
        f"{case.id}@{kind}",
        kind,
        image,
        case.targets,
        tuple(coverage(mask, vit.grid) for mask in seen),
        own.float(),
        case.regions,
    )


def guided_kind(settings: GuideConfig) -> str:
    """What a view with such a guide is called: "right 0.5 squash"."""
    return f"{settings.layout} {settings.fraction:.3g} {settings.fit}"


def nearest_fraction(vit: ViT, layout: str, fraction: float) -> float:
    """The closest share of the canvas that ends on a patch border and leaves both parts some."""
    count = vit.grid[0] if layout in ("top", "bottom") else vit.grid[1]
    return min(max(round(fraction * count), 1), count - 1) / count


def coverage(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """(rows, cols) share of every patch that a pixel mask (H, W) covers."""
    (height, width), (rows, cols) = mask.shape, grid
    return mask.float().view(rows, height // rows, cols, width // cols).mean((1, 3))


def _as_picture(mask: Mask) -> Image.Image:
    return Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB")


def _upscaled(vit: ViT, case: Case) -> str:
    """Says so where the model's input is larger than the picture."""
    width, height = case.picture.size
    if height >= vit.image_size[0] and width >= vit.image_size[1]:
        return ""
    note = f"upscaled from {width} x {height} pixels"
    log.info("%s: %s", case.id, note)
    return note
