"""Run all benchmarks: `make bench` (needs ../shared with the real ViT-Tiny and pictures)."""

import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from attnguide import explain_many, load_model, perturb
from attnguide.evaluation.perturbation import FRACTIONS
from benchmarks.recipes import WEIGHTS, explain_as_published, perturb_in_a_loop

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "assets"
WEIGHTS_FILE = SHARED / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
ROUNDS = 15


def main() -> None:
    """Print one line per benchmark."""
    if not WEIGHTS_FILE.is_file():
        sys.exit("no real ViT-Tiny at ../shared/assets: benchmarks use real weights and pictures")
    torch.set_num_threads(1)
    vit = load_model("vit_tiny_patch16_224", checkpoint=WEIGHTS_FILE)
    paths = sorted((SHARED / "imagenet_sample").glob("*/*"))[::37][:16]
    images = vit.preprocess([Image.open(path) for path in paths])
    print(
        f"{torch.__version__}, one thread, CPU time, median of {ROUNDS} shuffled rounds [quartiles]"
    )
    bench_explain(vit, images[:8])
    bench_perturb(vit, images)
    bench_memory()


def bench_explain(vit, images) -> None:
    """Three rules: one call of ours on 8 images, against the recipe once per image and rule."""
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

    def recipe():
        for index in range(2):
            for rule in WEIGHTS:
                image = images[index : index + 1]
                explain_as_published(vit.module, image, int(target[index]), rule)

    def library():
        explain_many(vit, images, target, methods=list(WEIGHTS))

    report(
        "explain, 3 rules: published recipe / attnguide",
        paired(recipe, 2, library, len(images)),
        f"largest relative difference {worst:.1e}",
    )


def bench_perturb(vit, images) -> None:
    """Both orders of one map, against a plain timm inference loop over filled pixels."""
    label = vit.module(images).argmax(-1)
    relevance = explain_many(vit, images, label, methods=["complete"])["complete"].relevance
    flags, gap, evaluations = 0, 0.0, 0
    for order in ("positive", "negative"):
        curve = perturb(vit, images, relevance, label, order=order)
        correct, probability = perturb_in_a_loop(
            vit.module, images, relevance, label, order, FRACTIONS
        )
        flags += int((correct != curve.correct).sum())
        gap = max(gap, float((probability - curve.probability).abs().max()))
        evaluations += correct.numel()
    few = slice(0, 8)

    def loop():
        for order in ("positive", "negative"):
            perturb_in_a_loop(vit.module, images[few], relevance[few], label[few], order, FRACTIONS)

    def library():
        from attnguide.evaluation.perturbation import perturb_many

        perturb_many(vit, images[few], {"map": relevance[few]}, label[few])

    report(
        "perturb, 2 orders: timm inference_mode loop / attnguide",
        paired(loop, 8, library, 8),
        f"{flags} of {evaluations} flags differ, probability within {gap:.1e}",
    )


def bench_memory() -> None:
    """Peak resident growth of one explanation of four images, in a fresh process (Linux)."""
    code = (
        "import re, torch; from pathlib import Path;"
        "from attnguide import explain_many, load_model;"
        "torch.set_num_threads(1);"
        f"vit = load_model('vit_tiny_patch16_224', checkpoint={str(WEIGHTS_FILE)!r});"
        "x = torch.randn(4, 3, 224, 224);"
        "mib = lambda key: int(re.search(key + r':\\s+(\\d+)',"
        " Path('/proc/self/status').read_text())[1]) / 1024;"
        "torch.inference_mode()(vit.module)(x);"  # weights and library buffers are there
        "Path('/proc/self/clear_refs').write_text('5');"  # the peak begins anew
        "before = mib('VmRSS');"
        "explain_many(vit, x, 0, methods=['gae', 'complete', 'absolute']);"
        "print((mib('VmHWM') - before) / 4)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    print(f"memory of an explanation, 3 rules: {float(out.stdout):.1f} MiB per image")


def paired(slow, slow_units: int, fast, fast_units: int) -> list[tuple[float, float]]:
    """Milliseconds per unit of both, once per round, in shuffled order."""
    for run in (slow, fast):
        run()
    rounds = []
    for number in range(ROUNDS):
        spent = {}
        order = [("slow", slow, slow_units), ("fast", fast, fast_units)]
        random.Random(number).shuffle(order)
        for name, run, units in order:
            start = time.thread_time()
            run()
            spent[name] = 1000 * (time.thread_time() - start) / units
        rounds.append((spent["slow"], spent["fast"]))
    return rounds


def report(title: str, rounds: list[tuple[float, float]], note: str) -> None:
    """One line: median ratio with quartiles, both times, what was checked."""
    low, middle, high = statistics.quantiles([slow / fast for slow, fast in rounds], n=4)
    slow, fast = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(
        f"{title}: {middle:.2f}x [{low:.2f}, {high:.2f}] ({slow:.0f} / {fast:.0f} ms per image); "
        f"{note}"
    )


main()
