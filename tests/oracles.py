"""The paper's equations again: plain loops, float64, written from the paper and not from the code.

Slow on purpose. A is a list of (H, N, N) arrays, one per layer, G the gradients.
"""

import numpy as np


def layer_matrix(a, g, weight):
    """I + mean over heads of weight(g) * a, entry by entry (Eq. 1, 4, 5, 6)."""
    heads, n, _ = a.shape
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            total = 0.0
            for h in range(heads):
                total += weight(g[h, i, j]) * a[h, i, j]
            out[i, j] = total / heads + (1.0 if i == j else 0.0)
    return out


WEIGHTS = {
    "rollout": lambda _: 1.0,
    "gae": lambda g: g if g > 0 else 0.0,
    "complete": lambda g: g,
    "absolute": lambda g: -g if g < 0 else g,
}


def before_the_softmax(a, g):
    """d loss / d scores, entry by entry: sum over k of g_ik d a_ik / d score_ij."""
    heads, n, _ = a.shape
    out = np.zeros_like(a)
    for h in range(heads):
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    slope = a[h, i, k] * ((k == j) - a[h, i, j])
                    out[h, i, j] += g[h, i, k] * slope
    return out


def rollout_map(attention, gradient, weight, start, prefix, grid):
    """Full product, later layer on the left (Eq. 2), then the start row's patch columns (Eq. 3)."""
    n = attention[0].shape[-1]
    product = np.eye(n)
    for a, g in zip(attention, gradient, strict=True):
        product = layer_matrix(a, g, weight) @ product
    row = np.zeros(n)
    for token in range(n):
        row += start[token] * product[token]
    return row[prefix:].reshape(grid)


def attention_and_gradient(vit, image, target, loss, reference=None):
    """A and G of one image by finite means: attention hooked from timm's unfused path, autograd."""
    import torch

    module, kept = vit.module, []
    for parameter in module.parameters():
        parameter.requires_grad_(True)

    def keep(_module, _inputs, output):
        output.retain_grad()
        kept.append(output)

    hooks = [block.attn.attn_drop.register_forward_hook(keep) for block in module.blocks]
    flags = [block.attn.fused_attn for block in module.blocks]
    for block in module.blocks:
        block.attn.fused_attn = False
    try:
        logits = module(image.unsqueeze(0))[0]
        value = {
            "logit": lambda: logits[target],
            "log_probability": lambda: logits[target] - logits.exp().sum().log(),
            "relative_contrast": lambda: (logits[target] - logits[reference]) / logits[target],
            "difference": lambda: logits[target] - logits[reference],
            "ratio": lambda: logits[target] / logits[reference],
        }[loss]()
        value.backward()
    finally:
        for hook in hooks:
            hook.remove()
        for block, flag in zip(module.blocks, flags, strict=True):
            block.attn.fused_attn = flag
        module.zero_grad()
    a = [k.detach()[0].numpy().astype(np.float64) for k in kept]
    g = [k.grad[0].numpy().astype(np.float64) for k in kept]
    assert torch.isfinite(logits).all()
    return a, g
