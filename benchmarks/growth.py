"""Whether rows, memory and time of a run grow with its pictures, and a table of a million rows."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.clock import Line

COUNTS = (100, 1000, 5000)
DIFFERENT = 100  # pictures, linked under further names
CLASSES = ("n02391049", "n01944390", "n01871265", "n01614925", "n02108422")
WORDS = (
    "experiment=fig12_perturbation scale=sample guide=none method=[complete,gae] device=cpu "
    "backend=torch threads=1 logger=files "
    f"runner.fractions=[{','.join(f'{n / 34:.3f}' for n in range(34))}]"
).split()  # 204 rows a picture
ROOM_S, ROOM_MIB = 60, 2048


def growth_lines() -> list[Line]:
    """Rows, CPU seconds and peak memory of runs of 100 to 5,000 pictures, then of stages."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        used = [_command(folder, f"{count}", "run", _pictures(folder, count)) for count in COUNTS]
        per_picture = [
            (after[0] - before[0]) / (count - fewer)
            for (fewer, before), (count, after) in pairwise(zip(COUNTS, used, strict=True))
        ]
        lines = [
            Line(
                f"a picture after {COUNTS[1]:,} / one after {COUNTS[0]:,}",
                f"{per_picture[1] / per_picture[0]:.2f}",
                " / ".join(f"{1000 * seconds:.1f}" for seconds in reversed(per_picture))
                + " ms of CPU",
                "1 if time is linear",
            )
        ]
        lines += [
            Line(
                f"run of {count:,} pictures, {rows:,} rows",
                "",
                f"{seconds:.0f} s of CPU, {memory:.0f} MiB",
                "",
            )
            for count, (seconds, memory, rows) in zip(COUNTS, used, strict=True)
        ]
        for stage in ("merge", "draw", "aggregate"):
            where = str(COUNTS[-1]) if stage != "aggregate" else "."
            seconds, memory, rows = _command(folder, where, stage)
            fits = "within" if seconds < ROOM_S and memory < ROOM_MIB else "more than"
            said = f"{fits} {ROOM_S} s and {ROOM_MIB} MiB"
            lines.append(
                Line(
                    f"stage={stage}, {rows:,} rows", "", f"{seconds:.0f} s, {memory:.0f} MiB", said
                )
            )
    return lines


def _pictures(folder: Path, count: int) -> Path:
    """A folder of this many pictures, a hundred different ones."""
    root, rng = folder / f"pictures {count}", np.random.default_rng(0)
    firsts: list[Path] = []
    for number in range(count):
        path = root / CLASSES[number % len(CLASSES)] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DIFFERENT:
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
            firsts.append(path)
        else:
            os.link(firsts[number % DIFFERENT], path)
    return root


def _command(
    folder: Path, name: str, stage: str, root: Path | None = None
) -> tuple[float, float, int]:
    """CPU seconds, peak MiB and rows of a command."""
    words = [*WORDS, f"data.root={root}"] if root else []
    words = [
        sys.executable,
        "-m",
        "benchmarks.growth",
        f"stage={stage}",
        f"run_dir={folder / name}",
        *words,
    ]
    out = subprocess.run(words, capture_output=True, text=True, check=False)
    if out.returncode:
        raise RuntimeError(out.stdout + out.stderr)
    seconds, memory = out.stdout.split()[-2:]
    from attnguide.store.table import read

    return (
        float(seconds),
        float(memory),
        len(read(folder / str(COUNTS[-1] if name == "." else name))),
    )


def main() -> None:
    """A command with a small random network in the place of ViT-Tiny, and what it took."""
    from timm.models.vision_transformer import VisionTransformer

    import run as program
    from attnguide import wrap_model
    from attnguide.models import load
    from attnguide.models.preprocess import Preprocess

    def small(name: str, *_: object, **__: object) -> object:
        torch.manual_seed(0)
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
        return wrap_model(VisionTransformer(**sizes), Preprocess((32, 32)), name=name)

    load.load_model, load.check_model = small, lambda *_: None
    program.main()
    status = Path("/proc/self/status").read_text()  # getrusage would count the parent's peak, too
    print(time.process_time(), int(status.partition("VmHWM:")[2].split()[0]) / 1024)


if __name__ == "__main__":
    main()
