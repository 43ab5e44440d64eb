"""The whole check for a lent GPU, in one call: `benchmarks/gpu.sh`, or a tiny form with `--dry`.

Flags of CPU and GPU, of every path and precision; masked forwards of ViT-Base and ViT-Large (random
weights: speed does not depend on them) against a plain timm loop; token removal; synchronisations
of a step; peak memory. A part that fails says so, and the others go on.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import timm
import torch
from PIL import Image
from torch import Tensor

from attnguide import explain_many, load_model, wrap_model
from attnguide.evaluation.engines import Engine, prepare
from attnguide.evaluation.perturbation import FRACTIONS, ORDERS, perturb_many
from attnguide.evaluation.perturbation_rows import perturbation_rows
from attnguide.models.preprocess import Preprocess
from attnguide.types import ViT
from benchmarks.clock import Line, compare, missing, table
from benchmarks.machine import load, machine
from benchmarks.masked import agreement

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
RULES = ["complete", "gae"]
LIMIT_S = 300  # nothing that compiles is begun later: the whole takes at most 8 minutes


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__)
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "gpu.md")
    args = parser.parse_args()
    if not args.dry and not torch.cuda.is_available():
        parser.error("no CUDA device; --dry runs a tiny form on the CPU")
    warnings.filterwarnings("ignore", category=FutureWarning)
    check = Check(dry=args.dry)
    start = load()
    parts = [
        check.equality,
        *(partial(check.model, name) for name in check.models),
        *(partial(check.compiled, name) for name in check.models),
    ]
    lines: list[Line] = []
    for part in parts:
        lines += attempt(part)
        text = (
            f"# One GPU\n\nWritten by `benchmarks/gpu.sh{' --dry' if args.dry else ''}` in "
            f"{time.monotonic() - check.begun:.0f} s. Wall time, both sides of a ratio in one "
            f"process, in turn. A step: {check.batch} images, 2 rules and a random order, 2 "
            f"orders, 10 fractions, 55 masked forwards an image.\n\n{machine()} Load average "
            f"{start} at the beginning.\n\n{table(lines)}\n"
        )
        args.out.write_text(text)  # after each part, whatever ends this process
    print(text)


def attempt(part: Callable[[], list[Line]]) -> list[Line]:
    """The lines of a part, or the one that says why there are none."""
    try:
        return part()
    except Exception as error:  # one part must not cost the others
        return [missing("a part failed", f"{type(error).__name__}: {str(error)[:200]}")]


unchecked = partial(perturb_many, check_finite=False)  # to look at values waits for the device


class Check:
    """What is measured, and on what."""

    def __init__(self, *, dry: bool) -> None:
        self.dry, self.begun = dry, time.monotonic()
        self.device = "cpu" if dry else "cuda"
        self.batch, self.chunk = (2, 8) if dry else (32, 128)
        self.models = {"ViT-Base": "vit_base_patch16_224", "ViT-Large": "vit_large_patch16_224"}
        if dry:
            self.models = {"two layers": "vit_tiny_patch16_224"}
            torch.set_num_threads(1)

    def equality(self) -> list[Line]:
        """Flags on the CPU against those of the device, for every path and precision."""
        vit, images = self._tiny()
        label = vit.module(images).argmax(-1)
        maps = _maps(vit, images)
        plain = {
            key: (curve.correct, curve.probability)
            for key, curve in perturb_many(vit, images, maps, label).items()
        }
        moved = replace(vit, module=vit.module.to(self.device))
        lines = []
        for engine in (
            *(Engine(precision="fp32", path=path) for path in ("pixels", "tokens", "last block")),
            Engine(precision="tf32"),
            Engine(precision="bf16"),
        ):
            ready = prepare(moved, engine)
            curves = perturb_many(moved, images, maps, label, engine=ready)
            what = f"CPU fp32 / {self.device} {ready.description}, {len(images)} pictures"
            lines.append(Line(what, "", "", agreement(plain, curves)))
        return lines

    def model(self, name: str) -> list[Line]:
        """Plain loop against a step, every precision and path; removal; waits; memory."""
        vit, images, label, maps = self._random(name)
        lines = []
        for precision in ("fp32", "tf32", "bf16"):
            loop = self._loop(vit, images, precision)
            for path in ("pixels", "tokens", "last block"):
                ready = prepare(vit, Engine(precision=precision, path=path, chunk=self.chunk))
                step = partial(unchecked, vit, images, maps, label, engine=ready)
                lines.append(self._line(f"{name}: timm loop / {ready.description}", loop, step))
        ready = prepare(vit, Engine(precision="bf16", chunk=self.chunk))
        zero, drop = (
            partial(unchecked, vit, images, maps, label, engine=ready, fill=fill)
            for fill in ("zero", "drop")
        )
        lines.append(self._line(f"{name}: fill=zero / fill=drop, {ready.description}", zero, drop))

        def whole() -> object:
            return perturbation_rows(
                vit,
                images,
                [str(number) for number in range(len(images))],
                label,
                methods={rule: {} for rule in RULES},
                engine=ready,
            )

        lines.append(self._line(f"{name}: rows with explanation / masked forwards", whole, zero))
        lines.append(self._waits(f"{name}: waits for the device, masked forwards", zero))
        lines.append(self._waits(f"{name}: waits for the device, rows with explanation", whole))
        if not self.dry:
            torch.cuda.reset_peak_memory_stats()
            whole()
            peak = torch.cuda.max_memory_allocated() / 1e9
            lines.append(Line(f"{name}: peak memory", "", f"{peak:.1f} GB", ""))
        return lines

    def compiled(self, name: str) -> list[Line]:
        """`compile=True` in bf16, while there is time."""
        what = f"{name}: timm loop / compiled bf16"
        if self.dry or time.monotonic() - self.begun > LIMIT_S:
            return [missing(what, "dry" if self.dry else "no time left")]
        vit, images, label, maps = self._random(name)
        start = time.monotonic()
        ready = prepare(vit, Engine(precision="bf16", compile=True, chunk=self.chunk))
        seconds = time.monotonic() - start
        loop = self._loop(vit, images, "bf16")
        step = partial(unchecked, vit, images, maps, label, engine=ready)
        line = self._line(what, loop, step)
        return [replace(line, checked=f"compiled in {seconds:.0f} s")]

    def _line(self, what: str, slow: Callable[[], object], fast: Callable[[], object]) -> Line:
        def timed(work: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                work()
                if not self.dry:
                    torch.cuda.synchronize()

            return run

        return compare(
            what,
            timed(slow),
            timed(fast),
            units=(self.batch, self.batch),
            rounds=2,
            clock=time.perf_counter,
        )

    def _waits(self, what: str, run: Callable[[], object]) -> Line:
        """How often a step makes the host wait, as PyTorch counts it."""
        if self.dry:
            return missing(what, "no GPU")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits = [w for w in caught if "synchroniz" in str(w.message)]
        places = sorted({f"{Path(w.filename).name}:{w.lineno}" for w in waits})
        return Line(what, "", f"{len(waits)}", ", ".join(places[:8]))

    def _loop(self, vit: ViT, images: Tensor, precision: str) -> Callable[[], None]:
        """Timm's own forward, as often as a step has masked forwards, pixels zeroed."""
        ready = prepare(vit, Engine(precision=precision, path="pixels"))
        module, count = ready.vit.module, 55 * len(images)
        pictures = images.to(next(module.parameters()).dtype)
        size = min(self.chunk, count)
        keep = torch.rand(size, 1, *images.shape[-2:], device=images.device) > 0.5
        repeated = pictures.repeat(-(-size // len(images)), 1, 1, 1)[:size]

        def run() -> None:
            with ready.running():
                for start in range(0, count, size):
                    part = min(size, count - start)
                    module(repeated[:part] * keep[:part])

        return run

    def _random(self, name: str) -> tuple[ViT, Tensor, Tensor, dict[str, Tensor]]:
        torch.manual_seed(0)
        settings = {"depth": 2} if self.dry else {}
        module = timm.create_model(self.models[name], pretrained=False, **settings)
        vit = wrap_model(module.eval().to(self.device), Preprocess((224, 224)), name=name)
        images = torch.randn(self.batch, 3, 224, 224, device=self.device)
        return vit, images, torch.zeros(self.batch, dtype=torch.int64), _maps(vit, images)

    def _tiny(self) -> tuple[ViT, Tensor]:
        """The real ViT-Tiny and pictures where they are; random ones elsewhere."""
        torch.manual_seed(0)
        folders = (ROOT.parent / "shared" / "assets", ROOT / "shared" / "assets")
        assets = next((folder for folder in folders if (folder / WEIGHTS).is_file()), None)
        count = 2 if self.dry else 96
        if assets is None:
            module = timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()
            vit = wrap_model(module, Preprocess((224, 224)), name="random ViT-Tiny")
            return vit, torch.randn(count, 3, 224, 224)
        vit = load_model("vit_tiny_patch16_224", checkpoint=assets / WEIGHTS)
        paths = sorted((assets / "imagenet_sample").glob("*/*"))
        paths = paths[:: max(1, len(paths) // count)][:count]
        return vit, vit.preprocess([Image.open(path).convert("RGB") for path in paths])


def _maps(vit: ViT, images: Tensor) -> dict[str, Tensor]:
    many = explain_many(vit, images, methods=RULES)
    maps = {name: explanation.relevance for name, explanation in many.items()}
    generator = torch.Generator().manual_seed(0)
    maps["random"] = torch.rand(len(images), *vit.grid, generator=generator)
    assert len(maps) * len(ORDERS) * (len(FRACTIONS) - 1) + 1 == 55
    return maps


main()
