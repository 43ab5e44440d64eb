"""Masked forward passes on the CPU: every engine against a plain timm loop, and that they agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from attnguide.evaluation.engines import Engine, MaskedModel, is_installed, prepare
from attnguide.evaluation.perturbation import FRACTIONS, ORDERS, perturb_many
from attnguide.types import ViT
from benchmarks.alternatives import alternatives, not_installed
from benchmarks.clock import Line, compare, missing
from benchmarks.recipes import perturb_in_a_loop

EXACT = {"torch": "torch", "OpenVINO": "openvino"}
FEW = slice(0, 8)
LOOP = "timm inference_mode loop / attnguide, "


def masked_lines(vit: ViT, images: Tensor, maps: Mapping[str, Tensor], rounds: int) -> list[Line]:
    """Plain loop, OpenVINO, other precisions, token removal, other packages.

    Args:
        vit: On the CPU.
        images: (B, 3, H, W): all are compared, eight are timed.
        maps: Relevance (B, rows, cols) by name.
        rounds: Of the clock.
    """
    label = vit.module(images).argmax(-1)
    few = {"map": next(iter(maps.values()))[FEW]}
    ready = {
        name: prepare(vit, Engine(precision="fp32", backend=backend))
        for name, backend in EXACT.items()
        if backend == "torch" or is_installed()
    }
    ours = {name: _study(vit, images[FEW], few, label[FEW], model) for name, model in ready.items()}
    plain = loop_answers(vit.module, images, maps, label)
    count = len(images[FEW])

    def loop() -> None:
        for order in ORDERS:
            perturb_in_a_loop(vit.module, images[FEW], few["map"], label[FEW], order, FRACTIONS)

    lines = []
    for name in EXACT:
        title = f"{LOOP}{name} fp32, 2 orders"
        if name not in ready:
            lines.append(missing(title, "openvino is not installed"))
            continue
        checked = agreement(plain, perturb_many(vit, images, maps, label, engine=ready[name]))
        lines.append(
            compare(title, loop, ours[name], units=(count, count), rounds=rounds, checked=checked)
        )
    half = prepare(vit, Engine(precision="bf16"))
    lines.append(
        compare(
            f"{LOOP}torch bf16, 2 orders",
            loop,
            _study(vit, images[FEW], few, label[FEW], half),
            units=(count, count),
            rounds=rounds,
            checked=_few_agree(vit, images, maps, label, plain, half),
        )
    )
    for name, model in ready.items():
        lines.append(drop_line(vit, images[FEW], few, label[FEW], model, rounds, name))
    return lines + other_packages(vit, images[FEW], few["map"], label[FEW], ours, rounds)


def other_packages(
    vit: ViT,
    images: Tensor,
    relevance: Tensor,
    label: Tensor,
    ours: Mapping[str, Callable[[], object]],
    rounds: int,
) -> list[Line]:
    """What other packages take for a masked evaluation, over what the best exact engine takes."""
    best = "OpenVINO" if "OpenVINO" in ours else "torch"
    evaluations = (2 * len(FRACTIONS) - 1) * len(images)
    lines = [
        compare(
            f"{title} / attnguide, {best}",
            run,
            ours[best],
            units=(units, evaluations),
            rounds=max(2, rounds // 3),
            unit="evaluation",
        )
        for title, run, units in alternatives(vit.module, images, relevance, label)
    ]
    return lines + [missing(f"{name} / attnguide", "not installed") for name in not_installed()]


def drop_line(
    vit: ViT,
    images: Tensor,
    maps: Mapping[str, Tensor],
    label: Tensor,
    model: MaskedModel,
    rounds: int,
    name: str,
    **settings: Any,
) -> Line:
    """`fill="zero"` over `fill="drop"`, in time."""
    fills = [_study(vit, images, maps, label, model, fill=fill) for fill in ("zero", "drop")]
    units = (len(images), len(images))
    return compare(f"fill=zero / fill=drop, {name}", *fills, units=units, rounds=rounds, **settings)


def loop_answers(
    module: Any, images: Tensor, maps: Mapping[str, Tensor], label: Tensor
) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """Correct and probability (B, S) by name and order, from the plain loop."""
    return {
        (name, order): perturb_in_a_loop(module, images, relevance, label, order, FRACTIONS)
        for name, relevance in maps.items()
        for order in ORDERS
    }


def agreement(plain: Mapping[Any, tuple[Tensor, Tensor]], curves: Mapping[Any, Any]) -> str:
    """How many flags differ, and by how much probabilities."""
    pairs = [(plain[key], curves[key]) for key in plain]
    differ = sum(int((flags.cpu() != c.correct.cpu()).sum()) for (flags, _), c in pairs)
    count = sum(flags.numel() for (flags, _), _ in pairs)
    gap = max(float((p.cpu() - c.probability.cpu()).abs().max()) for (_, p), c in pairs)
    return f"{differ} of {count:,} flags differ, probability within {gap:.1e}"


def _study(
    vit: ViT,
    images: Tensor,
    maps: Mapping[str, Tensor],
    label: Tensor,
    model: MaskedModel,
    fill: str = "zero",
) -> Callable[[], object]:
    return lambda: perturb_many(vit, images, maps, label, engine=model, fill=fill)


def _few_agree(
    vit: ViT,
    images: Tensor,
    maps: Mapping[str, Tensor],
    label: Tensor,
    plain: Mapping[Any, tuple[Tensor, Tensor]],
    model: MaskedModel,
) -> str:
    """`agreement` on the images that are timed, for what does not call itself exact."""
    few = {name: relevance[FEW] for name, relevance in maps.items()}
    answers = {key: (flags[FEW], values[FEW]) for key, (flags, values) in plain.items()}
    return agreement(answers, perturb_many(vit, images[FEW], few, label[FEW], engine=model))
