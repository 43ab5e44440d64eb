"""Run benchmarks on the CPU: `make bench` all of them, `python -m benchmarks NAME ...` some.

Needs ../shared with the real ViT-Tiny and pictures. All of them are written to results.md.
"""

import argparse
import sys
import warnings
from pathlib import Path

import torch
from PIL import Image

from attnguide import explain_many, load_model
from benchmarks.clock import Line, table
from benchmarks.commands import command_lines
from benchmarks.explanations import explain_line, floor_lines, memory_line
from benchmarks.growth import growth_lines
from benchmarks.machine import load, machine
from benchmarks.masked import masked_lines

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "assets"
WEIGHTS_FILE = SHARED / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
RESULTS = Path(__file__).parent / "results.md"
RULES = ["complete", "gae"]
NAMES = ("explanations", "floor", "masked", "memory", "commands", "growth")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; by default all")
    parser.add_argument("--rounds", type=int, default=5, help="of the clock")
    parser.add_argument("--images", type=int, default=96, help="compared with the plain loop")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if unknown := {*args.names} - {*NAMES}:
        sys.exit(f"no benchmark is called {min(unknown)}; there are {', '.join(NAMES)}")
    if not WEIGHTS_FILE.is_file():
        sys.exit("no real ViT-Tiny at ../shared/assets: benchmarks use real weights and pictures")
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    start = load()
    lines = [line for name in args.names or NAMES for line in measured(name, args)]
    text = (
        "# Benchmarks\n\nWritten by `make bench`. Both sides of a ratio in one process, one "
        f"thread, in turn; CPU time, median of {args.rounds} rounds (other packages: a third of "
        "them) [quartiles]; whole commands by the wall clock. ViT-Tiny, real weights and pictures. "
        "A GPU's numbers stand in `gpu.md`, written by `gpu.sh`.\n\n"
        f"{machine()} Load average {start} at the beginning, {load()} at the end.\n\n"
        f"{table(lines)}\n"
    )
    if not args.names:
        args.out.write_text(text)
    print(text)


def measured(name: str, args: argparse.Namespace) -> list[Line]:
    """The lines of a benchmark."""
    if name == "commands":
        return command_lines(args.rounds)
    if name == "growth":
        return growth_lines()
    if name == "memory":
        return [memory_line(WEIGHTS_FILE)]
    vit = load_model("vit_tiny_patch16_224", checkpoint=WEIGHTS_FILE)
    paths = sorted((SHARED / "imagenet_sample").glob("*/*"))
    paths = paths[:: max(1, len(paths) // args.images)][: args.images]
    images = vit.preprocess([Image.open(path).convert("RGB") for path in paths])
    if name == "explanations":
        return [explain_line(vit, images, args.rounds)]
    if name == "floor":
        return floor_lines(vit, images, args.rounds)
    many = explain_many(vit, images, methods=RULES)
    maps = {label: explanation.relevance for label, explanation in many.items()}
    maps["random"] = torch.rand(maps[RULES[0]].shape, generator=torch.Generator().manual_seed(0))
    return masked_lines(vit, images, maps, args.rounds)


main()
