"""timm's vision transformer and its block: whether a network is exactly that, part by part.

The only file that knows their parts. What is computed in a shorter way elsewhere, or read from
weights, is so only for a network that `is_standard`; every other one is run as it is.
"""

from __future__ import annotations

import sys
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_standard(module: Any) -> bool:
    """Whether a network runs timm's forward through timm's standard blocks, nothing replaced.

    How it embeds positions, pools and classifies may be its own: these steps are called, whatever
    they are (`_pos_embed`, `norm_pre`, `norm`, `forward_head`).
    """
    return (
        not why_not_standard(module)
        and all(type(layer) is nn.Linear for layer in chain(*map(linear_layers, module.blocks)))
        and not any(map(_is_watched, module.modules()))
    )


def forward(module: Any, images: Tensor) -> Tensor:
    """(B, C) logits of a standard network; the last block ends with the tokens the head reads."""
    x = module.patch_drop(module._pos_embed(module.patch_embed(images)))
    x = module.blocks[:-1](module.norm_pre(x))
    x = _first_tokens(module.blocks[-1], x, tokens_read(module, x.shape[1]))
    logits: Tensor = module.forward_head(module.norm(x))
    return logits


def _first_tokens(block: Any, x: Tensor, count: int) -> Tensor:
    """(B, count, D): a standard block's output for the first tokens, which read all of them."""
    attn = block.attn
    heads = attn.qkv(block.norm1(x)).unflatten(-1, (3, attn.num_heads, attn.head_dim))
    out = F.scaled_dot_product_attention(*heads.permute(2, 0, 3, 1, 4).unbind(0))
    x = x[:, :count] + block.ls1(attn.proj(out[:, :, :count].transpose(1, 2).flatten(2)))
    y: Tensor = x + block.ls2(block.mlp(block.norm2(x)))
    return y


def prefix_block(block: Any, x: Tensor, prefix: int) -> Tensor:
    """(M, prefix, D): a standard block's output for the prefix tokens alone, exactly."""
    attn = block.attn
    batch, tokens, width = x.shape
    heads = (attn.num_heads, attn.head_dim)
    y = block.norm1(x)
    weights = attn.qkv.weight.split([width, 2 * width])
    biases = (None, None) if attn.qkv.bias is None else attn.qkv.bias.split([width, 2 * width])
    q = F.linear(y[:, :prefix], weights[0], biases[0]).view(batch, prefix, *heads)
    k, v = F.linear(y, weights[1], biases[1]).view(batch, tokens, 2, *heads).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, scale=attn.scale)
    x = x[:, :prefix] + block.ls1(attn.proj(out.transpose(1, 2).reshape(batch, prefix, width)))
    return x + block.ls2(block.mlp(block.norm2(x)))


def tokens_read(module: Any, n: int) -> int:
    """How many of the first of `n` tokens the head reads: its prefix, or all of them.

    All of them, too, wherever the pooling is not timm's own.
    """
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    heads = (
        VisionTransformer.forward_head,
        VisionTransformerDistilled.forward_head,
    )
    own = (
        getattr(type(module), "forward_head", None) in heads
        and getattr(type(module), "pool", None) is VisionTransformer.pool
        and all(_is_original(module, name) for name in ("forward_head", "pool"))
    )
    by_class = own and module.attn_pool is None and module.global_pool == "token"
    return int(module.num_prefix_tokens) if by_class else n


def why_not_standard(module: Any) -> str:
    """What a network has that timm's standard one has not, in words; nothing if it is that.

    Its forward, every block and everything that is called inside must be timm's (and PyTorch's)
    own code: not overridden in a subclass, on the instance, or on timm's class.
    """
    from timm.models.vision_transformer import VisionTransformer

    kind = type(module)
    if not isinstance(module, VisionTransformer):
        return f"it is a {kind.__name__}"
    if not _is_idle(module.patch_drop):
        return f"it drops patches by a {type(module.patch_drop).__name__}"
    for name in ("forward", "forward_features"):
        if getattr(kind, name) is not getattr(VisionTransformer, name) or not _is_original(
            module, name
        ):
            return f"its {name} is not timm's"
    if type(module.blocks) is not nn.Sequential:
        return f"its blocks are a {type(module.blocks).__name__}"
    odd = ((layer, _why_block_not_standard(block)) for layer, block in enumerate(module.blocks))
    return next((f"its block {layer} has {part}" for layer, part in odd if part), "")


def _why_block_not_standard(block: Any) -> str:
    from timm.layers import Attention, Mlp
    from timm.models.vision_transformer import Block

    if type(block) is not Block:
        return f"type {type(block).__name__}"
    attn: Any = getattr(block, "attn", None)
    mlp: Any = getattr(block, "mlp", None)
    if type(attn) is not Attention:
        return f"attention of type {type(attn).__name__}"
    if type(mlp) is not Mlp:
        return f"an MLP of type {type(mlp).__name__}"
    added = {
        "qk-norm": attn.q_norm,
        "a norm after attention": getattr(attn, "norm", None),
        "gated attention": getattr(attn, "gate", None),
        "a norm inside the MLP": mlp.norm,
    }
    odd = [name for name, part in added.items() if not isinstance(part, nn.Identity | None)]
    dropped = (attn.attn_drop, attn.proj_drop, block.drop_path1, block.drop_path2)
    odd += [f"a {type(part).__name__} in a drop" for part in dropped if not _is_idle(part)]
    odd += [
        f"a {type(part).__name__} whose forward was replaced"
        for part in block.modules()
        if not _is_original(part, "forward")
    ]
    return next(iter(odd), "")


def _is_idle(part: nn.Module) -> bool:
    """Whether a part does nothing in evaluation mode."""
    from timm.layers import DropPath, PatchDropout

    return type(part) in (nn.Identity, nn.Dropout, DropPath, PatchDropout)


def effective_weight(layer: Any, width: int) -> Tensor:
    """(out, in) of a linear layer, with what adapters beside it (LoRA) add.

    Where the layer is more than PyTorch's, it is asked for its answer to each of the `width` unit
    vectors.
    """
    if type(layer) is nn.Linear and _is_original(layer, "forward") and not _is_watched(layer):
        weight: Tensor = layer.weight.detach()
        return weight
    own = next((p for p in layer.parameters() if p.is_floating_point()), torch.empty(0))
    with torch.no_grad():
        unit = torch.eye(width, dtype=own.dtype, device=own.device)
        answers: Tensor = layer(unit) - layer(torch.zeros_like(unit))
    return answers.mT


def linear_layers(block: Any) -> tuple[Any, ...]:
    """Of a standard block."""
    return block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2


def _is_original(part: nn.Module, name: str) -> bool:
    """Whether a method is what its class's author wrote: nobody put another in its place.

    Recipes for reading attention replace a method on the instance or on timm's class, often by a
    `functools.wraps` that copies name and module; the file that its code was compiled from tells.
    Methods of the user's own classes are theirs.
    """
    if name in vars(part):
        return False
    owner = next(kind for kind in type(part).__mro__ if name in vars(kind))
    if owner.__module__.split(".")[0] not in ("timm", "torch"):
        return True
    code = getattr(vars(owner)[name], "__code__", None)
    return code is not None and code.co_filename == sys.modules[owner.__module__].__file__


def _is_watched(part: nn.Module) -> bool:
    """Somebody hooked into it: it must be called as usual."""
    return any(getattr(part, name) for name in _HOOKS)
