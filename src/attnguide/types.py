"""The frozen records that every part of the library shares.

Letters: B images, L layers, H heads, N tokens (prefix tokens, then P patches), C classes,
S perturbation steps. Layer 0 is nearest the image.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attnguide.errors import InputError, InputTypeError, unknown_name

_NUMBER = re.compile(r"-?[0-9]{1,18}")

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ViT:
    """A vision transformer with everything that belongs to its weights.

    Attributes:
        module: timm-like `torch.nn.Module`, images (B, 3, H, W) to logits (B, C).
        preprocess: PIL images to a normalised Tensor (B, 3, H, W).
        class_names: one name per class.
        name: what records and messages call it.
        patch_size: (height, width) of a patch in pixels.
        image_size: (height, width) of the input in pixels.
        num_prefix: tokens before the patches (class, distillation, register tokens).
        readout: (N,) share of each token in the pooled feature that the head reads: one-hot for a
            class token, uniform over the patches for average pooling, half and half where the
            head reads both (DINOv2); None where the head pools in another way.
        wnids: WordNet id per class, empty where the classes are not ImageNet's.
        weights_sha256: checksum of the weights file; of weights from the hub or of the user's own
            network that of its state dict (`attnguide.models.checkpoint.state_digest`).
        multi_label: each logit has a sigmoid of its own, instead of one softmax over all.
    """

    module: Any
    preprocess: Callable[..., Tensor]
    class_names: tuple[str, ...]
    name: str
    patch_size: tuple[int, int]
    image_size: tuple[int, int]
    num_prefix: int
    readout: Tensor | None
    wnids: tuple[str, ...] = ()
    weights_sha256: str = ""
    multi_label: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Patches as (rows, cols)."""
        (height, width), (ph, pw) = self.image_size, self.patch_size
        return height // ph, width // pw

    @property
    def num_tokens(self) -> int:
        """N: prefix tokens and patches."""
        rows, cols = self.grid
        return self.num_prefix + rows * cols

    def logits(self, images: Tensor) -> Tensor:
        """(B, C): what the network returns, taken out by `logits_of`.

        Raises:
            ValueError: no logits of these classes in it.
        """
        logits = logits_of(self.module(images))
        count = len(self.class_names)
        if not isinstance(logits, Tensor) or logits.shape[1:] != (count,):
            what = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else ""
            raise InputError(
                f"{self.name} must return logits (B, {count}), alone, under 'logits' in a dict, or "
                "as the only tensor (B, C) in a tuple; it returned "
                f"{what or type(logits).__name__}"
            )
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., C) in [0, 1]: the softmax of logits, or the sigmoid of each."""
        return logits.sigmoid() if self.multi_label else logits.softmax(-1)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.module.parameters()).dtype

    @cached_property
    def _spellings(self) -> dict[str, list[int]]:
        """Classes by everything they are called, in lower case: names first, then synonyms."""
        synonyms = _places([name.split(",") for name in self.class_names])
        return synonyms | _places(zip(self.wnids)) | _places(zip(self.class_names))

    def class_index(self, name: str | int | Integral) -> int:
        """Index of a class given by name, wnid, one of its comma-separated synonyms, or index.

        A text is a name before it is a number: "2" is the class that is called so. Where no class
        is called by a number, the text of one is an index, as an integer always is.

        Raises:
            ValueError: no such class (the closest names are listed), or more than one.
            TypeError: neither a text nor an integer.
        """
        if isinstance(name, Integral) and not isinstance(name, bool):
            return self._checked_index(int(name))
        if not isinstance(name, str):
            raise InputTypeError(
                f"a class is a name or an index, got {type(name).__name__} {name!r}; "
                f"{self.name} knows {self.class_names[0]!r}, ..."
            )
        if self.class_names.count(name) == 1:
            return self.class_names.index(name)
        wanted = _spelled(name)
        hits = self._spellings.get(wanted, [])
        if len(hits) > 1:
            options = ", ".join(f"{index} ({self.class_names[index]})" for index in hits)
            raise InputError(f"class name {name!r} is ambiguous; pass one of the indices {options}")
        if hits:
            return hits[0]
        if _NUMBER.fullmatch(wanted) and not any(map(_NUMBER.fullmatch, self._spellings)):
            return self._checked_index(int(wanted))
        if self.class_names[0] in ("class 0", "LABEL_0"):  # what networks without names have
            raise InputError(
                f"unknown class {name!r}: {self.name} has no names of its classes; pass "
                "model.class_names=FILE (in Python class_names=), or a number"
            )
        raise unknown_name("class", name, list(self.class_names))

    def _checked_index(self, index: int) -> int:
        count = len(self.class_names)
        if not 0 <= index < count:
            raise InputError(
                f"class index must lie in [0, {count - 1}] for {self.name}, got {index}"
            )
        return index

    def to(self, device: str | torch.device) -> ViT:
        """Itself, after moving its network to another device.

        Raises:
            ValueError: no such device here.
        """
        try:
            self.module.to(torch.device(device))
        except (RuntimeError, AssertionError) as error:  # torch's words for an absent device
            reason = str(error).splitlines()[0][:150]
            raise InputError(
                f"cannot move {self.name} to {device!r}: {reason}; pass 'cpu', or 'cuda' where "
                "there is a GPU"
            ) from error
        return self

    def __repr__(self) -> str:
        """One line for people."""
        (height, width), (rows, cols), count = self.image_size, self.grid, len(self.class_names)
        return (
            f"ViT({self.name}: {count} classes, {height} x {width} pixels, {rows} x {cols} patches "
            f"and {self.num_prefix} prefix tokens, {str(self.dtype).removeprefix('torch.')} on "
            f"{self.device})"
        )


def logits_of(output: Any) -> Any:
    """The logits in what a network returns; `output` itself if there are none in it.

    They may stand in a dict or record under "logits", or be a tuple's only tensor (B, C).
    """
    if isinstance(output, Mapping):
        return output.get("logits", output)
    if isinstance(output, tuple | list):
        fits = [part for part in output if isinstance(part, Tensor) and part.ndim == 2]
        return fits[0] if len(fits) == 1 else output
    return getattr(output, "logits", output)


def _spelled(name: str) -> str:
    """In lower case, letters composed: macOS lists folders in decomposed ones."""
    return unicodedata.normalize("NFC", name.strip().lower())


def _places(classes: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    """Indices of classes by each of their names."""
    places: dict[str, list[int]] = {}
    for index, names in enumerate(classes):
        for name in set(map(_spelled, names)):
            places.setdefault(name, []).append(index)
    return places


@dataclass(frozen=True)
class Explanation:
    """Relevance of every patch for a target class.

    Attributes:
        relevance: (B, rows, cols), or (B, T, rows, cols) for T targets per image; signed, raw,
            never rescaled; dtype follows the model.
        target: (B,) or (B, T) int64.
        logits: (B, C).
        method: name of the method.
        settings: enough to compute it again.
        mask: (rows, cols) bool, True on the original's patches where a guide is beside it; None
            without a guide. What is drawn is the original's part alone.
        preprocess: what made the images of pictures, so that a map is drawn where the model
            looked; None where that is not known.
    """

    relevance: Tensor
    target: Tensor
    logits: Tensor
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    mask: Tensor | None = None
    preprocess: Any = None

    @property
    def prediction(self) -> Tensor:
        """(B,) int64, the class with the largest logit."""
        return self.logits.argmax(-1)

    @property
    def own(self) -> Tensor:
        """`relevance` on the original's patches alone: (B, rows, cols) or (B, T, rows, cols)."""
        if self.mask is None:
            return self.relevance
        rows, cols = (self.mask.any(dim).nonzero().flatten() for dim in (1, 0))
        return self.relevance[..., rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]

    def plot(self, pictures: Any = None, **look: Any) -> Figure:
        """A figure of the maps, over the pictures if given, or one map in `ax=`.

        `look`: class_names, grey, alpha, cmap, ax, as in `attnguide.notebook.explanations.plot`.
        """
        return load_notebook("explanations").plot(self, pictures, **look)

    def overlay(self, pictures: Any, **look: Any) -> list[Any]:
        """The maps over the pictures, as PIL pictures; `look`: of `explanations.overlays`."""
        return load_notebook("explanations").overlays(self, pictures, **look)

    def upsample(self, size: tuple[int, int] | None = None) -> Tensor:
        """The raw maps in pixels, bilinear: of `size`, by default 16 pixels per patch."""
        return load_notebook("explanations").upsample(self, size)

    def to_frame(self) -> pd.DataFrame:
        """A row per patch: image, target, row, col, relevance."""
        return load_notebook("explanations").to_frame(self)

    def __len__(self) -> int:
        """B, the number of images."""
        return len(self.relevance)

    def __getitem__(self, images: int | slice) -> Explanation:
        """The explanation of one image (a batch of one) or of some.

        Raises:
            IndexError: no such image.
        """
        if isinstance(images, int):
            images = range(len(self))[images]
            images = slice(images, images + 1)
        settings = dict(self.settings)
        if isinstance(settings.get("reference"), list):
            settings["reference"] = settings["reference"][images]
        own = {name: getattr(self, name)[images] for name in ("relevance", "target", "logits")}
        return replace(self, **own, settings=settings)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a `.npz` file, which `load_explanation` reads; returns its path."""
        return load_notebook("explanations").save(self, path)

    def __repr__(self) -> str:
        """One line for people."""
        return load_notebook("explanations").explanation_line(self)

    def _repr_html_(self) -> str:
        """The line with thumbnails, as notebooks show it."""
        return load_notebook("explanations").explanation_html(self)


def load_notebook(part: str) -> Any:
    """What draws and stores these records: loaded when asked for, so that they stay light."""
    return import_module(f"attnguide.notebook.{part}")
