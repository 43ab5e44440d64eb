"""A sample as the model sees it: its input, and where everything lies on the patch grid."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attnguide.data.guide_image import GuideImage
from attnguide.data.pictures import Mask, Sample
from attnguide.errors import InputError
from attnguide.guides import FITS, LAYOUTS, Guide, stitch
from attnguide.models.preprocess import Preprocess, steps_of
from attnguide.types import ViT

log = logging.getLogger(__name__)
ALONE = "alone"


@dataclass(frozen=True)
class View:
    """One input of the model.

    Attributes:
        id: Of the sample; a view with a guide adds how it was made.
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


def to_view(vit: ViT, sample: Sample) -> View:
    """The picture as the model's preprocessing makes it, its masks by the same geometry."""

    def see(picture: Image.Image) -> Tensor:
        return steps_of(vit).normalize(picture) if sample.as_is else vit.preprocess([picture])[0]

    masks = [see(_as_picture(mask)) for mask in sample.masks or ()]
    seen = [steps_of(vit).denormalize(mask).mean(0) > 0.5 for mask in masks]
    return View(
        sample.id,
        ALONE,
        see(sample.picture),
        sample.targets,
        tuple(coverage(mask, vit.grid) for mask in seen),
        regions=sample.regions,
        note=_upscaled(vit, sample),
    )


def to_guided_view(vit: ViT, sample: Sample, guide_picture: GuideImage, guide: Guide) -> View:
    """The whole picture, uncropped, with the guide picture stitched beside it; masks likewise.

    Without a guide (`no_guide`), the picture as it is.

    Raises:
        ValueError: as `stitch`; or a guide picture of a class that is to be explained.
    """
    if not guide.is_shown:
        return to_view(vit, sample)
    if guide_picture.label in sample.targets:
        raise InputError(
            f"the guide {guide_picture.name} shows the class that {sample.id} is explained for; "
            "pass a guide.image of another class"
        )
    pre = steps_of(vit)

    def beside(image: Tensor, other: Tensor, fill: float) -> tuple[Tensor, Tensor]:
        stitched, own = stitch(
            [image],
            other,
            guide.layout,
            guide.fraction,
            guide.fit,
            patch_size=vit.patch_size,
            size=vit.image_size,
            fill=fill,
        )
        return stitched[0], own

    pixels, other = pre.normalize(sample.picture), pre.normalize(guide_picture.picture)
    image, own = beside(pixels, other, guide.fill)
    layers = [torch.from_numpy(mask).float().expand(3, -1, -1) for mask in sample.masks or ()]
    seen = [beside(layer, torch.zeros(3, 8, 8), 0.0)[0].mean(0) > 0.5 for layer in layers]
    kind = guided_kind(guide)
    return View(
        f"{sample.id}@{kind}",
        kind,
        image,
        sample.targets,
        tuple(coverage(mask, vit.grid) for mask in seen),
        own.float(),
        sample.regions,
    )


def guided_kind(guide: Guide) -> str:
    """What a view with such a guide is called: "right 0.5 squash"."""
    return f"{guide.layout} {guide.fraction:.3g} {guide.fit}"


def nearest_fraction(vit: ViT, layout: str, fraction: float) -> float:
    """The closest share of the canvas that ends on a patch border and leaves both parts some."""
    count = vit.grid[0] if layout in ("top", "bottom") else vit.grid[1]
    return min(max(round(fraction * count), 1), count - 1) / count


def ways_of(vit: ViT, guide: Guide, fractions: Sequence[float]) -> list[Guide]:
    """Ways to put a guide: as it is, then with every other layout, fraction and fit.

    Args:
        vit: Gives the patch borders that fractions are moved to.
        guide: As configured.
        fractions: The guide's shares of the canvas.
    """
    ways = [guide, *(replace(guide, layout=layout) for layout in LAYOUTS)]
    ways += [
        replace(guide, fraction=nearest_fraction(vit, guide.layout, fraction))
        for fraction in fractions
    ]
    ways += [replace(guide, fit=fit) for fit in FITS]
    return list({guided_kind(way): way for way in ways}.values())


def coverage(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """(rows, cols) share of every patch that a pixel mask (H, W) covers."""
    (height, width), (rows, cols) = mask.shape, grid
    return mask.float().view(rows, height // rows, cols, width // cols).mean((1, 3))


def _as_picture(mask: Mask) -> Image.Image:
    return Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB")


def _upscaled(vit: ViT, sample: Sample) -> str:
    """Says so where the model's input is larger than the picture."""
    width, height = sample.picture.size
    if height >= vit.image_size[0] and width >= vit.image_size[1]:
        return ""
    note = f"upscaled from {width} x {height} pixels"
    log.info("%s: %s", sample.id, note)
    return note


def pixels_of(vit: ViT, images: Tensor) -> Tensor:
    """(..., 3, H, W) in [0, 1] for display; of an unknown normalisation, each image's own range."""
    if isinstance(vit.preprocess, Preprocess):
        return vit.preprocess.denormalize(images)
    low, high = images.amin((-3, -2, -1), keepdim=True), images.amax((-3, -2, -1), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-12)
