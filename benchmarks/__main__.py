"""Run all benchmarks on the CPU, one thread, and write them down: `make bench`.

Needs ../shared with the real ViT-Tiny and pictures.
"""

import argparse
import sys
import warnings
from pathlib import Path

import torch
from PIL import Image

from attnguide import explain_many, load_model
from benchmarks.clock import table
from benchmarks.explanations import explain_line, memory_line
from benchmarks.machine import load, machine
from benchmarks.masked import masked_lines

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "assets"
WEIGHTS_FILE = SHARED / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
RESULTS = Path(__file__).parent / "results.md"
RULES = ["complete", "gae"]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of the clock")
    parser.add_argument("--images", type=int, default=96, help="compared with the plain loop")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if not WEIGHTS_FILE.is_file():
        sys.exit("no real ViT-Tiny at ../shared/assets: benchmarks use real weights and pictures")
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    vit = load_model("vit_tiny_patch16_224", checkpoint=WEIGHTS_FILE)
    paths = sorted((SHARED / "imagenet_sample").glob("*/*"))
    paths = paths[:: max(1, len(paths) // args.images)][: args.images]
    images = vit.preprocess([Image.open(path).convert("RGB") for path in paths])
    start = load()
    many = explain_many(vit, images, methods=RULES)
    maps = {name: explanation.relevance for name, explanation in many.items()}
    maps["random"] = torch.rand(maps[RULES[0]].shape, generator=torch.Generator().manual_seed(0))
    lines = [
        explain_line(vit, images, args.rounds),
        *masked_lines(vit, images, maps, args.rounds),
        memory_line(WEIGHTS_FILE),
    ]
    text = (
        "# Benchmarks\n\nWritten by `make bench`. Both sides of a ratio in one process, one "
        f"thread, in turn; CPU time, median of {args.rounds} rounds (other packages: a third of "
        "them) [quartiles]. ViT-Tiny, real weights and pictures. A GPU's numbers stand in "
        f"`gpu.md`, written by `gpu.sh`.\n\n{machine()} Load average {start} at the beginning, "
        f"{load()} at the end.\n\n{table(lines)}\n"
    )
    args.out.write_text(text)
    print(text)


main()
