"""Explain a model's answers: the notebook's door to every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from attnguide.data.views import GuidedBatch, GuidePictures, guide_batch
from attnguide.errors import InputError, InputTypeError
from attnguide.inputs import Target as Target
from attnguide.inputs import check_images, check_reference, class_targets, no_vit
from attnguide.losses import ONE_CLASS, TWO_CLASS, Loss, get_loss, loss_name
from attnguide.methods import Method, Request, request
from attnguide.tracing.trace import AttentionTrace
from attnguide.types import Explanation, ViT

LAYOUT, FRACTION = "right", 0.5  # of a guide
CPU_CHUNK = 4  # images per pass: more leave the cache, and hold more memory


def explain(
    vit: ViT,
    images: Tensor,
    target: Target = "predicted",
    *,
    method: str | Method = "complete",
    loss: str | Loss = "logit",
    reference: Target = None,
    guide: GuidePictures | None = None,
    layout: str = LAYOUT,
    fraction: float = FRACTION,
    progress: bool = False,
    **settings: Any,
) -> Explanation:
    """Relevance of every patch for a class.

    Args:
        vit: From `load_model` or `wrap_model`.
        images: (B, 3, H, W), from `vit.preprocess`; (B, G, 3, H, W), of the same pictures in G ways
            (such as beside G guides), give the mean of G maps. Beside a guide also PIL pictures,
            and these are right: the guide takes its part of the canvas from the whole picture, of
            which a centre crop would have cut something away already.
        target: Class index or name for all images, one per image, or (B, T) for T targets per image
            that share the forward pass, as list, Tensor or array; rows of zeros with a single one;
            another `Explanation`, for its targets; "predicted" or None for the model's own answer
            (to the picture alone, where there is a guide).
        method: A name of `list_methods()`, a callable (trace, **settings) -> (B, rows, cols), or a
            `functools.partial` of one, whose keywords are its settings.
        loss: What is differentiated: "logit", "log_probability", a two-class loss
            ("relative_contrast", "difference", "ratio"), or a callable (logits, target, reference)
            -> (B,).
        reference: Second class of a two-class loss, one per image or one for all.
        guide: Picture of another class, stitched beside every image so that attention has a class
            to move to: a PIL picture, its path, a normalised tensor, or a class name of the
            embedded model; or a list of different ones, whose maps are averaged. The explanation
            then has a `mask`, True on the original's patches.
        layout: Where the guide goes: "right", "left", "top", "bottom".
        fraction: Share of the canvas that the guide takes; it ends on a patch border.
        progress: Show a bar.
        **settings: Of the method.

    Raises:
        ValueError: unknown method, loss, class or setting; images that do not fit the model; a
            two-class loss without reference class, or with the target as reference; a guide of the
            class that is explained; a network through which no gradient flows.
        TypeError: images that are no Tensor of floating point numbers.
    """
    many = explain_many(
        vit,
        images,
        target,
        methods=[(method, settings)],
        loss=loss,
        reference=reference,
        guide=guide,
        layout=layout,
        fraction=fraction,
        progress=progress,
    )
    return next(iter(many.values()))


def explain_many(
    vit: ViT,
    images: Tensor,
    target: Target = "predicted",
    *,
    methods: Sequence[Any] | Mapping[str, Any] = ("complete", "gae"),
    loss: str | Loss = "logit",
    reference: Target = None,
    guide: GuidePictures | None = None,
    layout: str = LAYOUT,
    fraction: float = FRACTION,
    progress: bool = False,
) -> dict[str, Explanation]:
    """Several methods on one forward pass and one backward pass per target.

    Args:
        vit, images, target, loss, reference, guide, layout, fraction, progress: As in `explain`.
        methods: Names, callables, partials, or pairs (method, settings); or a mapping of names to
            settings; or of labels of one's own to methods or such pairs, which allows the same
            method several times.

    Returns:
        One `Explanation` per method, in the given order, under its name or label.

    Raises:
        ValueError, TypeError: as in `explain`, before the first forward pass where possible.
    """
    if not isinstance(vit, ViT):
        raise InputTypeError(no_vit(vit))
    if guide is None and (layout, fraction) != (LAYOUT, FRACTION):
        raise InputError(
            "layout and fraction are of a guide; pass guide=PICTURE, or leave them out"
        )
    requests = _requests(methods)
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode
        if guide is None:
            return _explain_all(vit, images, target, requests, loss, reference, progress)
        beside = guide_batch(vit, images, guide, layout, fraction)
        target = _beside_guide(vit, target, beside)
        many = _explain_all(vit, beside.images, target, requests, loss, reference, progress)
    return {
        label: replace(
            each,
            mask=beside.mask,
            settings={**each.settings, **beside.settings},
            preprocess=beside.preprocess,
        )
        for label, each in many.items()
    }


def _beside_guide(vit: ViT, target: Target, beside: GuidedBatch) -> Tensor:
    """The classes to explain, known before the guide is there."""
    targets = class_targets(vit, target, len(beside.images))
    if targets is None:
        with torch.no_grad():
            targets = vit.logits(check_images(vit, beside.alone)).argmax(-1).cpu()
    beside.check(vit, targets)
    return targets


def _explain_all(vit: ViT, images: Tensor, target: Target, *rest: Any) -> dict[str, Explanation]:
    """As `_explain_many`; (B, G, 3, H, W) beside G guides give the mean of G maps.

    All of them are explained for the classes of the first, whose logits are kept.
    """
    if not isinstance(images, Tensor) or images.ndim != 5:
        return _explain_many(vit, images, target, *rest)
    first, *others = images.unbind(1)
    found = [_explain_many(vit, first, target, *rest)]
    found += [_explain_many(vit, other, next(iter(found[0].values())), *rest) for other in others]
    return {
        label: replace(kept, relevance=torch.stack([f[label].relevance for f in found]).mean(0))
        for label, kept in found[0].items()
    }


def _explain_many(
    vit: ViT,
    images: Tensor,
    target: Target,
    requests: Mapping[str, Request],
    loss: str | Loss,
    reference: Target,
    progress: bool,
) -> dict[str, Explanation]:
    images, loss = check_images(vit, images), get_loss(loss)
    targets, references = _classes(vit, len(images), target, loss, reference)
    size = CPU_CHUNK if images.device.type == "cpu" else len(images)
    parts = []
    with tqdm(total=len(images), desc="explain", unit="image", disable=not progress) as bar:
        for rows in torch.arange(len(images), device=images.device).split(size):
            trace = AttentionTrace(vit, images[rows], rows, loss=loss)
            if reference is not None:
                trace.reference = _of_chunk(references, rows, trace)
            parts.append(_explain_chunk(vit, trace, _of_chunk(targets, rows, trace), requests))
            bar.update(len(rows))
    logits, target_parts, reference_parts, map_parts = zip(*parts, strict=True)
    extra = {
        "loss": _as_value(loss),
        "reference": None if reference is None else torch.cat(reference_parts).tolist(),
    } | ({"multi_label": True} if vit.multi_label else {})
    return {
        label: Explanation(
            relevance=torch.cat([maps[label] for maps in map_parts]),
            target=torch.cat(target_parts),
            logits=torch.cat(logits),
            method=chosen.name,
            settings=extra | {key: _as_value(value) for key, value in chosen.settings.items()},
            preprocess=vit.preprocess,
        )
        for label, chosen in requests.items()
    }


def _explain_chunk(
    vit: ViT, trace: AttentionTrace, targets: Tensor, requests: Mapping[str, Request]
) -> tuple[Tensor, Tensor, Tensor | None, dict[str, Tensor]]:
    """Logits (B, C), targets (B,) or (B, T), references (B,), and each method's map for them."""
    if trace.reference is not None and loss_name(trace.loss) not in ONE_CLASS:
        check_reference(trace.reference, targets)
    columns = targets.unsqueeze(1) if targets.ndim == 1 else targets
    maps: dict[str, list[Tensor]] = {label: [] for label in requests}
    for number, column in enumerate(columns.unbind(1), 1):
        target_trace = trace.for_target(column)
        target_trace.keep_graph = number < columns.shape[1]
        for label, chosen in requests.items():
            relevance = chosen.explain(target_trace, **chosen.settings)
            maps[label].append(_checked(chosen.name, vit, relevance, len(columns)))
    joined = {
        label: parts[0] if targets.ndim == 1 else torch.stack(parts, 1)
        for label, parts in maps.items()
    }
    return trace.logits, targets, trace.reference, joined


def _requests(methods: Sequence[Any] | Mapping[str, Any]) -> dict[str, Request]:
    """Methods with all their settings, by the keys under which they are returned."""
    if isinstance(methods, str) or callable(methods):
        methods = [methods]
    if not methods:
        raise InputError("no method given; pass at least one name of list_methods()")
    if isinstance(methods, Mapping):
        return {
            label: request(*value) if isinstance(value, tuple)
            else request(value) if isinstance(value, str) or callable(value)
            else request(label, value)
            for label, value in methods.items()
        }  # fmt: skip
    requests: dict[str, Request] = {}
    for entry in methods:
        found = request(*entry) if isinstance(entry, tuple) else request(entry)
        if requests.setdefault(found.name, found) != found:
            raise InputError(
                f"two methods called {found.name!r} are asked for; give them labels: "
                f"methods={{'first': ({found.name!r}, {{...}}), 'second': (...)}}"
            )
    return requests


def _classes(
    vit: ViT, batch: int, target: Target, loss: Loss, reference: Target
) -> tuple[Tensor | None, Tensor | None]:
    """Targets (B,) or (B, T) and references (B,), as far as they are known without the model."""
    if reference is None and loss in map(get_loss, TWO_CLASS):
        name = _as_value(loss)
        raise InputError(f"loss {name!r} compares two classes; pass reference=<second class>")
    targets = class_targets(vit, target, batch)
    references = class_targets(vit, reference, batch)
    if references is not None and references.ndim != 1:
        raise InputError("reference takes one class per image, got several")
    if targets is not None and references is not None and loss_name(loss) not in ONE_CLASS:
        check_reference(references, targets)
    return targets, references


def _of_chunk(given: Tensor | None, rows: Tensor, trace: AttentionTrace) -> Tensor:
    """The classes of these images: given ones, or the model's own answer."""
    return trace.logits.argmax(-1) if given is None else given.to(rows.device)[rows]


def _as_value(setting: Any) -> Any:
    """What can be stored: of a function its name."""
    return getattr(setting, "__name__", type(setting).__name__) if callable(setting) else setting


def _checked(name: str, vit: ViT, relevance: Any, batch: int) -> Tensor:
    if not isinstance(relevance, Tensor) or relevance.ndim != 3 or len(relevance) != batch:
        shape = tuple(getattr(relevance, "shape", ())) or type(relevance).__name__
        raise InputError(
            f"method {name!r} must return a Tensor (B, rows, cols) of {batch} maps, got {shape}; "
            "trace.on_grid(...) makes one from a value per token"
        )
    if not bool(torch.isfinite(relevance).all()):
        raise InputError(
            f"method {name!r} gave NaN or infinite relevance on {vit.name}; try float64 "
            "(vit.module.double() and images.double())"
        )
    return relevance.detach()
