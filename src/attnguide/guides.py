"""Stitch a guide image beside a picture, so that attention has a class to move to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attnguide.errors import InputError, unknown_name

LAYOUTS = ("right", "left", "top", "bottom")
FITS = ("squash", "crop", "pad")
NO_LAYOUT = "none"
AUTO = "auto"


@dataclass(frozen=True)
class Guide:
    """How the guide image is stitched beside a picture.

    Attributes:
        layout: Where it goes: "right", "left", "top", "bottom"; "none" leaves pictures as they are.
        fraction: Share of the canvas that it takes, in [0, 1); it ends on a patch border.
        fit: How a picture fills its part: "squash" (aspect changes), "crop" (centre), "pad".
        image: Path of a picture, or a class; several, whose maps are averaged; "auto" for that of
            `candidates` whose picture speaks least for the label; None for the data's default.
        candidates: Of "auto": paths or classes.
        fill: Value around a padded picture, normalised; 0 is the mean of the training pictures.

    Raises:
        ValueError: a setting that does not exist.
    """

    layout: str = "right"
    fraction: float = 0.5
    fit: str = "squash"
    image: str | list[str] | None = None
    candidates: list[str] | None = None
    fill: float = 0.0

    def __post_init__(self) -> None:
        if self.layout != NO_LAYOUT:
            check_guide(self.layout, self.fraction, self.fit)
        if self.is_chosen and not self.candidates:
            raise InputError(
                "guide.image=auto chooses among candidates; pass guide.candidates=[CLASS,CLASS]"
            )
        if self.candidates and not self.is_chosen:
            raise InputError("guide.candidates are for guide.image=auto; leave them out")
        twice = [name for number, name in enumerate(self.images) if name in self.images[:number]]
        if twice or self.image == []:
            raise InputError(
                f"guide.image and guide.candidates take different classes, got "
                f"{f'{twice[0]} twice' if twice else 'none'}"
            )
        if not math.isfinite(self.fill):
            raise InputError(
                f"fill, the value around a padded picture, must be finite, got {self.fill}"
            )

    @property
    def is_shown(self) -> bool:
        """Whether there is a guide at all."""
        return self.layout != NO_LAYOUT

    @property
    def is_chosen(self) -> bool:
        """Whether every picture gets the best of the candidates."""
        return self.image == AUTO

    @property
    def images(self) -> list[str | None]:
        """Every picture that is asked for; None for the data's default."""
        asked = self.candidates if self.is_chosen else self.image
        return [*asked] if isinstance(asked, list) else [asked]


def no_guide() -> Guide:
    """Pictures as they are."""
    return Guide(layout=NO_LAYOUT)


def stitch(
    images: Tensor | Sequence[Tensor],
    guide: Tensor,
    layout: str = "right",
    fraction: float = 0.5,
    fit: str = "squash",
    *,
    patch_size: int | tuple[int, int] = 16,
    size: tuple[int, int] | None = None,
    fill: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Pictures and the guide side by side, and which patches are the pictures'.

    Geometry comes first: pass uncropped pictures (`vit.preprocess.normalize`), or the centre crop
    has already cut them.

    Args:
        images: (B, 3, H, W), or B tensors (3, h, w) of any sizes together with `size`.
        guide: (3, h, w), or (B, 3, h, w) for one guide per image, in the images' space.
        layout: Where the guide goes: "right", "left", "top", "bottom".
        fraction: Share of the canvas that the guide takes, in [0, 1); it ends on a patch border.
        fit: How a picture fills its part: "squash" (aspect changes), "crop" (centre), "pad".
        patch_size: Of the model, in pixels (`vit.patch_size`).
        size: (H, W) of the result in pixels; by default that of `images`.
        fill: Value around a padded picture, in the images' space.

    Returns:
        Stitched images (B, 3, H, W), and a bool mask (rows, cols), True on the original's patches.

    Raises:
        ValueError: unknown layout or fit; fraction outside [0, 1) or off the patch borders (the
            nearest valid one is named); sizes that do not fit.
    """
    check_guide(layout, fraction, fit)
    if size is None:
        if not isinstance(images, Tensor):
            raise InputError("pictures of different sizes need size=(height, width) of the result")
        size = (images.shape[-2], images.shape[-1])
    rows, cols = _grid(size, patch_size)
    along_rows = layout in ("top", "bottom")
    count = rows if along_rows else cols
    taken = _patches(fraction, count)
    edge = taken * (size[0] // rows if along_rows else size[1] // cols)
    guide_size = (edge, size[1]) if along_rows else (size[0], edge)
    own_size = (size[0] - edge, size[1]) if along_rows else (size[0], size[1] - edge)

    own = torch.stack([_fit(image, own_size, fit, fill) for image in images])
    mask = torch.ones(rows, cols, dtype=torch.bool, device=own.device)
    if taken == 0:
        return own, mask
    guides = guide if guide.ndim == 4 else guide.unsqueeze(0)
    if len(guides) not in (1, len(own)):
        raise InputError(f"expected one guide or one per image ({len(own)}), got {len(guides)}")
    beside = torch.stack([_fit(g.to(own), guide_size, fit, fill) for g in guides])
    beside = beside.expand(len(own), -1, -1, -1)
    dim = 0 if along_rows else 1
    first = layout in ("left", "top")
    mask.narrow(dim, 0 if first else count - taken, taken).fill_(False)
    return torch.cat([beside, own] if first else [own, beside], dim=dim + 2), mask


def check_guide(layout: str, fraction: float, fit: str) -> None:
    """Refuse a layout, fraction or fit that does not exist.

    Raises:
        ValueError: the first of them that is wrong.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, list(LAYOUTS))
    if fit not in FITS:
        raise unknown_name("fit", fit, list(FITS))
    if not 0 <= fraction < 1:
        hint = f"; pass {fraction / 100:g} for {fraction:g} %" if 1 < fraction < 100 else ""
        raise InputError(
            f"fraction, the guide's share of the canvas, must lie in [0, 1), got {fraction}{hint}"
        )


def _grid(size: tuple[int, int], patch_size: int | tuple[int, int]) -> tuple[int, int]:
    ph, pw = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    if size[0] % ph or size[1] % pw:
        raise InputError(
            f"the canvas {size} is not a whole number of {ph} x {pw} patches; pass the model's "
            "patch_size and input size"
        )
    return size[0] // ph, size[1] // pw


def _patches(fraction: float, count: int) -> int:
    taken = round(fraction * count)
    if abs(fraction * count - taken) > 0.01:
        raise InputError(
            f"fraction {fraction:g} cuts through a patch ({fraction * count:g} of {count}); the "
            f"nearest valid fraction is {taken / count:.4g} ({taken} of {count} patches)"
        )
    if taken == count:
        raise InputError(f"fraction {fraction:g} leaves nothing of the picture; pass less than 1")
    return taken


def _fit(image: Tensor, size: tuple[int, int], fit: str, fill: float) -> Tensor:
    """(3, *size) of one picture (3, h, w)."""
    (height, width), (h, w) = size, image.shape[-2:]
    if fit == "squash":
        return _resize(image, size)
    scales = (height / h, width / w)
    scale = max(scales) if fit == "crop" else min(scales)
    resized = _resize(image, (max(1, round(h * scale)), max(1, round(w * scale))))
    h, w = resized.shape[-2:]
    top, left = (height - h) // 2, (width - w) // 2
    pads = (left, width - w - left, top, height - h - top)  # negative ones crop
    return F.pad(resized, pads, value=fill)


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(
        image.unsqueeze(0), size, mode="bilinear", align_corners=False, antialias=True
    ).squeeze(0)
