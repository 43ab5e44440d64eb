"""Explain a model's answers: the notebook's door to every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attnguide.errors import InputError, InputTypeError
from attnguide.losses import TWO_CLASS, Loss, get_loss
from attnguide.methods import Method, check_settings, get_method
from attnguide.tracing.trace import AttentionTrace
from attnguide.types import Explanation, ViT

Target = int | str | Sequence[int] | Sequence[str] | Tensor
_Chosen = tuple[str, Method, dict[str, Any]]
CPU_CHUNK = 4  # images per pass: more leave the cache, and hold more memory


def explain(
    vit: ViT,
    images: Tensor,
    target: Target = "predicted",
    *,
    method: str | Method = "complete",
    loss: str | Loss = "logit",
    reference: Target | None = None,
    **settings: Any,
) -> Explanation:
    """Relevance of every patch for a class.

    Args:
        vit: From `load_model` or `wrap_model`.
        images: (B, 3, H, W), from `vit.preprocess`.
        target: Class index or name for all images, one per image, a LongTensor (B,), or (B, T) for
            T targets per image that share the forward pass; "predicted" is the model's own answer.
        method: A name of `list_methods()`, or a callable (trace, **settings) -> (B, rows, cols).
        loss: What is differentiated: "logit", a two-class loss ("relative_contrast",
            "difference", "ratio"), or a callable (logits, target, reference) -> (B,).
        reference: Second class of a two-class loss, given as `target` is.
        **settings: Of the method.

    Raises:
        ValueError: unknown method, loss, class or setting; images that do not fit the model; a
            two-class loss without reference class, or with the target as reference.
        TypeError: images that are not a Tensor.
    """
    many = explain_many(
        vit, images, target, methods=[(method, settings)], loss=loss, reference=reference
    )
    return next(iter(many.values()))


def explain_many(
    vit: ViT,
    images: Tensor,
    target: Target = "predicted",
    *,
    methods: Sequence[Any] | Mapping[str, Mapping[str, Any]] = ("complete", "gae"),
    loss: str | Loss = "logit",
    reference: Target | None = None,
) -> dict[str, Explanation]:
    """Several methods on one forward pass and one backward pass per target.

    Args:
        vit, images, target, loss, reference: As in `explain`.
        methods: Names, callables, pairs (name, settings), or a mapping of names to settings.

    Returns:
        One `Explanation` per method, in the given order, under its name.

    Raises:
        ValueError, TypeError: as in `explain`, before the first forward pass where possible.
    """
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode
        return _explain_many(vit, images, target, methods, loss, reference)


def _explain_many(
    vit: ViT,
    images: Tensor,
    target: Target,
    methods: Sequence[Any] | Mapping[str, Mapping[str, Any]],
    loss: str | Loss,
    reference: Target | None,
) -> dict[str, Explanation]:
    chosen = [_method(entry) for entry in _entries(methods)]
    images = _check_images(vit, images)
    get_loss(loss)
    if reference is None and isinstance(loss, str) and loss in TWO_CLASS:
        raise InputError(f"loss {loss!r} compares two classes; pass reference=<second class>")
    targets = _resolve(vit, target, len(images))
    references = None if reference is None else _resolve(vit, reference, len(images))
    if references is not None and references.ndim != 1:
        raise InputError("reference takes one class per image, got several")
    if targets is not None and references is not None:
        _check_reference(loss, references, targets.reshape(len(images), -1))

    size = CPU_CHUNK if images.device.type == "cpu" else len(images)
    parts = []
    for rows in torch.arange(len(images), device=images.device).split(size):
        trace = AttentionTrace(vit, images[rows], rows, loss=loss)
        if reference is not None:
            trace.reference = _of_chunk(references, rows, trace)
        parts.append(_explain_chunk(vit, trace, _of_chunk(targets, rows, trace), chosen))
    logits, target_parts, map_parts = zip(*parts, strict=True)
    extra = {"loss": loss if isinstance(loss, str) else getattr(loss, "__name__", "callable")}
    return {
        name: Explanation(
            relevance=torch.cat([maps[name] for maps in map_parts]),
            target=torch.cat(target_parts),
            logits=torch.cat(logits),
            method=name,
            settings=extra | settings,
        )
        for name, _, settings in chosen
    }


def _explain_chunk(
    vit: ViT, trace: AttentionTrace, targets: Tensor, chosen: list[_Chosen]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits (B, C), targets (B,) or (B, T), and the map of each method for them."""
    columns = targets.unsqueeze(1) if targets.ndim == 1 else targets
    _check_reference(trace.loss, trace.reference, columns)
    maps: dict[str, list[Tensor]] = {name: [] for name, _, _ in chosen}
    for number, column in enumerate(columns.unbind(1), 1):
        aimed = trace.retarget(column)
        aimed.keep_graph = number < columns.shape[1]
        for name, method, settings in chosen:
            maps[name].append(_finite(name, vit, method(aimed, **settings).detach()))
    joined = {
        name: parts[0] if targets.ndim == 1 else torch.stack(parts, 1)
        for name, parts in maps.items()
    }
    return trace.logits, targets, joined


def _of_chunk(given: Tensor | None, rows: Tensor, trace: AttentionTrace) -> Tensor:
    """The classes of these images: given ones, or the model's own answer."""
    return trace.logits.argmax(-1) if given is None else given.to(rows.device)[rows]


def _entries(methods: Sequence[Any] | Mapping[str, Mapping[str, Any]]) -> list[Any]:
    if isinstance(methods, str):
        return [methods]
    entries = list(methods.items() if isinstance(methods, Mapping) else methods)
    if not entries:
        raise InputError("no method given; pass at least one name of list_methods()")
    return entries


def _method(entry: Any) -> _Chosen:
    name, settings = entry if isinstance(entry, tuple) else (entry, {})
    full = check_settings(name, dict(settings))
    return getattr(name, "__name__", str(name)), get_method(name), full


def _check_images(vit: ViT, images: Tensor) -> Tensor:
    if not isinstance(images, Tensor):
        raise InputTypeError(
            f"images must be a Tensor (B, 3, H, W), got {type(images).__name__}; make one with "
            "vit.preprocess(pil_images)"
        )
    if images.ndim == 3:
        images = images.unsqueeze(0)
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, *vit.image_size):
        raise InputError(
            f"images for {vit.name} must be (B, 3, {vit.image_size[0]}, {vit.image_size[1]}), got "
            f"{tuple(images.shape)}; make them with vit.preprocess(pil_images)"
        )
    if len(images) == 0:
        raise InputError("expected at least one image, got an empty batch")
    if not bool(torch.isfinite(images).all()):
        raise InputError("images contain NaN or infinite values; check the preprocessing")
    return images.to(device=vit.device, dtype=vit.dtype).clone()


def _resolve(vit: ViT, target: Target, batch: int) -> Tensor | None:
    """(B,) or (B, T) int64 on the CPU; None for the model's own answer."""
    if isinstance(target, str) and target == "predicted":
        return None
    if isinstance(target, int | str):
        return torch.full((batch,), vit.class_index(target), dtype=torch.int64)
    if isinstance(target, Tensor):
        if target.dtype not in (torch.int64, torch.int32):
            raise InputTypeError(f"target must hold class indices (int64), got {target.dtype}")
        given = target.cpu().long().clone()  # an inference tensor cannot be differentiated with
    else:
        given = torch.tensor([_index(vit, entry) for entry in target])
    if given.ndim == 0:
        given = given.expand(batch)
    if given.ndim > 2 or len(given) != batch or given.numel() == 0:
        raise InputError(
            f"target must be one class or one per image ({batch},) or ({batch}, T), got "
            f"{tuple(given.shape)}"
        )
    for extreme in (int(given.min()), int(given.max())):
        vit.class_index(extreme)
    return given


def _index(vit: ViT, entry: Any) -> Any:
    if isinstance(entry, list | tuple):
        return [_index(vit, part) for part in entry]
    return vit.class_index(entry if isinstance(entry, str) else int(entry))


def _check_reference(loss: str | Loss, reference: Tensor | None, targets: Tensor) -> None:
    if reference is None or loss == "logit":
        return
    if bool((reference.unsqueeze(1) == targets).any()):
        raise InputError(
            "target and reference are the same class for at least one image; a two-class loss "
            "compares two different ones"
        )


def _finite(name: str, vit: ViT, relevance: Tensor) -> Tensor:
    if not bool(torch.isfinite(relevance).all()):
        raise InputError(
            f"method {name!r} gave NaN or infinite relevance on {vit.name}; try float64 "
            "(vit.module.double() and images.double())"
        )
    return relevance
