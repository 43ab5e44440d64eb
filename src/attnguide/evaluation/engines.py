"""How masked images are computed: where the network is cut, precision, backend, and chunks.

The explanation and the ranking of patches are not touched by any of this: only the masked forward
passes are, which are nearly all of a perturbation study's work.

A filled patch is embedded on its own, so filling pixels and then embedding equals choosing, patch
by patch, between two tables of tokens. Where the model is timm's own, the tokens of an image and
of its filled version are made once, every mask is such a choice, and the last block computes only
the tokens that the head reads. Any other model gets filled pixels.
"""

from __future__ import annotations

import copy
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attnguide.errors import InputError, InputTypeError, unknown_name
from attnguide.inputs import no_vit
from attnguide.tracing.blocks import is_standard, prefix_block, tokens_read
from attnguide.tracing.capture import unchanged
from attnguide.tracing.trace import refuse_other_logits
from attnguide.types import ViT

PRECISIONS = ("fp32", "tf32", "bf16")
BACKENDS = ("torch", "openvino", "auto")
PATHS = ("pixels", "tokens", "last block")  # each faster than the one before
CHUNK = {"cpu": 8, "cuda": 128}
TRIAL_S, ROUNDS = 0.4, 3  # of a trial: seconds, and rounds at least; the first warms up
TOLERANCE = 1e-3  # of logits, relative to the largest: a wrong conversion is off by far more

Model = ViT | Callable[[Tensor], Tensor]
Masked = Callable[[Tensor, Tensor], Tensor]  # (M,) image of the batch, (M, ...) mask to (M, C)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """What masked forward passes run on; `prepare` makes it ready for a model.

    Attributes:
        precision: "fp32" (no TF32, no autocast), "tf32", or "bf16" (weights converted once); None
            leaves the model, and an autocast around it, as they are.
        compile: Use `torch.compile`.
        backend: "torch"; "openvino" (CPU); or "auto", which takes OpenVINO where it is installed
            and, on masks of the first images, gives torch's answers in less time.
        chunk: Masked images per forward pass; by default 8 on a CPU and 128 on a GPU.
        path: One of `PATHS`; by default the last that is exact for the model.
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


@dataclass(frozen=True)
class Network:
    """A model cut in two where masks act.

    Attributes:
        path: "pixels"; "tokens", whose patches are embedded once; or "last block", which is
            "tokens" with the last block computed for the tokens that the head reads.
        enter: (B, 3, H, W) images to what is masked: images, or tokens (B, N, D).
        leave: What is masked to logits (B, C).
        num_prefix: Tokens before the patches.
    """

    path: str
    enter: Callable[[Tensor], Tensor]
    leave: Callable[[Tensor], Tensor]
    num_prefix: int = 0

    @property
    def in_tokens(self) -> bool:
        """Whether masks act on tokens."""
        return self.path != "pixels"


def paths(model: Model) -> tuple[str, ...]:
    """The ways in which this model's masked logits can be had exactly, of `PATHS`."""
    from timm.layers import PatchEmbed

    if not isinstance(model, ViT) or not is_standard(model.module):
        return PATHS[:1]
    embed: Any = getattr(model.module, "patch_embed", None)
    alone = type(embed) is PatchEmbed and embed.flatten  # every patch is embedded on its own
    if not alone or not embed.proj.stride == embed.proj.kernel_size == tuple(model.patch_size):
        return PATHS[:1]
    shorter = tokens_read(model.module, model.num_tokens) < model.num_tokens
    return PATHS if shorter else PATHS[:2]


def _cut(model: Model, path: str) -> Network:
    """The model, cut where this path says."""
    if path == "pixels":
        leave = _Whole(model) if isinstance(model, ViT) else partial(_answer, model)
        return Network(path, lambda images: images, leave)
    assert isinstance(model, ViT)  # `paths`
    module: Any = model.module

    def embed(images: Tensor) -> Tensor:
        tokens: Tensor = module.norm_pre(module._pos_embed(module.patch_embed(images)))
        return tokens

    read = tokens_read(module, model.num_tokens) if path == "last block" else model.num_tokens
    return Network(path, embed, _Blocks(module, read), model.num_prefix)


def _answer(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """(M, C) of a function of the user's."""
    logits = model(images) if callable(model) else None
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise InputTypeError(f"{no_vit(model)}, or a function of images to logits (B, C)")
    return logits


class _Whole(nn.Module):
    """A ViT as it is: images (M, 3, H, W) to logits (M, C); a module, as converters want."""

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.module, self.vit = vit.module, vit

    def forward(self, images: Tensor) -> Tensor:
        return replace(self.vit, module=self.module).logits(images)


class _Blocks(nn.Module):
    """timm's standard network after its embedding: tokens (M, N, D) to logits (M, C).

    The last block computes the first `read` tokens alone.
    """

    def __init__(self, module: Any, read: int) -> None:
        super().__init__()
        self.module, self.read = module, read

    def forward(self, x: Tensor) -> Tensor:
        blocks = self.module.blocks
        if self.read < x.shape[1]:
            x = prefix_block(blocks[-1], blocks[:-1](x), self.read)
        else:
            x = blocks(x)
        logits: Tensor = self.module.forward_head(self.module.norm(x))
        return logits


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
        trial: Seconds per masked image of every backend that was timed for the choice.
        chunk: Masked images per forward pass; halved once if memory runs out.
        progress: Whether to show a bar of the masked images.
    """

    def __init__(self, model: Model, engine: Engine, device: str) -> None:
        """Convert, choose and compile; see `prepare`."""
        self.source, self.engine = model, engine
        copies = engine.compile or engine.precision == "bf16"
        self.vit = _copied(model, engine) if copies else model
        possible = paths(self.vit)
        if engine.path is not None and engine.path not in possible:
            raise InputError(
                f"path={engine.path!r} is not exact for this model, which takes "
                f"{', '.join(possible)}"
            )
        self.network = _cut(self.vit, engine.path or possible[-1])
        self.chunk = engine.chunk or CHUNK.get(device, CHUNK["cuda"])
        self.backend, self.trial = "torch", dict[str, float]()
        self._undecided, self._halved, self.progress = False, False, False
        on_cpu = device == "cpu" and isinstance(self.vit, ViT)
        if engine.compile:
            self._compile(device)
        elif engine.backend == "auto":
            self._undecided = on_cpu and is_installed()
        elif engine.backend == "openvino":
            if not on_cpu:
                what = f"{device} model" if device != "cpu" else type(self.vit).__name__
                raise InputError(
                    f"backend='openvino' runs a ViT on the CPU, got a {what}; use backend='torch'"
                )
            self._use(self._converted())

    @property
    def description(self) -> str:
        """The choice, as the records name it: "openvino fp32, last block"."""
        precision = self.engine.precision or "model's precision"
        compiled = " compiled" if self.engine.compile else ""
        text = f"{self.backend} {precision}{compiled}, {self.network.path}"
        for other in self.trial.keys() - {self.backend}:
            gain = self.trial[other] / self.trial[self.backend]
            text += f", {gain:.2f} times as fast as {other}"
        return text

    def choose(self, images: Tensor, trial: Mapping[str, float] | None = None) -> dict[str, float]:
        """With backend="auto", take the fastest exact backend, once; the trial is returned.

        Args:
            images: (B, 3, H, W), normalised, of which up to four are masked.
            trial: Of an earlier choice, which counts for this one too.

        Raises:
            ValueError: OpenVINO was chosen earlier, and is not installed here.
        """
        if trial and min(trial, key=trial.__getitem__) == "openvino":
            replace(self.engine, backend="openvino")  # is refused where it is not installed
        if self._undecided:
            self._undecided = False
            leave = self._converted()
            if leave is not None:
                timed = self._time(images, leave) if trial is None else trial
                self.trial = dict(timed)
                if min(timed, key=timed.__getitem__) == "openvino":
                    self._use(leave)
                log.info("masked images are computed by %s", self.description)
        return self.trial

    def _time(self, images: Tensor, other: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Seconds per masked image of torch and, if it gives the same answers, of OpenVINO."""
        ways = {"torch": self.network.leave, "openvino": other}
        timed: dict[str, list[float]] = {name: [] for name in ways}
        generator = torch.Generator().manual_seed(0)
        with self.running():
            images = images[:4].to(getattr(self.vit, "dtype", images.dtype))
            clean, empty = self.network.enter(images), self.network.enter(torch.zeros_like(images))
            image = torch.arange(self.chunk) % len(images)
            sizes = (*clean.shape[1:-1], 1) if self.network.in_tokens else (1, *clean.shape[2:])
            share = torch.linspace(0, 0.9, self.chunk).view(-1, *[1] * len(sizes))
            while len(timed["torch"]) < ROUNDS or sum(map(sum, timed.values())) < 2 * TRIAL_S:
                hidden = torch.rand(self.chunk, *sizes, generator=generator) < share
                inputs, answers = torch.where(hidden, empty[image], clean[image]), []
                for name, leave in ways.items():
                    begun = time.perf_counter()
                    answers.append(leave(inputs).argmax(-1))
                    timed[name].append(time.perf_counter() - begun)
                if not torch.equal(*answers):
                    del timed["openvino"]
                    break
        return {n: statistics.median(t[1:] or t) / self.chunk for n, t in timed.items()}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inference, evaluation mode, the engine's precision; all as before afterwards."""
        module = self.vit.module if isinstance(self.vit, ViT) else self.vit
        with ExitStack() as stack:
            # a copy is in evaluation mode, and `unchanged` would put compiled code aside
            if isinstance(module, nn.Module) and self.vit is self.source:
                stack.enter_context(unchanged(module))
            if self.engine.precision is not None:
                matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
                stack.callback(torch.set_float32_matmul_precision, matmul)
                stack.callback(setattr, cudnn, "allow_tf32", cudnn.allow_tf32)
                cudnn.allow_tf32 = self.engine.precision == "tf32"
                torch.set_float32_matmul_precision("high" if cudnn.allow_tf32 else "highest")
                for device in ("cpu", "cuda"):
                    if torch.is_autocast_enabled(device):
                        stack.enter_context(torch.autocast(device, enabled=False))
            stack.enter_context(torch.inference_mode())
            yield

    def check(self, images: Tensor) -> None:
        """Refuse a shortcut that gives other logits than the network by itself, for one image.

        Raises:
            ValueError: hooks, or parts that do more than their code says.
        """
        path, one = self.network.path, images[:1].to(getattr(self.vit, "dtype", images.dtype))
        if path != "pixels" and isinstance(self.vit, ViT):
            network = _cut(self.vit, path)  # of torch, whatever computes
            refuse_other_logits(
                self.vit, self.vit.logits(one), network.leave(network.enter(one)),
                f"cut at its {path}",
                "its parts do more than their code says; pass engine=Engine(path='pixels')",
            )  # fmt: skip

    def logits(self, masked: Masked, image: Tensor, masks: Tensor) -> Tensor:
        """(M, C) logits, chunk by chunk; if memory runs out, in half the chunk, once.

        Args:
            masked: Image and mask to logits, by way of `network`.
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

    def _in_chunks(self, masked: Masked, image: Tensor, masks: Tensor) -> Tensor:
        parts, bar = [], tqdm(total=len(image), desc="perturb", disable=not self.progress)
        for own, part in zip(image.split(self.chunk), masks.split(self.chunk), strict=True):
            missing = self.chunk - len(own) if self.engine.compile else 0  # one shape for compilers
            if missing:
                own = torch.cat([own, own[-1:].expand(missing)])
                part = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
            logits = masked(own, part)[: self.chunk - missing]
            # a compiled graph's next call may write into the memory of this one's answer
            parts.append(logits.clone() if self.engine.compile else logits)
            bar.update(len(logits))
        bar.close()
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
        try:
            with self.running():
                leave(self._example())
        except Exception as error:  # whatever compilers raise
            raise InputError(
                f"compile=true did not work here ({_first_words(error)}); a C++ compiler is "
                "needed, or leave compile out"
            ) from error

    def _converted(self) -> Callable[[Tensor], Tensor] | None:
        """OpenVINO's `network.leave`; None, and it is said, where the model does not fit."""
        vit: Any = self.vit
        try:
            with self.running():
                example = self._example()
            with unchanged(vit.module):
                return openvino_leave(self.network, example, bf16=self.engine.precision == "bf16")
        except Exception as error:  # whatever the converter raises
            warnings.warn(
                f"{vit.name} does not fit OpenVINO ({_first_words(error)}); torch computes it",
                stacklevel=2,
            )
        return None

    def _use(self, leave: Callable[[Tensor], Tensor] | None) -> None:
        if leave is not None:
            self.network, self.backend = replace(self.network, leave=leave), "openvino"


def prepare(
    model: Model, engine: Engine | MaskedModel | None = None, device: str | None = None
) -> MaskedModel:
    """A model ready for masked forward passes.

    Args:
        model: A ViT, or any callable from images to logits.
        engine: What to run on; by default torch, in the model's own precision. One that was
            prepared already is returned as it is.
        device: Of the images, "cpu" or "cuda"; a ViT knows it.

    Raises:
        ValueError: an engine that this model or machine cannot take, or that was prepared for
            another model.
    """
    if isinstance(engine, MaskedModel):
        if engine.source is not model:
            raise InputError("the engine was prepared for another model; prepare it for this one")
        return engine
    where = model.device.type if isinstance(model, ViT) else device or "cpu"
    return MaskedModel(model, engine or Engine(), where)


def is_installed() -> bool:
    """Whether `import openvino` works."""
    return find_spec("openvino") is not None


def openvino_leave(network: Network, example: Tensor, *, bf16: bool) -> Callable[[Tensor], Tensor]:
    """`network.leave`, converted from torch and compiled for as many threads as torch has.

    Batches and, in tokens, sequences of any length are taken. Its telemetry stays off.

    Args:
        network: A cut model in evaluation mode.
        example: What enters it.
        bf16: Compute in bfloat16; otherwise float32 throughout (OpenVINO's own choice is the
            fastest that the processor has).

    Raises:
        Exception: what the converter raises where it cannot take the model.
        ValueError: converted, it gives other logits.
    """
    import openvino
    from openvino.tools.ovc import telemetry_stub, telemetry_utils

    telemetry_utils.tm = telemetry_stub  # which sends nothing
    leave: Any = network.leave
    if example.dtype == torch.float64:
        raise ValueError("it computes in float64, which OpenVINO does not")
    free = [-1, -1, *example.shape[2:]] if network.in_tokens else [-1, *example.shape[1:]]
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO traces, which torch discourages
        module = leave if example.dtype == torch.float32 else copy.deepcopy(leave).float()
        example = torch.cat([example[:1]] * 3).float()  # normal tensors, whatever the caller's mode
        converted = openvino.convert_model(module, example_input=example[:2], input=free)
        expected = module(example)
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(converted, "CPU", settings)

    def run(inputs: Tensor) -> Tensor:
        given = inputs.float().contiguous().numpy()
        return torch.from_numpy(compiled([given], share_inputs=True)[0])

    gap = float((run(example) - expected).abs().max() / expected.abs().max())
    if not gap < (0.1 if bf16 else TOLERANCE):
        raise ValueError(f"converted, it gives other logits (relative difference {gap:.1e})")
    return run


def _copied(model: Any, engine: Engine) -> ViT:
    """The model with weights of its own, in evaluation mode, without gradients."""
    if not isinstance(model, ViT):
        asked = "compile=true" if engine.compile else "precision='bf16'"
        raise InputError(f"{asked} takes a ViT, got {type(model).__name__}; see wrap_model")
    with torch.inference_mode(False), unchanged(model.module):
        module = copy.deepcopy(model.module)
    dtype = torch.bfloat16 if engine.precision == "bf16" else model.dtype
    return replace(model, module=module.to(dtype).requires_grad_(False).eval())


def _first_words(error: Exception) -> str:
    """Kind and reason in one line, of errors that fill a screen."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
