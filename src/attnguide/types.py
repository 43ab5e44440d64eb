"""The frozen records that every part of the library shares.

Letters: B images, L layers, H heads, N tokens (prefix tokens, then P patches), C classes,
S perturbation steps. Layer 0 is nearest the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attnguide.errors import InputError, unknown_name


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
        weights_sha256: checksum of the weights file, empty where there is none.
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

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.module.parameters()).dtype

    def class_index(self, name: str | int) -> int:
        """Index of a class given by index, name, one of its comma-separated synonyms, or wnid.

        Raises:
            ValueError: no such class (the closest names are listed), or more than one.
        """
        count = len(self.class_names)
        if isinstance(name, int) or str(name).lstrip("-").isdigit():
            if not 0 <= int(name) < count:
                raise InputError(
                    f"class index must lie in [0, {count - 1}] for {self.name}, got {name}"
                )
            return int(name)
        wanted = name.strip().lower()
        if wanted in self.wnids:
            return self.wnids.index(wanted)
        spellings = [
            {full.lower(), *(part.strip().lower() for part in full.split(","))}
            for full in self.class_names
        ]
        hits = [index for index, names in enumerate(spellings) if wanted in names]
        if not hits:
            raise unknown_name("class", name, list(self.class_names))
        exact = [index for index in hits if self.class_names[index].lower() == wanted]
        if len(exact or hits) > 1:
            options = ", ".join(f"{index} ({self.class_names[index]})" for index in hits)
            raise InputError(f"class name {name!r} is ambiguous; pass one of the indices {options}")
        return (exact or hits)[0]


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
    """

    relevance: Tensor
    target: Tensor
    logits: Tensor
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prediction(self) -> Tensor:
        """(B,) int64, the class with the largest logit."""
        return self.logits.argmax(-1)


@dataclass(frozen=True)
class PerturbationCurve:
    """What a model still knows while patches are filled.

    Attributes:
        fraction: (S,) share of the patches that are filled.
        correct: (B, S) bool, top-1 equals the label.
        probability: (B, S) of the label, in [0, 1].
        logit: (B, S) of the label.
        prediction: (B, S) int64, top-1 class.
        order: "positive" (most relevant first) or "negative".
    """

    fraction: Tensor
    correct: Tensor
    probability: Tensor
    logit: Tensor
    prediction: Tensor
    order: str

    @property
    def higher_is_better(self) -> bool:
        """A faithful map keeps the class in negative order and loses it in positive order."""
        return self.order == "negative"

    def auc(self, quantity: str = "accuracy") -> float:
        """Mean over images of `auc_per_image`, in percent."""
        return float(self.auc_per_image(quantity).mean())

    def auc_per_image(self, quantity: str = "accuracy") -> Tensor:
        """(B,) area under the curve in percent: a constant curve has itself as AUC.

        Args:
            quantity: "accuracy" (`correct`) or "probability".

        Raises:
            ValueError: another quantity, or a single fraction.
        """
        values = {"accuracy": self.correct, "probability": self.probability}
        if quantity not in values:
            raise unknown_name("quantity", quantity, list(values))
        return 100 * area_under_curve(self.fraction, values[quantity])


def area_under_curve(fraction: Tensor, value: Tensor) -> Tensor:
    """(...,) trapezoid area of `value` (..., S) over `fraction` (S,), divided by its range.

    Raises:
        ValueError: fewer than two fractions, or fractions that do not increase.
    """
    if fraction.numel() < 2 or bool((fraction.diff() <= 0).any()):
        raise InputError(
            f"an area needs at least two increasing fractions, got {fraction.tolist()}"
        )
    fraction = fraction.double()
    return torch.trapezoid(value.double(), fraction, dim=-1) / (fraction[-1] - fraction[0])
