"""Explanations against the published recipe, and the memory of one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from torch import Tensor

from attnguide import explain_many
from attnguide.types import ViT
from benchmarks.clock import Line, compare, missing
from benchmarks.recipes import WEIGHTS, explain_as_published


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


def memory_line(weights: Path) -> Line:
    """Peak resident growth of one explanation of four images, in a fresh process (Linux)."""
    what = "memory of an explanation, 3 rules"
    if not Path("/proc/self/clear_refs").exists():
        return missing(what, "needs Linux")
    code = (
        "import re, torch; from pathlib import Path;"
        "from attnguide import explain_many, load_model;"
        "torch.set_num_threads(1);"
        f"vit = load_model('vit_tiny_patch16_224', checkpoint={str(weights)!r});"
        "x = torch.randn(4, 3, 224, 224);"
        "mib = lambda key: int(re.search(key + r':\\s+(\\d+)',"
        " Path('/proc/self/status').read_text())[1]) / 1024;"
        "torch.inference_mode()(vit.module)(x);"  # weights and library buffers are there
        "Path('/proc/self/clear_refs').write_text('5');"  # the peak begins anew
        "before = mib('VmRSS');"
        "explain_many(vit, x, 0, methods=['gae', 'complete', 'absolute']);"
        "print('MiB', (mib('VmHWM') - before) / 4)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = re.search(r"MiB ([\d.]+)", out.stdout)
    return Line(what, "", f"{float(found[1]):.1f} MiB per image" if found else "", "")
