"""Explanations against the published recipe and against plain passes, and the memory of one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from attnguide import explain_many
from attnguide.types import ViT
from benchmarks.clock import Line, compare, missing
from benchmarks.recipes import WEIGHTS, explain_as_published

PASSES = {  # of methods that need several: forwards, and backwards
    "integrated_gradients": (51, 50),
    "smoothgrad": (17, 16),
    "dix": (23, 22),
    "tam": (21, 0),
}


def explain_line(vit: ViT, images: Tensor, rounds: int) -> Line:
    """Three rules: one call of ours on 8 images, against the recipe once per image and rule."""
    images = images[:8]
    target = vit.module(images).argmax(-1)
    ours = explain_many(vit, images, target, methods=list(WEIGHTS))
    worst = 0.0
    for rule in WEIGHTS:
        for index in range(len(images)):
            published = explain_as_published(
                vit.module, images[index : index + 1], int(target[index]), rule
            )
            got = ours[rule].relevance[index].flatten()
            worst = max(worst, float((got - published).abs().max() / published.abs().max()))

    def recipe() -> None:
        for index in range(2):
            for rule in WEIGHTS:
                image = images[index : index + 1]
                explain_as_published(vit.module, image, int(target[index]), rule)

    return compare(
        "published recipe, once per rule / attnguide, 3 rules",
        recipe,
        lambda: explain_many(vit, images, target, methods=list(WEIGHTS)),
        units=(2, len(images)),
        rounds=rounds,
        checked=f"largest relative difference {worst:.1e}",
    )


def floor_lines(vit: ViT, images: Tensor, rounds: int) -> list[Line]:
    """Plain passes of timm's module over our maps: three rules, then methods of several passes."""
    few, target = images[:8], vit.module(images[:8]).argmax(-1)
    rules = list(WEIGHTS)
    lines = [_floor("three rules", rules, vit, few, target, (1, 1), rounds)]
    for name, passes in PASSES.items():
        lines.append(_floor(name, [name], vit, few[:1], target[:1], passes, rounds))
    return lines


def _floor(
    name: str,
    methods: list[str],
    vit: ViT,
    images: Tensor,
    target: Tensor,
    passes: tuple[int, int],
    rounds: int,
) -> Line:
    """As many plain forwards, and backwards to the images, in batches of up to eight."""
    module = vit.module.requires_grad_(False)
    forwards, backwards = passes

    def plain() -> None:
        for count, backward in ((backwards, True), (forwards - backwards, False)):
            for size in [8] * (count // 8) + [count % 8] * bool(count % 8):
                x = images.repeat_interleave(size, 0).requires_grad_(backward)
                logits = module(x) if backward else torch.no_grad()(module)(x)
                if backward:
                    picked = logits.gather(1, target.repeat_interleave(size).unsqueeze(1)).sum()
                    torch.autograd.grad(picked, x)

    return compare(
        f"plain passes ({forwards} forwards, {backwards} backwards) / attnguide, {name}",
        plain,
        lambda: explain_many(vit, images, target, methods=methods),
        units=(len(images), len(images)),
        rounds=rounds,
    )


def memory_line(weights: Path) -> Line:
    """Peak growth of an explanation of four images, in a fresh process (Linux).

    Large blocks go back to the system at once, so that what the allocator keeps is not counted;
    a small network has loaded all code before.
    """
    what = "memory of an explanation, 3 rules"
    if not Path("/proc/self/clear_refs").exists():
        return missing(what, "needs Linux")
    code = (
        "import re, torch; from pathlib import Path;"
        "from timm.models.vision_transformer import VisionTransformer;"
        "from attnguide import explain_many, load_model, wrap_model;"
        "from attnguide.models.preprocess import Preprocess;"
        "torch.set_num_threads(1);"
        "sizes = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2);"
        "small = wrap_model(VisionTransformer(**sizes), Preprocess((32, 32)));"
        f"vit = load_model('vit_tiny_patch16_224', checkpoint={str(weights)!r});"
        "x, rules = torch.randn(4, 3, 224, 224), ['gae', 'complete', 'absolute'];"
        "explain_many(small, x[..., :32, :32], 0, methods=rules);"
        "mib = lambda key: int(re.search(key + r':\\s+(\\d+)',"
        " Path('/proc/self/status').read_text())[1]) / 1024;"
        "torch.inference_mode()(vit.module)(x);"  # weights and library buffers are there
        "Path('/proc/self/clear_refs').write_text('5');"  # the peak begins anew
        "before = mib('VmRSS');"
        "explain_many(vit, x, 0, methods=rules);"
        "print('MiB', (mib('VmHWM') - before) / 4)"
    )
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    found = re.search(r"MiB ([\d.]+)", out.stdout)
    return Line(what, "", f"{float(found[1]):.1f} MiB per image" if found else "", "at most 30")
