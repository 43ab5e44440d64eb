"""One timm network from the weights of another library's, checked against the original."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers import Mlp, SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from attnguide.errors import InputError
from attnguide.models.preprocess import Preprocess
from attnguide.models.probe import evaluating

TOLERANCE = 1e-4
EXACT = (torch.float32, torch.float64)


class ClassAndMean(VisionTransformer):  # type: ignore[misc]
    """A head on the class token and the mean of the patches side by side, as DINOv2 has it.

    The head gives the two halves of its input different weights, so no single row of a rollout
    belongs to its output. `ViT.readout` counts both halves alike: 0.5 for the class token and
    0.5 spread evenly over the patches. Methods that start from the gradient of the head (LRP, the
    GradCAM family, the correction of every layer) see the true weights all the same.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.global_pool = "class_and_mean"

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:  # noqa: ARG002
        """(B, 2 D) from (B, N, D)."""
        return torch.cat([x[:, 0], x[:, self.num_prefix_tokens :].mean(1)], 1)


@dataclass(frozen=True)
class Form:
    """What a foreign network is in timm's terms.

    Attributes:
        weights: Under timm's names, without the heads.
        heads: Reading the class token; the second, if any, the distillation token.
        num_heads: Attention heads.
        image_size, patch_size: (height, width) in pixels.
        eps: Of the layer norms.
        activation: Makes the MLP's activation.
        kind: timm's `VisionTransformer` or a variant of it.
        answer: The original's (module, images) to logits.
        preprocess: For its library's published weights.
        class_names: Its own, if it has any.
        multi_label: Whether each class has a sigmoid of its own.
    """

    weights: dict[str, Tensor]
    heads: tuple[nn.Module, ...]
    num_heads: int
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    eps: float
    activation: Callable[[], nn.Module]
    kind: type[nn.Module]
    answer: Callable[[Any, Tensor], Tensor]
    preprocess: Preprocess
    class_names: tuple[str, ...] | None = None
    multi_label: bool = False


def refused(module: nn.Module, reason: str) -> InputError:
    """The error that names the model and says why it cannot be converted."""
    return InputError(f"cannot explain this {type(module).__name__}: {reason}")


def has_ancestor(module: nn.Module, library: str) -> list[str]:
    """Names of the classes of `library` that the module is an instance of, nearest first."""
    prefix = f"{library}."
    return [kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith(prefix)]


def renamed(
    state: Mapping[str, Tensor], stem: Mapping[str, str], block: str, parts: Mapping[str, str]
) -> dict[str, Tensor]:
    """Weights under timm's names; a name without counterpart stays as it is.

    Args:
        state: Original names to tensors.
        stem: Beginnings of names outside the blocks, original to timm's.
        block: Pattern of a block's beginning, with the layer as its only group.
        parts: Beginnings of names inside a block, original to timm's.
    """
    weights = {}
    for key, tensor in state.items():
        found = re.match(block, key)
        start, rest, table = "", key, stem
        if found:
            start, rest, table = f"blocks.{found[1]}.", key[found.end() :], parts
        old = next((old for old in table if rest.startswith(old)), "")
        weights[start + table.get(old, "") + rest[len(old) :]] = tensor
    return weights


def convert(module: nn.Module, form: Form) -> nn.Module:
    """The network of `form`, with weights of its own, in evaluation mode, without dropout.

    Raises:
        ValueError: weights without counterpart, or other logits than the original's.
    """
    with torch.inference_mode(False), torch.no_grad():
        first = form.weights["cls_token"]
        dtype = first.dtype if first.dtype in EXACT else torch.float32
        network = _build(module, form, dtype)
        logits = _check_logits(module, form, network, dtype)
        network.num_classes = logits.shape[-1]
        network.to(first.dtype)
    return network


def _build(module: nn.Module, form: Form, dtype: torch.dtype) -> Any:
    weights = _own_weights(module, form.weights, dtype)
    layers = [f"blocks.0.{name}.weight" for name in ("attn.qkv", "mlp.fc1", "mlp.fc2")]
    if not weights.keys() >= set(layers):
        raise refused(
            module,
            "its blocks hold more than plain layers; merge adapters into their weights first",
        )
    depth = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    width = weights["cls_token"].shape[-1]
    registers = weights.get("reg_token", weights["cls_token"][:, :0]).shape[1]
    qkv, inner, outer = (weights[name] for name in layers)
    rows, cols = (
        size // patch for size, patch in zip(form.image_size, form.patch_size, strict=True)
    )
    if qkv.shape[0] != 3 * width or width % form.num_heads:
        raise refused(
            module, f"its {form.num_heads} attention heads do not share the {width} channels evenly"
        )
    with torch.device("meta"):
        network: Any = form.kind(
            img_size=form.image_size,
            patch_size=form.patch_size,
            num_classes=0,
            embed_dim=width,
            depth=depth,
            num_heads=form.num_heads,
            mlp_ratio=(inner.shape[0] + 0.5) / width,  # a block takes the integer part
            mlp_layer=Mlp if inner.shape[0] == outer.shape[1] else SwiGLUPacked,
            qkv_bias="blocks.0.attn.qkv.bias" in weights,
            init_values=1.0 if "blocks.0.ls1.gamma" in weights else None,
            reg_tokens=registers,
            no_embed_class=weights["pos_embed"].shape[1] == rows * cols,
            norm_layer=partial(nn.LayerNorm, eps=form.eps),
            act_layer=form.activation,
        )
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        told = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise refused(
            module, f"its weights do not fit a plain vision transformer: {told}"
        ) from None
    heads = [
        _own_head(head).to(dtype=dtype, device=weights["cls_token"].device) for head in form.heads
    ]
    network.head = heads[0]
    if len(heads) > 1:
        network.head_dist = heads[1]
    return network.eval()


def _own_weights(
    module: nn.Module, weights: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Copies on one device, of one precision."""
    device = weights["cls_token"].device
    for key, tensor in weights.items():
        if tensor.is_meta or not tensor.is_floating_point():
            kind = "not in memory" if tensor.is_meta else str(tensor.dtype)
            raise refused(
                module,
                f"weight {key} is {kind}; load the model without quantisation and offloading",
            )
    return {key: w.detach().to(device, dtype, copy=True) for key, w in weights.items()}


def _own_head(head: nn.Module) -> nn.Module:
    """A copy; of a sequence of one linear layer and dropout, the linear layer alone."""
    if isinstance(head, nn.Sequential):
        parts = [part for part in head if not isinstance(part, nn.Dropout | nn.Identity)]
        if len(parts) == 1:
            head = parts[0]
    return copy.deepcopy(head).requires_grad_(True)


def _check_logits(module: nn.Module, form: Form, network: nn.Module, dtype: torch.dtype) -> Tensor:
    """(2, C) logits of two random images, after comparing them with the original's."""
    half = form.weights["cls_token"].dtype not in EXACT
    original = copy.deepcopy(module).float() if half else module
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, *form.image_size, generator=generator, dtype=dtype)
    images = images.to(form.weights["cls_token"].device)
    try:
        with evaluating(original):
            expected = form.answer(original, images)
    except Exception as error:  # whatever the user's code raises
        raise refused(
            module,
            f"it does not run on images {tuple(images.shape)} of {dtype} "
            f"({type(error).__name__}: {str(error)[:150]})",
        ) from error
    logits: Tensor = network(images)
    if logits.shape != expected.shape:
        raise refused(
            module,
            f"it returned logits {tuple(expected.shape)}, its converted form {tuple(logits.shape)}",
        )
    largest = float((logits - expected.to(logits)).abs().max())
    allowed = TOLERANCE * float(expected.abs().max())
    if not largest <= allowed:
        raise refused(
            module,
            f"its converted form gives other logits; the largest difference is {largest:.3g}, "
            f"allowed is {allowed:.3g} ({TOLERANCE:g} of the largest logit). Its forward pass does "
            "something that its weights and settings do not tell; pass a timm VisionTransformer",
        )
    return logits
