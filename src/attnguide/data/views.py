"""What the model sees: samples and pictures of a notebook, alone or with a guide beside them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.creatures.world import draw_guide
from attnguide.data.pictures import GuideImage, Sample, guide_from_file
from attnguide.errors import InputError, InputTypeError
from attnguide.guides import FITS, LAYOUTS, Guide, stitch
from attnguide.models.preprocess import steps_of
from attnguide.types import ViT

log = logging.getLogger(__name__)
ALONE = "alone"
COMPANY = ("itself", "grey", "black", "noise")  # what may stand beside a picture and is no guide
Images = Tensor | Image.Image | Sequence[Tensor] | Sequence[Image.Image]
GuidePicture = Tensor | Image.Image | str | PathLike[str]
GuidePictures = GuidePicture | Sequence[GuidePicture]


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
        others: (G - 1, 3, H, W), the same beside further guides, whose maps are averaged.
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
    others: Tensor | None = None


def images_of(views: Sequence[View]) -> Tensor:
    """(B, 3, H, W) to explain; (B, G, 3, H, W) if one of them stands beside several guides."""
    most = max(0 if view.others is None else len(view.others) for view in views)
    if not most:
        return torch.stack([view.image for view in views])
    further = [v.image.expand(most, -1, -1, -1) if v.others is None else v.others for v in views]
    return torch.stack([torch.cat([v.image[None], f]) for v, f in zip(views, further, strict=True)])


def to_view(vit: ViT, sample: Sample) -> View:
    """The picture as the model's preprocessing makes it, its masks by the same geometry."""

    def see(picture: Image.Image) -> Tensor:
        return steps_of(vit).normalize(picture) if sample.as_is else vit.preprocess([picture])[0]

    # True is white, False black
    masks = [see(Image.fromarray(mask).convert("RGB")) for mask in sample.masks or ()]
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


def to_guided_view(
    vit: ViT, sample: Sample, guide_pictures: GuideImage | Sequence[GuideImage], guide: Guide
) -> View:
    """The whole picture, uncropped, with the guide picture stitched beside it; masks likewise.

    Without a guide (`no_guide`), the picture as it is. Beside several, the view shows the first.

    Raises:
        ValueError: as `stitch`; or a guide picture of a class that is to be explained.
    """
    if not guide.is_shown:
        return to_view(vit, sample)
    pictures = [guide_pictures] if isinstance(guide_pictures, GuideImage) else guide_pictures
    for each in pictures:
        if each.label in sample.targets:
            raise InputError(
                f"the guide {each.name} shows the class that {sample.id} is explained for; pass a "
                "guide.image of another class"
            )
    pre = steps_of(vit)

    pixels, others = pre.normalize(sample.picture), [pre.normalize(g.picture) for g in pictures]
    image, own = _stitch(vit, [pixels], others[0], guide)
    further = [_stitch(vit, [pixels], other, guide)[0] for other in others[1:]]
    layers = [torch.from_numpy(mask).float().expand(3, -1, -1) for mask in sample.masks or ()]
    black = replace(guide, fill=0.0)
    seen = [_stitch(vit, [layer], torch.zeros(3, 8, 8), black)[0][0] for layer in layers]
    kind = guided_kind(guide)
    return View(
        f"{sample.id}@{kind}",
        kind,
        image[0],
        sample.targets,
        tuple(coverage(layer.mean(0) > 0.5, vit.grid) for layer in seen),
        own.float(),
        sample.regions,
        others=torch.cat(further) if further else None,
    )


def beside_company(vit: ViT, sample: Sample, guide: Guide, seed: int) -> list[View]:
    """The sample beside what shows no other class; `kind` is one of `COMPANY`.

    Itself; grey, the mean of the model's training pictures; black; and Gaussian noise of their mean
    and standard deviation, pixel by pixel.

    Args:
        vit: The model.
        sample: The picture.
        guide: How company is put beside it.
        seed: Of the noise.
    """
    twice = to_guided_view(vit, sample, GuideImage(sample.picture, None, "itself"), guide)
    assert twice.own is not None
    own = F.interpolate(twice.own[None, None], vit.image_size)[0] > 0
    noise = torch.randn(twice.image.shape, generator=torch.Generator().manual_seed(seed))
    black = steps_of(vit).normalize(Image.new("RGB", (1, 1)))
    beside = dict(zip(COMPANY, (twice.image, 0 * noise, black, noise), strict=True))
    return [
        replace(
            twice, id=f"{sample.id}@{name}", kind=name, image=torch.where(own, twice.image, pixels)
        )
        for name, pixels in beside.items()
    ]


@dataclass(frozen=True)
class GuidedBatch:
    """Pictures of a notebook with a guide beside them.

    Attributes:
        images: (B, 3, H, W), normalised, the guide in its part; (B, G, 3, H, W) beside several.
        alone: (B, 3, H, W), the pictures as the model sees them without it.
        mask: (rows, cols) bool, True on the pictures' patches.
        labels: Class of each guide, None where it is not known.
        settings: What is recorded.
        preprocess: Shows what the model saw of the pictures: all of them, squashed into their part,
            or what the tensors kept.
    """

    images: Tensor
    alone: Tensor
    mask: Tensor
    labels: tuple[int | None, ...]
    settings: dict[str, Any]
    preprocess: Any

    def check(self, vit: ViT, targets: Tensor | None) -> None:
        """Refuse to explain the guide's own class beside it.

        Raises:
            ValueError: a target is the guide's class.
        """
        explained = [] if targets is None else targets.flatten().tolist()
        for label in self.labels:
            if label is not None and label in explained:
                raise InputError(
                    f"the guide shows {vit.class_names[label]!r}, a class that is to be "
                    "explained; pass a guide of another class, or another target"
                )


def guide_batch(
    vit: ViT, images: Images, guide: GuidePictures, layout: str = "right", fraction: float = 0.5
) -> GuidedBatch:
    """Stitch a guide beside every picture; geometry comes first.

    Args:
        vit: The model.
        images: Uncropped PIL pictures of any size, one or several; or normalised tensors
            (B, 3, H, W), or a list of (3, h, w): of what a centre crop has cut away, nothing comes
            back.
        guide: A PIL picture; the path of one; a class whose picture the embedded world draws; or a
            normalised tensor (3, h, w) or (B, 3, h, w); or a list of such.
        layout, fraction: As in `stitch`.

    Raises:
        ValueError, TypeError: as `stitch`; a guide that is none; a preprocessing of the user's own,
            which cannot be asked for pictures without crop.
    """
    listed = [images] if isinstance(images, Image.Image) else images
    if isinstance(listed, Tensor) and listed.ndim == 3:
        listed = listed.unsqueeze(0)
    if not len(listed):
        raise InputError("expected at least one picture, got none")
    whole = [_uncropped(vit, each, "images") for each in listed]
    guides: list[Any] = list(guide) if isinstance(guide, list | tuple) else [guide]
    found = [_normalised_guide(vit, one) for one in guides]
    others, labels, names = zip(*found, strict=True)
    check_different(labels, names)
    each = [_stitch(vit, whole, other, Guide(layout, fraction)) for other in others]
    stitched, mask = each[0]
    if len(each) > 1:
        stitched = torch.stack([images for images, _ in each], 1)
    if isinstance(listed, Tensor) or isinstance(listed[0], Tensor):
        alone = _stitch(vit, whole, others[0], Guide(layout, 0.0))[0]
        seen = vit.preprocess
    else:
        alone = vit.preprocess(listed)
        seen = replace(steps_of(vit), crop_pct=1.0, crop_mode="squash")
    settings = {"guide": ", ".join(names), "layout": layout, "fraction": fraction}
    return GuidedBatch(stitched, alone, mask, labels, settings, seen)


def check_different(labels: Sequence[int | None], names: Sequence[str]) -> None:
    """Refuse two guides of one class: their mean would count it twice.

    Raises:
        ValueError: naming both.
    """
    first: dict[int, str] = {}
    for label, name in zip(labels, names, strict=True):
        if label is None:
            continue
        if label in first:
            raise InputError(
                f"two guides show one class, {first[label]} and {name}; pass different classes"
            )
        first[label] = name


def _stitch(
    vit: ViT, images: Sequence[Tensor], other: Tensor, guide: Guide
) -> tuple[Tensor, Tensor]:
    """As `stitch`, to the model's input."""
    return stitch(
        images,
        other,
        guide.layout,
        guide.fraction,
        guide.fit,
        patch_size=vit.patch_size,
        size=vit.image_size,
        fill=guide.fill,
    )


def _normalised_guide(vit: ViT, guide: GuidePicture) -> tuple[Tensor, int | None, str]:
    """Normalised tensor, class where known, and what records call it."""
    if isinstance(guide, Tensor):
        many = guide if guide.ndim == 4 else guide.unsqueeze(0)
        return torch.stack([_uncropped(vit, each, "guide") for each in many]), None, "tensor"
    if isinstance(guide, Image.Image):
        return _uncropped(vit, guide, "guide"), None, "picture"
    if not isinstance(guide, str | PathLike):
        raise InputTypeError(
            "guide must be a PIL picture, the path of one, a class name or a normalised tensor, "
            f"got {type(guide).__name__}"
        )
    name = fspath(guide)
    found = guide_from_file(vit, name)
    if found is None and vit.class_names == CLASS_NAMES and Path(name).suffix == "":
        found = draw_guide(vit, name)
    if found is None:
        raise InputError(
            f"guide {name!r} is no file; pass a PIL picture or the path of one, of another class "
            "than what is explained (a class name works with the embedded model only, whose "
            "creatures are drawn)"
        )
    return _uncropped(vit, found.picture, "guide"), found.label, found.name


def _uncropped(vit: ViT, picture: Any, what: str) -> Tensor:
    """(3, h, w), normalised, uncropped."""
    if isinstance(picture, Image.Image):
        return steps_of(vit).normalize(picture)
    if not isinstance(picture, Tensor):
        raise InputTypeError(
            f"{what} beside a guide must be uncropped PIL pictures or normalised tensors "
            f"(3, h, w), got {type(picture).__name__}"
        )
    if picture.ndim != 3 or len(picture) != 3 or not picture.is_floating_point():
        raise InputError(
            f"{what} as tensors must be normalised floating point numbers (3, h, w), got "
            f"{tuple(picture.shape)} of {picture.dtype}"
        )
    return picture


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


def _upscaled(vit: ViT, sample: Sample) -> str:
    """Says so where the model's input is larger than the picture."""
    width, height = sample.picture.size
    if height >= vit.image_size[0] and width >= vit.image_size[1]:
        return ""
    note = f"upscaled from {width} x {height} pixels"
    log.info("%s: %s", sample.id, note)
    return note
