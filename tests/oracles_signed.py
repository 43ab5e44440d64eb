"""The signed methods again, one image at a time, from their definitions and not from the code.

The network is copied and its parts are replaced by ones written here, with `detach` where a
derivative is held; nothing is hooked by the code under test.
"""

import copy

import numpy as np
import torch
from timm.layers import GluMlp
from torch import nn


def patch_sums(values, patch):
    """(rows, cols) sums of pixels (3, H, W) over squares, pixel by pixel."""
    values = values.numpy()
    out = np.zeros((values.shape[1] // patch[0], values.shape[2] // patch[1]))
    for channel in range(3):
        for y in range(out.shape[0] * patch[0]):
            for x in range(out.shape[1] * patch[1]):
                out[y // patch[0], x // patch[1]] += values[channel, y, x]
    return out


def pixel_gradient(module, image, target):
    """d logit / d image, (3, H, W)."""
    leaf = image.detach().clone().requires_grad_()
    module(leaf.unsqueeze(0))[0, target].backward()
    return leaf.grad


class Norm(nn.Module):
    """LayerNorm whose deviation is held."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        deviation = (x.var(-1, unbiased=False, keepdim=True) + self.eps).sqrt()
        return centred / deviation.detach() * self.weight + self.bias


class Gelu(nn.Module):
    """x Phi(x), Phi held."""

    def forward(self, x):
        return x * (torch.erf(x / 2**0.5) / 2 + 0.5).detach()


class Silu(nn.Module):
    """x sigmoid(x), sigmoid held."""

    def forward(self, x):
        return x * x.sigmoid().detach()


class Half(nn.Module):
    """Hands on half of the gradient."""

    def forward(self, x):
        return x / 2 + (x / 2).detach()


class Attention(nn.Module):
    """timm's attention spelled out, with shares of the gradients of query, key and value."""

    def __init__(self, attn, query_key, value):
        super().__init__()
        self.attn, self.query_key, self.value = attn, query_key, value

    def forward(self, x, attn_mask=None, is_causal=False):
        a, (batch, tokens, _) = self.attn, x.shape
        qkv = a.qkv(x).reshape(batch, tokens, 3, a.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        shares = (self.query_key, self.query_key, self.value)
        q, k, v = (
            share * part + ((1 - share) * part).detach()
            for share, part in zip(shares, (a.q_norm(q), a.k_norm(k), v), strict=True)
        )
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
        return a.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, -1))


def edited(module, query_key, value):
    """A copy of the network in which the gradient is that of CP-LRP (0, 1) or AttnLRP."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.LayerNorm):
                setattr(parent, name, Norm(part))
            elif isinstance(part, nn.GELU):
                setattr(parent, name, Gelu())
            elif isinstance(part, nn.SiLU):
                setattr(parent, name, Silu())
        if isinstance(parent, GluMlp):
            parent.drop1 = Half()
    for block in module.blocks:
        block.attn = Attention(block.attn, query_key, value)
    return module.eval()


def gamma_gradient(weight, bias, inputs, gradient, gamma):
    """Gradient handed on by one affine layer with the gamma rule, term by term."""
    out, count = weight.shape
    result = np.zeros(count)
    for o in range(out):
        terms = [*(weight[o, i] * inputs[i] for i in range(count)), bias[o]]
        total = sum(terms)
        favoured = [t * (1 + gamma) if t * total > 0 else t for t in terms]
        if total == 0:
            continue
        share = gradient[o] * total / (sum(favoured) + np.sign(sum(favoured)) * 1e-6)
        for i in range(count):
            result[i] += favoured[i] * share
    return result / (inputs + np.where(inputs < 0, -1e-10, 1e-10))


def unfused(module, image):
    """Logits, tokens entering blocks, block outputs and attention of one image, on one graph."""
    entered, left, attention, hooks = [], [], [], []
    for block in module.blocks:
        block.attn.fused_attn = False
        hooks += [
            block.register_forward_pre_hook(lambda _, args: entered.append(args[0])),
            block.register_forward_hook(lambda _, __, output: left.append(output)),
            block.attn.attn_drop.register_forward_hook(lambda _, __, out: attention.append(out)),
        ]
    logits = module(image.unsqueeze(0))[0]
    for hook in hooks:
        hook.remove()
    return logits, entered, left, attention


def attcat(vit, image, target, weighted):
    """Tokens times gradient, times the mean attention each of them receives."""
    logits, entered, _, attention = unfused(vit.module, image)
    gradients = torch.autograd.grad(logits[target], entered)
    total = np.zeros(vit.num_tokens)
    for tokens, gradient, matrix in zip(entered, gradients, attention, strict=True):
        matrix = matrix.detach().numpy()
        heads, n = matrix.shape[1:3]
        for p in range(n):
            read = sum(matrix[0, h, i, p] for h in range(heads) for i in range(n))
            term = float((tokens[0, p].detach() * gradient[0, p]).sum())
            total[p] += term * (read / (heads * n) if weighted else 1)
    return total[vit.num_prefix :].reshape(vit.grid)


def cdam(vit, image, target):
    """Last norm1's output times its gradient; the residual does not pass through it."""
    seen = []
    hook = vit.module.blocks[-1].norm1.register_forward_hook(
        lambda _, __, output: seen.append(output)
    )
    logit = vit.module(image.unsqueeze(0))[0, target]
    hook.remove()
    (gradient,) = torch.autograd.grad(logit, seen[0])
    values = (seen[0] * gradient)[0].sum(-1).detach().numpy()
    return values[vit.num_prefix :].reshape(vit.grid)


def legrad(vit, image, target, layers):
    """Per layer: the mean of all its output tokens through norm and head, back to its attention."""
    module = vit.module
    _, _, left, attention = unfused(module, image)
    total = np.zeros(vit.num_tokens)
    for tokens, matrix in list(zip(left, attention, strict=True))[-layers:]:
        feature = module.fc_norm(module.norm(tokens.mean(1)))
        heads = [module.head, getattr(module, "head_dist", None)]
        score = torch.stack([h(feature)[0, target] for h in heads if h is not None]).mean()
        gradient = torch.autograd.grad(score, matrix, retain_graph=True)[0].numpy()
        count, n = gradient.shape[1:3]
        for p in range(n):
            positive = [max(gradient[0, h, i, p], 0) for h in range(count) for i in range(n)]
            total[p] += sum(positive) / (count * n)
    return total[vit.num_prefix :].reshape(vit.grid)
