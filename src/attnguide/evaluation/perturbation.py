"""Positive and negative perturbation: mask patches by relevance, watch what the model still knows.

The seven choices, fixed here and stated in every record:

1. Unit: patches. Each step starts again from the clean image.
2. Count: round(fraction x patches), rounded half up.
3. Order: "positive" fills the most relevant patch first, "negative" the least relevant first.
   Ties are broken by position: the patch with the lower index (row-major) goes first in both.
4. Fill: 0 in the model's normalised space by default; see `fills`.
5. The map is not computed again after filling.
6. Followed: the label's probability and logit, and whether top-1 equals the label.
7. Area: trapezoid over the fractions, divided by their range, in percent; see `metrics`.

From top to bottom: the curve, `perturb` and `perturb_many`, what they refuse, the masks of every
ranking, and the logits of masked images. What these are computed on is in `engines`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from attnguide.errors import InputError, InputTypeError, unknown_name
from attnguide.evaluation.engines import Engine, Masked, MaskedModel, Model, prepare
from attnguide.evaluation.fills import check_fill, filled, linear_filled, normalisation, seeds_of
from attnguide.evaluation.metrics import area_under_curve
from attnguide.inputs import Target, check_images, class_targets
from attnguide.tracing.tokens import check_free_tokens, kept_logits, layers
from attnguide.types import Explanation, ViT, load_notebook

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ORDERS = ("positive", "negative")
Relevance = Tensor | Explanation
Key = tuple[str, str]  # name of a map, order
Column = tuple[Key, int]  # of a ranking, how many of its patches are masked


@dataclass(frozen=True)
class PerturbationCurve:
    """What a model still knows while patches are filled.

    Attributes:
        fraction: (S,) share of the patches that are filled.
        correct: (B, S) bool, top-1 equals the label; of several labels, it is above 0.5.
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

    @overload
    def auc(self, quantity: str = ..., *, interval: Literal[False] = ...) -> float: ...

    @overload
    def auc(self, quantity: str = ..., *, interval: Literal[True]) -> Any: ...

    def auc(self, quantity: str = "accuracy", *, interval: bool = False) -> Any:
        """Mean over images of `auc_per_image`, in percent; an `Estimate` where `interval`."""
        if interval:
            return load_notebook("perturbations").auc_interval(self, quantity)
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

    def plot(self, quantity: str = "accuracy") -> Figure:
        """A figure of the curve with its 95 % band over images."""
        return load_notebook("perturbations").plot_curve(self, quantity)

    def __repr__(self) -> str:
        """One line for people."""
        return load_notebook("perturbations").curve_line(self)


def perturb(
    vit: Model,
    images: Tensor,
    relevance: Relevance,
    label: Target,
    *,
    order: str = "positive",
    fractions: Sequence[float] = FRACTIONS,
    fill: str | float = "zero",
    engine: Engine | MaskedModel | None = None,
    progress: bool = False,
) -> PerturbationCurve:
    """One relevance map per image, in one order; see `perturb_many` for several at once.

    Args:
        vit: A ViT, or any callable from images to logits (B, C). A module in training mode runs
            in evaluation mode inside.
        images: (B, 3, H, W), normalised.
        relevance: (B, rows, cols), or the `Explanation` that holds it; its grid is the grid of
            patches, for a ViT the model's own.
        label: Class that is followed, by index or (of a ViT) by name: one, or one per image.
        order: "positive" or "negative".
        fractions: Increasing shares of patches in [0, 1].
        fill: "zero", "black", "mean", "blur", "linear", "drop", or a number in normalised space.
        engine: What the masked images are computed on; see `engines.Engine`. One that is not
            torch's default is better prepared once (`engines.prepare`) than in every call.
        progress: Show a bar of the masked images.

    Raises:
        ValueError: unknown order, fill or class, fractions that do not increase or leave [0, 1],
            shapes that do not fit; images, a relevance or logits that are not finite.
        TypeError: images or a relevance that are not a Tensor of floating point numbers.
    """
    curves = perturb_many(
        vit,
        images,
        {"": relevance},
        label,
        orders=(order,),
        fractions=fractions,
        fill=fill,
        engine=engine,
        progress=progress,
    )
    return curves["", order]


def perturb_many(
    vit: Model,
    images: Tensor,
    relevances: Mapping[str, Relevance],
    label: Target,
    *,
    orders: Sequence[str] = ORDERS,
    fractions: Sequence[float] = FRACTIONS,
    fill: str | float = "zero",
    engine: Engine | MaskedModel | None = None,
    seeds: Sequence[int] | None = None,
    check_finite: bool = True,
    progress: bool = False,
) -> dict[tuple[str, str], PerturbationCurve]:
    """Curves of several relevance maps in several orders, as one stream of masked images.

    The masks of one ranking are nested, so they are distinct wherever their counts are. What every
    ranking has in common, the clean image and the wholly masked one, is evaluated once.

    Args:
        relevances: Name of the map to (B, rows, cols) or `Explanation`.
        orders: Of "positive", "negative".
        seeds: One per image, of the noise of fill="linear"; by default made from its pixels.
        check_finite: Refuse values that are not finite, labels that are no classes, and a network
            that does more than its parts say. To look at them waits for the device; a caller that
            fetches the curves from it later can look then.
        vit, images, label, fractions, fill, engine, progress: As in `perturb`.

    Returns:
        One curve per (name, order).
    """
    images = check_images(vit, images, finite=check_finite)
    maps = _maps(relevances, images.device, check_finite)
    labels = _labels(vit, label, len(images), check_finite).to(images.device, non_blocking=True)
    grid = _grid(vit, images, maps)
    check_fractions(fractions)
    check_fill(fill)
    counts = masked_counts(fractions, grid[0] * grid[1])
    if fill == "drop":
        _check_drop(vit, max(counts))

    rankings = {
        (name, order): rank_patches(relevance.flatten(1), order)
        for name, relevance in maps.items()
        for order in orders
    }
    columns = _columns(tuple(rankings), counts, grid[0] * grid[1])
    distinct = list(dict.fromkeys(chain(*columns.values())))
    model = prepare(vit, engine, images.device.type)
    model.choose(images)
    model.progress = progress
    with model.running():
        if check_finite:
            model.check(images)
        if fill == "drop":
            logits = _logits_of_kept(model, images, rankings, distinct)
        else:
            masked = _masked(model, images, grid, fill, seeds)
            ranks = {key: ranking.argsort(-1) for key, ranking in rankings.items()}
            logits = _logits(model, masked, distinct, [ranks[key] >= n for key, n in distinct])
    curves = {
        key: _curve(vit, torch.stack([logits[c] for c in own], 1), labels, fractions, key[1])
        for key, own in columns.items()
    }
    if check_finite:
        require_finite(torch.stack([curve.logit for curve in curves.values()]))
    return curves


def masked_counts(fractions: Sequence[float], patches: int) -> list[int]:
    """How many of the patches are masked at each fraction: rounded, halves upwards."""
    return [int(fraction * patches + 0.5) for fraction in fractions]


def _columns(
    keys: Sequence[tuple[str, str]], counts: Sequence[int], patches: int
) -> dict[tuple[str, str], list[tuple[tuple[str, str], int]]]:
    """By ranking, the masked images of its curve: whose mask, and of how many patches."""
    alike = (0, patches)  # of every ranking the same image, evaluated for the first
    return {key: [(keys[0] if n in alike else key, n) for n in counts] for key in keys}


def require_finite(logits: Tensor) -> None:
    """Refuse logits of masked images that are not finite.

    Raises:
        ValueError: they are not.
    """
    if not bool(torch.isfinite(logits).all()):
        raise InputError(
            "the model gave NaN or infinite logits for masked images; use precision='fp32' or "
            "float64"
        )


def rank_patches(relevance: Tensor, order: str) -> Tensor:
    """(..., P) indices of the patches, the first to be filled first; ties by position.

    Raises:
        ValueError: unknown order.
    """
    if order not in ORDERS:
        raise unknown_name("order", order, list(ORDERS))
    return relevance.argsort(dim=-1, descending=order == "positive", stable=True)


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse fractions that do not increase or leave [0, 1].

    Raises:
        ValueError: what came.
    """
    steps = list(fractions)
    if not steps or steps != sorted(set(steps)) or not (steps[0] >= 0 and steps[-1] <= 1):
        raise InputError(f"fractions must increase within [0, 1], got {steps}")


def _maps(
    relevances: Mapping[str, Relevance], device: torch.device, check_finite: bool
) -> dict[str, Tensor]:
    """Maps by name, on one device."""
    maps = {}
    for name, given in relevances.items():
        tensor = given.relevance if isinstance(given, Explanation) else given
        if not isinstance(tensor, Tensor):
            raise InputTypeError(
                f"relevance {name!r} must be a Tensor (B, rows, cols) or an Explanation, got "
                f"{type(tensor).__name__}"
            )
        maps[name] = tensor.detach().to(device, non_blocking=True)
        if check_finite and not bool(torch.isfinite(maps[name]).all()):
            raise InputError(
                f"relevance {name!r} contains NaN or infinite values, which have no order; compute "
                "it in float64"
            )
    return maps


def _labels(vit: Model, label: Target, batch: int, look: bool) -> Tensor:
    """(B,) int64; `look` at indices in a tensor, too, which waits for their device."""
    if isinstance(label, Tensor) and not label.is_floating_point():
        given: Tensor | None = label.long()
    elif isinstance(vit, ViT):
        given = class_targets(vit, label, batch)
    else:
        try:
            given = torch.as_tensor(label).long()
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"label must be class indices: only a ViT knows names, got {label!r}"
            ) from error
    if given is None or given.ndim > 1 or (given.ndim == 1 and len(given) != batch):
        got = label if given is None else tuple(given.shape)
        raise InputError(f"label must be one class or one per image ({batch},), got {got}")
    if look and isinstance(vit, ViT):
        count = len(vit.class_names)
        if not bool(((given >= 0) & (given < count)).all()):
            raise InputError(f"label must be a class from 0 to {count - 1}, got {given.tolist()}")
    return given.expand(batch)


def _grid(vit: Model, images: Tensor, maps: Mapping[str, Tensor]) -> tuple[int, int]:
    """The patches as (rows, cols), which all maps must have."""
    shapes = {tuple(relevance.shape) for relevance in maps.values()}
    if len(shapes) != 1:
        raise InputError(f"expected relevance maps of one shape, got {sorted(shapes)}")
    shape = next(iter(shapes))
    height, width = images.shape[-2:]
    if len(shape) != 3 or shape[0] != len(images) or height % shape[1] or width % shape[2]:
        raise InputError(
            f"relevance must be (B, rows, cols) with whole patches of the {tuple(images.shape)} "
            f"images, got {shape}"
        )
    if isinstance(vit, ViT) and shape[1:] != tuple(vit.grid):
        raise InputError(
            f"the patches of {vit.name} are {vit.grid[0]} x {vit.grid[1]}, the relevance is "
            f"{shape[1]} x {shape[2]}; pass (B, {vit.grid[0]}, {vit.grid[1]})"
        )
    return shape[1], shape[2]


def _check_drop(vit: Model, most: int) -> None:
    """Refuse fill="drop" of up to `most` patches where the model cannot do without tokens."""
    if not isinstance(vit, ViT):
        raise InputError(
            f"fill='drop' removes tokens of a ViT, got {type(vit).__name__}; make one with "
            "wrap_model, or use fill='zero'"
        )
    layers(vit)  # that there are blocks
    check_free_tokens("fill='drop'", vit, instead="fill='zero'")
    everything = most == vit.grid[0] * vit.grid[1]
    if everything and (vit.readout is None or bool(vit.readout[vit.num_prefix :].any())):
        raise InputError(
            f"fill='drop' at fraction 1 leaves nothing that the head of {vit.name} reads; end "
            "fractions below 1, or use fill='zero'"
        )


def _masked(
    model: MaskedModel,
    images: Tensor,
    grid: tuple[int, int],
    fill: str | float,
    seeds: Sequence[int] | None,
) -> Masked:
    """Logits (M, C) of images (M,) of the batch, of which patches keep (M, P) stay."""
    network, vit = model.network, model.vit
    weights = vit.dtype if isinstance(vit, ViT) else images.dtype
    preprocess = getattr(vit, "preprocess", None)
    if fill == "linear":  # depends on the mask: every masked image is imputed and embedded anew
        std = normalisation(preprocess, fill)[1]
        seed_of = list(seeds) if seeds is not None else seeds_of(images)

        def imputed(image: Tensor, keep: Tensor) -> Tensor:
            hidden = ~_in_pixels(keep, grid, images.shape[-2:])
            drawn = [seed_of[number] for number in image.tolist()]
            pictures = linear_filled(images[image], hidden, drawn, std)
            return network.leave(network.enter(pictures.to(weights)))

        return imputed

    # the image and its filled version are entered once, every mask chooses between the two
    clean = network.enter(images.to(weights))
    other = network.enter(filled(images, fill, preprocess, images.shape[-2] // grid[0]).to(weights))

    def replaced(image: Tensor, keep: Tensor) -> Tensor:
        if network.in_tokens:
            stays = F.pad(keep, (network.num_prefix, 0), value=True).unsqueeze(-1)
        else:
            stays = _in_pixels(keep, grid, images.shape[-2:]).unsqueeze(1)
        return network.leave(torch.where(stays, clean[image], other[image]))

    return replaced


def _logits_of_kept(
    model: MaskedModel, images: Tensor, rankings: Mapping[Key, Tensor], columns: Sequence[Column]
) -> dict[Column, Tensor]:
    """(B, C) logits for every column, whose masked patches leave the sequence.

    They leave after the position embedding. Masks of one count have sequences of one length and go
    through the model together.
    """
    network, vit = model.network, model.vit
    assert isinstance(vit, ViT)  # `_check_drop`
    table = network.enter(images.to(vit.dtype))

    def dropped(image: Tensor, kept: Tensor) -> Tensor:
        """(M, C) of the patches kept (M, K), in increasing order."""
        if network.in_tokens:
            first = torch.arange(network.num_prefix, device=kept.device).expand(len(kept), -1)
            index = torch.cat([first, kept + network.num_prefix], 1)
            return network.leave(table[image.unsqueeze(1), index])
        keep = kept.new_zeros(len(kept), vit.num_tokens - vit.num_prefix, dtype=torch.bool)
        keep.scatter_(1, kept, True)
        logits = [
            kept_logits(vit, table[number : number + 1], mask.unsqueeze(0), 1, lambda: None)
            for number, mask in zip(image.tolist(), keep, strict=True)
        ]
        return torch.cat(logits)

    logits: dict[Column, Tensor] = {}
    for count in dict.fromkeys(count for _, count in columns):
        alike = [column for column in columns if column[1] == count]
        kept = [rankings[key][:, count:].sort(-1).values for key, _ in alike]
        logits |= _logits(model, dropped, alike, kept)
    return logits


def _logits(
    model: MaskedModel, masked: Masked, columns: Sequence[Column], masks: Sequence[Tensor]
) -> dict[Column, Tensor]:
    """(B, C) logits for every column: all its masks (B, ...) of all images, image by image."""
    stacked = torch.stack(list(masks), 1)
    batch, count = stacked.shape[:2]
    image = torch.arange(batch, device=stacked.device).repeat_interleave(count)
    logits = model.logits(masked, image, stacked.flatten(0, 1)).view(batch, count, -1)
    return dict(zip(columns, logits.unbind(1), strict=True))


def _in_pixels(keep: Tensor, grid: tuple[int, int], size: tuple[int, ...]) -> Tensor:
    """(M, H, W) bool of a mask over patches (M, P)."""
    rows, cols = size[0] // grid[0], size[1] // grid[1]
    return keep.view(-1, *grid).repeat_interleave(rows, 1).repeat_interleave(cols, 2)


def _curve(
    vit: Any, logits: Tensor, labels: Tensor, fractions: Sequence[float], order: str
) -> PerturbationCurve:
    """Of logits (B, S, C); where classes exclude each other, the most probable is recognised."""
    logits = logits.clone()  # not an inference tensor, which cannot be differentiated with
    index = labels.view(-1, 1, 1).expand(-1, logits.shape[1], 1)
    prediction = logits.argmax(-1)
    share = vit.probabilities(logits) if isinstance(vit, ViT) else logits.softmax(-1)
    probability = share.gather(-1, index).squeeze(-1)
    several = isinstance(vit, ViT) and vit.multi_label
    return PerturbationCurve(
        fraction=torch.tensor(fractions, dtype=torch.float64),
        correct=probability > 0.5 if several else prediction == labels.unsqueeze(1),
        probability=probability,
        logit=logits.gather(-1, index).squeeze(-1),
        prediction=prediction,
        order=order,
    )
