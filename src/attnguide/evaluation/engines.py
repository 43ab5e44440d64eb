"""How masked images are computed: precision, backend, compiler, and how many at a time.

The explanation and the ranking of patches are not touched by any of this: only the masked forward
passes are, which are nearly all of a perturbation study's work.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnguide.errors import InputError, unknown_name
from attnguide.evaluation.masking import PATHS, network, paths
from attnguide.evaluation.openvino_backend import compile_for_cpu, is_faster, is_installed
from attnguide.tracing.capture import unchanged
from attnguide.types import ViT

PRECISIONS = ("fp32", "tf32", "bf16")
BACKENDS = ("torch", "openvino", "auto")
# Measured on a CPU (ViT-Tiny, one thread): 1.08 times the pixels' speed. Not measured on a GPU.
FASTEST = {"cpu": "last block", "cuda": "last block"}
CHUNK = {"cpu": 8, "cuda": 128}


@dataclass(frozen=True)
class Engine:
    """What masked forward passes run on; `prepare` makes it ready for a model.

    Attributes:
        precision: "fp32" (no TF32, no autocast), "tf32", or "bf16" (weights converted once); None
            leaves the model, and an autocast around it, as they are.
        compile: Use `torch.compile`.
        backend: "torch"; "openvino" (CPU); or "auto", which takes OpenVINO where it is installed,
            fits the model and is faster in a trial of half a second.
        chunk: Masked images per forward pass; by default 8 on a CPU and 128 on a GPU.
        path: One of `masking.PATHS`; None takes what was measured to be faster on the device.
    """

    precision: str | None = None
    compile: bool = False
    backend: str = "torch"
    chunk: int | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        """Refuse what does not exist or does not go together."""
        known = (
            ("precision", self.precision, PRECISIONS),
            ("backend", self.backend, BACKENDS),
            ("path", self.path, PATHS),
        )
        for kind, name, names in known:
            if name is not None and name not in names:
                raise unknown_name(kind, name, names)
        if self.chunk is not None and self.chunk < 1:
            raise InputError(f"chunk must be at least 1 masked image, got {self.chunk}")
        if self.compile and self.backend == "openvino":
            raise InputError(
                "compile=true is torch.compile, which backend='openvino' does not use; choose one"
            )
        if self.backend == "openvino" and not is_installed():
            raise InputError(
                "backend='openvino' needs the package openvino: pip install 'attnguide[openvino]', "
                "or use backend='torch'"
            )


class MaskedModel:
    """A model made ready for masked forward passes.

    Weights of another precision or backend are copies: prepare again after the model's weights
    changed or moved to another device.

    Attributes:
        source: The model it was made of.
        engine: What was asked for.
        vit: The model that runs.
        network: Where it is cut.
        backend: "torch" or "openvino": what was chosen.
        chunk: Masked images per forward pass; halved once if memory runs out.
        compile_s: Seconds that compiling took; 0 where nothing was compiled.
    """

    def __init__(self, model: ViT | Callable[[Tensor], Tensor], engine: Engine, device: str):
        """Convert, choose and compile; see `prepare`."""
        self.source, self.engine = model, engine
        self.vit = _copied(model, engine) if _needs_copy(engine) else model
        possible = paths(self.vit)
        path = engine.path or FASTEST.get(device, PATHS[0])
        if engine.path is not None and path not in possible:
            raise InputError(
                f"path={path!r} is not exact for this model, which takes {', '.join(possible)}"
            )
        self.network = network(self.vit, path if path in possible else possible[-1])
        self.chunk = engine.chunk or CHUNK.get(device, CHUNK["cuda"])
        self.backend, self.compile_s, self._halved = "torch", 0.0, False
        if engine.compile:
            self._compile(device)
        elif engine.backend != "torch":
            self._to_openvino(device)

    @property
    def description(self) -> str:
        """The choice, as the records name it: "openvino fp32, last block"."""
        precision = self.engine.precision or "model's precision"
        compiled = " compiled" if self.engine.compile else ""
        return f"{self.backend} {precision}{compiled}, {self.network.path}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inference, evaluation mode, the engine's precision; all as before afterwards."""
        module = self.vit.module if isinstance(self.vit, ViT) else self.vit
        with ExitStack() as stack:
            # a copy is in evaluation mode, and `unchanged` would put compiled code aside
            if isinstance(module, nn.Module) and self.vit is self.source:
                stack.enter_context(unchanged(module))
            if self.engine.precision is not None:
                stack.enter_context(_float32_products(self.engine.precision))
                for device in ("cpu", "cuda"):
                    if torch.is_autocast_enabled(device):
                        stack.enter_context(torch.autocast(device, enabled=False))
            stack.enter_context(torch.inference_mode())
            yield

    def logits(
        self, masked: Callable[[Tensor, Tensor], Tensor], image: Tensor, masks: Tensor
    ) -> Tensor:
        """(M, C) logits, chunk by chunk; if memory runs out, in half the chunk, once.

        Args:
            masked: `masking.Replaced` or its like, made of `network`.
            image: (M,) which image of the batch.
            masks: (M, ...) what `masked` takes.

        Raises:
            ValueError: memory runs out again.
        """
        try:
            return self._in_chunks(masked, image, masks)
        except torch.OutOfMemoryError as error:
            if self._halved or self.chunk == 1:
                raise InputError(
                    f"out of memory with {self.chunk} masked images at a time; use a smaller "
                    f"batch, for one batch_size={max(1, (int(image.max()) + 1) // 2)}"
                ) from error
        self._halved, self.chunk = True, self.chunk // 2
        warnings.warn(
            f"out of memory; going on with {self.chunk} masked images at a time", stacklevel=2
        )
        torch.cuda.empty_cache()
        return self.logits(masked, image, masks)

    def _in_chunks(
        self, masked: Callable[[Tensor, Tensor], Tensor], image: Tensor, masks: Tensor
    ) -> Tensor:
        parts = []
        for own, part in zip(image.split(self.chunk), masks.split(self.chunk), strict=True):
            missing = self.chunk - len(own) if self.engine.compile else 0  # one shape for compilers
            if missing:
                own = torch.cat([own, own[-1:].expand(missing)])
                part = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
            logits = masked(own, part)[: self.chunk - missing]
            # a compiled graph's next call may write into the memory of this one's answer
            parts.append(logits.clone() if self.engine.compile else logits)
        whole = torch.cat(parts)
        return whole.float() if whole.dtype in (torch.bfloat16, torch.float16) else whole

    def _example(self) -> Tensor:
        """A chunk of random images, entered."""
        vit: Any = self.vit
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(self.chunk, 3, *vit.image_size, generator=generator)
        return self.network.enter(images.to(device=vit.device, dtype=vit.dtype))

    def _compile(self, device: str) -> None:
        """Compile, and run once, so that a missing compiler shows before the work begins."""
        mode = "reduce-overhead" if device == "cuda" else None
        leave = torch.compile(self.network.leave, mode=mode)
        self.network = replace(self.network, leave=leave)
        start = time.perf_counter()
        try:
            with self.running():
                leave(self._example())
        except Exception as error:  # whatever compilers raise
            reason = " ".join(str(error).split())[:150]
            raise InputError(
                f"compile=true did not work here ({type(error).__name__}: {reason}); a C++ "
                "compiler is needed, or leave compile out"
            ) from error
        self.compile_s = time.perf_counter() - start

    def _to_openvino(self, device: str) -> None:
        """Convert for OpenVINO where that is asked for or faster, and possible."""
        asked = self.engine.backend == "openvino"
        if device != "cpu" or not isinstance(self.vit, ViT):
            if asked:
                what = f"{device} model" if device != "cpu" else type(self.vit).__name__
                raise InputError(
                    f"backend='openvino' runs a ViT on the CPU, got a {what}; use backend='torch'"
                )
            return
        if not is_installed():
            return
        with self.running():
            example = self._example()
        try:
            with unchanged(self.vit.module):
                leave = compile_for_cpu(self.network, example, bf16=self.engine.precision == "bf16")
        except Exception as error:  # whatever the converter raises
            reason = " ".join(str(error).split())[:150]
            warnings.warn(
                f"{self.vit.name} does not fit OpenVINO ({type(error).__name__}: {reason}); "
                "torch computes it",
                stacklevel=2,
            )
            return
        with self.running():
            if asked or is_faster(leave, self.network.leave, example):
                self.network, self.backend = replace(self.network, leave=leave), "openvino"


def prepare(
    model: ViT | Callable[[Tensor], Tensor], engine: Engine | None = None, device: str | None = None
) -> MaskedModel:
    """A model ready for masked forward passes.

    Args:
        model: A ViT, or any callable from images to logits.
        engine: What to run on; by default torch, in the model's own precision.
        device: Of the images, "cpu" or "cuda"; a ViT knows it.

    Raises:
        ValueError: an engine that this model or machine cannot take.
    """
    where = model.device.type if isinstance(model, ViT) else device or "cpu"
    return MaskedModel(model, engine or Engine(), where)


def ready(
    model: ViT | Callable[[Tensor], Tensor],
    engine: Engine | MaskedModel | None,
    device: str | None = None,
) -> MaskedModel:
    """As `prepare`, where it may have been done already.

    Raises:
        ValueError: it was done for another model.
    """
    if not isinstance(engine, MaskedModel):
        return prepare(model, engine, device)
    if engine.source is not model:
        raise InputError("the engine was prepared for another model; prepare it for this one")
    return engine


def _needs_copy(engine: Engine) -> bool:
    return engine.compile or engine.precision == "bf16"


def _copied(model: Any, engine: Engine) -> ViT:
    """The model with weights of its own, in evaluation mode, without gradients."""
    if not isinstance(model, ViT):
        asked = "compile=true" if engine.compile else "precision='bf16'"
        raise InputError(f"{asked} takes a ViT, got {type(model).__name__}; see wrap_model")
    with torch.inference_mode(False), unchanged(model.module):
        module = copy.deepcopy(model.module)
    dtype = torch.bfloat16 if engine.precision == "bf16" else model.dtype
    return replace(model, module=module.to(dtype).requires_grad_(False).eval())


@contextmanager
def _float32_products(precision: str) -> Iterator[None]:
    """Float32 products on CUDA with TF32, or without; as before afterwards."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
