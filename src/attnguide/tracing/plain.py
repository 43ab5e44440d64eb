"""timm's plain vision transformer, forward and backward written out.

The backward pass wants the gradient of every attention matrix and of nothing else, so it is written
by hand: no graph, no copies between layouts, activations freed as the pass comes down, and the last
block computed for the tokens that the head reads alone. It equals autograd's result to rounding;
every other network takes that way (`capture.Pass`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnguide.tracing.capture import Pass, Recording, unchanged

_aten = torch.ops.aten


@dataclass
class _Block:
    """What the backward pass needs of one block; R rows are computed after the attention."""

    entered: Tensor  # (B, N, D)
    norm1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor, Tensor]  # (B * H, N, d) each
    attention: Tensor  # (B * H, N, N)
    middle: Tensor  # (B, R, D)
    norm2: tuple[Tensor, Tensor]
    hidden: Tensor  # (B, R, 4 D) before the GELU


class PlainPass(Pass):
    """One forward pass, and its backward pass as often as it is asked for."""

    def __init__(self, module: Any, images: Tensor) -> None:
        """Run forward.

        Args:
            module: A timm network that `is_plain`.
            images: (B, 3, H, W), normalised.
        """
        self.module, self.recording = module, Recording()
        with torch.no_grad(), unchanged(module):
            x = module.norm_pre(module.patch_drop(module._pos_embed(module.patch_embed(images))))
            self._blocks: list[_Block] = []
            for block in module.blocks[:-1]:
                x = self._enter(block, x, x.shape[1])
            x = self._enter(module.blocks[-1], x, rows_read(module, x.shape[1]))
        with torch.enable_grad(), unchanged(module):
            self._read = x.requires_grad_()
            self.logits = module.forward_head(module.norm(x))

    def gradient(
        self, objective: Callable[[Tensor], Tensor], *, keep: bool = True
    ) -> tuple[Tensor, ...]:
        """As `capture.Pass.gradient`."""
        (flow,) = torch.autograd.grad(
            objective(self.logits).sum(), self._read, retain_graph=keep, materialize_grads=True
        )
        gradients: list[Tensor] = []
        with torch.no_grad():
            for layer in reversed(range(len(self._blocks))):
                saved = self._blocks[layer] if keep else self._blocks.pop()
                block = self.module.blocks[layer]
                flow, out = self._leave_mlp(block, saved, flow)
                gradient = torch.bmm(out, saved.qkv[2].mT)
                gradients.append(self._whole(gradient, saved))
                if layer:
                    flow = self._leave_attention(block, saved, flow, out, gradient)
        return tuple(reversed(gradients))

    def _enter(self, block: Any, x: Tensor, rows: int) -> Tensor:
        """(B, rows, D): a block's output for its first `rows` tokens."""
        attn, mlp = block.attn, block.mlp
        batch, tokens, _ = x.shape
        y, norm1 = _normalize(block.norm1, x)
        heads = attn.qkv(y).view(batch, tokens, 3, attn.num_heads, attn.head_dim)
        heads = heads.permute(2, 0, 3, 1, 4).contiguous()
        q, k, v = (part.flatten(0, 1) for part in heads.unbind(0))
        attention = torch.bmm(q * attn.scale, k.mT).softmax(-1)
        out = torch.bmm(attention[:, :rows], v).view(batch, attn.num_heads, rows, attn.head_dim)
        middle = block.ls1(attn.proj(out.transpose(1, 2).flatten(2))).add_(x[:, :rows])
        y, norm2 = _normalize(block.norm2, middle)
        hidden = mlp.fc1(y)
        self._blocks.append(_Block(x, norm1, (q, k, v), attention, middle, norm2, hidden))
        self.recording.add(attention.unflatten(0, (batch, -1)), *heads)
        left: Tensor = block.ls2(mlp.fc2(mlp.act(hidden))).add_(middle)
        return left

    def _leave_mlp(self, block: Any, saved: _Block, flow: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of `middle` (B, R, D) and of attention @ value (B * H, R, d)."""
        attn, mlp = block.attn, block.mlp
        hidden = _aten.gelu_backward(
            _scaled(block.ls2, flow) @ mlp.fc2.weight,
            saved.hidden,
            approximate=mlp.act.approximate,
        )
        entered = _unnormalize(block.norm2, saved.middle, saved.norm2, hidden @ mlp.fc1.weight)
        flow = entered.add_(flow)
        out = _scaled(block.ls1, flow) @ attn.proj.weight
        heads = out.unflatten(-1, (attn.num_heads, attn.head_dim)).transpose(1, 2)
        return flow, heads.flatten(0, 1)

    def _leave_attention(
        self, block: Any, saved: _Block, flow: Tensor, out: Tensor, gradient: Tensor
    ) -> Tensor:
        """The gradient of `entered` (B, N, D)."""
        attn, rows = block.attn, flow.shape[1]
        q, k, v = saved.qkv
        attention = saved.attention[:, :rows]
        score = _aten._softmax_backward_data(gradient, attention, -1, gradient.dtype)
        heads = torch.empty(3, *v.shape, dtype=v.dtype, device=v.device)
        if rows < v.shape[1]:
            heads[0, :, rows:] = 0
        torch.bmm(score, k, out=heads[0, :, :rows])
        torch.bmm(score.mT, q[:, :rows], out=heads[1])
        heads[:2].mul_(attn.scale)
        torch.bmm(attention.mT, out, out=heads[2])
        heads = heads.unflatten(1, (len(flow), -1)).permute(1, 3, 0, 2, 4).flatten(2)
        entered = _unnormalize(block.norm1, saved.entered, saved.norm1, heads @ attn.qkv.weight)
        entered[:, :rows] += flow
        return entered

    def _whole(self, gradient: Tensor, saved: _Block) -> Tensor:
        """(B, H, N, N): nothing flows into rows that the head does not read."""
        whole = gradient
        if gradient.shape[1] < saved.attention.shape[1]:
            whole = torch.zeros_like(saved.attention)
            whole[:, : gradient.shape[1]] = gradient
        return whole.unflatten(0, (len(saved.entered), -1))


def rows_read(module: Any, tokens: int) -> int:
    """How many of the first tokens a timm network's head reads: its prefix, or all of them."""
    by_class = module.attn_pool is None and module.global_pool == "token"
    return module.num_prefix_tokens if by_class else tokens


def is_plain(module: nn.Module) -> bool:
    """Whether this is timm's VisionTransformer with unchanged parts, each as `PlainPass` has it."""
    from timm.models.vision_transformer import VisionTransformer

    kind: Any = type(module)
    return (
        isinstance(module, VisionTransformer)
        and kind.forward is VisionTransformer.forward
        and kind.forward_features is VisionTransformer.forward_features
        and all(map(_is_plain_block, module.blocks))
        and not any(map(_is_watched, module.modules()))
        and not torch.is_autocast_enabled(next(module.parameters()).device.type)
    )


def _is_plain_block(block: Any) -> bool:
    from timm.layers import Attention, LayerNorm, Mlp
    from timm.models.vision_transformer import Block, LayerScale

    if type(block) is not Block or type(block.attn) is not Attention or type(block.mlp) is not Mlp:
        return False
    attn, mlp = block.attn, block.mlp
    absent = (attn.q_norm, attn.k_norm, getattr(attn, "norm", nn.Identity()), mlp.norm)
    return (
        getattr(attn, "gate", None) is None
        and all(type(part) is nn.Identity for part in absent)
        and all(type(part) is nn.Linear for part in (attn.qkv, attn.proj, mlp.fc1, mlp.fc2))
        and all(type(part) in (nn.LayerNorm, LayerNorm) for part in (block.norm1, block.norm2))
        and all(type(part) in (nn.Identity, LayerScale) for part in (block.ls1, block.ls2))
        and type(mlp.act) is nn.GELU
    )


def _is_watched(part: Any) -> bool:
    """Somebody hooked into it or replaced its forward: it must be called as usual."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(part) or any(getattr(part, name) for name in hooks)


def _normalize(norm: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Normalised (B, N, D), and its moments: mean and 1 / standard deviation (B, N, 1)."""
    y, *moments = torch.native_layer_norm(
        x, norm.normalized_shape, norm.weight, norm.bias, norm.eps
    )
    return y, (moments[0], moments[1])


def _unnormalize(norm: Any, x: Tensor, moments: tuple[Tensor, Tensor], flow: Tensor) -> Tensor:
    """The gradient of what `_normalize` was given."""
    gradient: Tensor = _aten.native_layer_norm_backward(
        flow, x, norm.normalized_shape, *moments, norm.weight, norm.bias, [True, False, False]
    )[0]
    return gradient


def _scaled(scale: Any, flow: Tensor) -> Tensor:
    """Through a LayerScale, or through nothing."""
    gamma = getattr(scale, "gamma", None)
    return flow if gamma is None else flow * gamma
