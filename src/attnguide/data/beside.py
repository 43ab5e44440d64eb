"""Pictures of a notebook with a guide beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from attnguide.data.guide_image import GuideImage, guide_from_file
from attnguide.errors import InputError, InputTypeError
from attnguide.guides import stitch
from attnguide.models.preprocess import steps_of
from attnguide.types import ViT

Pictures = Tensor | Image.Image | Sequence[Tensor] | Sequence[Image.Image]
Guide = Tensor | Image.Image | str | PathLike[str]


@dataclass(frozen=True)
class Beside:
    """Pictures with a guide beside them.

    Attributes:
        images: (B, 3, H, W), normalised, the guide in its part.
        alone: (B, 3, H, W), the pictures as the model sees them without it.
        mask: (rows, cols) bool, True on the pictures' patches.
        label: The guide's class, None where it is not known.
        settings: What is recorded.
    """

    images: Tensor
    alone: Tensor
    mask: Tensor
    label: int | None
    settings: dict[str, Any]

    def check(self, vit: ViT, targets: Tensor | None) -> None:
        """Refuse to explain the guide's own class beside it.

        Raises:
            ValueError: a target is the guide's class.
        """
        if self.label is not None and targets is not None and bool((targets == self.label).any()):
            raise InputError(
                f"the guide shows {vit.class_names[self.label]!r}, a class that is to be "
                "explained; pass a guide of another class, or another target"
            )


def put_beside(
    vit: ViT, images: Pictures, guide: Guide, layout: str = "right", fraction: float = 0.5
) -> Beside:
    """Stitch a guide beside every picture; geometry comes first.

    Args:
        vit: The model.
        images: Uncropped PIL pictures of any size, one or several; or normalised tensors
            (B, 3, H, W), or a list of (3, h, w): of what a centre crop has cut away, nothing comes
            back.
        guide: A PIL picture; the path of one; a class whose picture the embedded world draws; or a
            normalised tensor (3, h, w) or (B, 3, h, w).
        layout, fraction: As in `stitch`.

    Raises:
        ValueError, TypeError: as `stitch`; a guide that is none; a preprocessing of the user's own,
            which cannot be asked for pictures without crop.
    """
    size = {"patch_size": vit.patch_size, "size": vit.image_size}
    listed = [images] if isinstance(images, Image.Image) else images
    if isinstance(listed, Tensor) and listed.ndim == 3:
        listed = listed.unsqueeze(0)
    if not len(listed):
        raise InputError("expected at least one picture, got none")
    whole = [_tensor(vit, each, "images") for each in listed]
    other, label, name = _guide(vit, guide)
    stitched, mask = stitch(whole, other, layout, fraction, **size)  # type: ignore[arg-type]
    if isinstance(listed, Tensor) or isinstance(listed[0], Tensor):
        alone = stitch(whole, other, layout, 0.0, **size)[0]  # type: ignore[arg-type]
    else:
        alone = vit.preprocess(listed)
    settings = {"guide": name, "layout": layout, "fraction": fraction}
    return Beside(stitched, alone, mask, label, settings)


def _guide(vit: ViT, guide: Guide) -> tuple[Tensor, int | None, str]:
    """Normalised tensor, class where known, and what records call it."""
    if isinstance(guide, Tensor):
        many = guide if guide.ndim == 4 else guide.unsqueeze(0)
        checked = torch.stack([_tensor(vit, each, "guide") for each in many])
        return checked, None, "tensor"
    if isinstance(guide, Image.Image):
        return _tensor(vit, guide, "guide"), None, "picture"
    if not isinstance(guide, str | PathLike):
        raise InputTypeError(
            "guide must be a PIL picture, the path of one, a class name or a normalised tensor, "
            f"got {type(guide).__name__}"
        )
    found = guide_from_file(vit, fspath(guide)) or _drawn(vit, fspath(guide))
    return _tensor(vit, found.picture, "guide"), found.label, found.name


def _drawn(vit: ViT, name: str) -> GuideImage:
    from attnguide.data.creatures.scenes import CLASS_NAMES
    from attnguide.data.creatures.world import draw_guide

    if vit.class_names == CLASS_NAMES and Path(name).suffix == "":
        return draw_guide(vit, name)
    raise InputError(
        f"guide {name!r} is no file; pass a PIL picture or the path of one, of another class than "
        "what is explained (a class name serves the embedded model alone, whose creatures are "
        "drawn)"
    )


def _tensor(vit: ViT, picture: Any, what: str) -> Tensor:
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
