"""Relevance propagation again: one image, numpy float64, contribution by contribution.

Written from the published rules and not from the code. z[i, j] is what input i adds to output j.
"""

import numpy as np
from scipy.special import erf


def q(r, b):
    """Stabilised quotient, entry by entry."""
    out = np.zeros_like(b)
    for index in np.ndindex(b.shape):
        if b[index] != 0:
            bottom = b[index] + 1e-9
            out[index] = r[index] / (bottom if bottom != 0 else 1e-9)
    return out


def linear(r, x, w, separate):
    """Each output's relevance, shared among the inputs that pushed it up."""
    out = np.zeros_like(x)
    for token in range(len(x)):
        z = x[token][:, None] * w.T
        up = np.where(z > 0, z, 0)
        groups = [x[token] > 0, x[token] < 0] if separate else [x[token] != 0]
        for group in groups:
            part = np.where(group[:, None], up, 0)
            out[token] += (part * q(r[token], part.sum(0))).sum(1)
    return out


def add(r, a, b, separate):
    s = q(r, a + b)
    ra, rb = a * s, b * s
    if separate:
        return ra, rb
    size_a, size_b = abs(ra.sum()), abs(rb.sum())
    both = np.array([size_a + size_b])
    want_a = q(np.array([size_a]), both)[0] * r.sum()
    want_b = q(np.array([size_b]), both)[0] * r.sum()
    factor_a = q(np.array([want_a]), np.array([ra.sum()]))[0]
    factor_b = q(np.array([want_b]), np.array([rb.sum()]))[0]
    return ra * factor_a, rb * factor_b


def product(r, a, b):
    """z[i, k, j] = a[i, k] b[k, j]; half of its share to each factor."""
    z = a[:, :, None] * b[None]
    share = z * q(r, z.sum(1))[:, None, :]
    return share.sum(2) / 2, share.sum(0) / 2


def fork(parts, x):
    return sum(x * q(part, x) for part in parts)


def norm(x, layer):
    if not hasattr(layer, "weight"):
        return x
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    return scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def affine(x, layer):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def scaled(x, layer):
    return x * layer.gamma.detach().numpy() if hasattr(layer, "gamma") else x


def forward(vit, image):
    """Tokens after the patch embedding, after the positions, and per block what rules need."""
    m = vit.module
    ph, pw = vit.patch_size
    rows, cols = vit.grid
    kernel = m.patch_embed.proj.weight.detach().numpy()
    bias = m.patch_embed.proj.bias.detach().numpy()
    patches = [
        (kernel * image[:, ph * r : ph * (r + 1), pw * c : pw * (c + 1)]).sum((1, 2, 3)) + bias
        for r in range(rows)
        for c in range(cols)
    ]
    prefix = [getattr(m, name, None) for name in ("cls_token", "dist_token", "reg_token")]
    prefix = [p.detach().numpy()[0] for p in prefix if p is not None]
    x = np.concatenate([*prefix, np.array(patches)]) + m.pos_embed.detach().numpy()[0]
    embedded, blocks = x, []
    for block in m.blocks:
        keep = {"x": x, "n1": norm(x, block.norm1)}
        count = block.attn.num_heads
        qkv = affine(keep["n1"], block.attn.qkv).reshape(len(x), 3, count, -1)
        keep["q"], keep["k"], keep["v"] = qkv.transpose(1, 2, 0, 3)
        score = keep["q"] @ keep["k"].transpose(0, 2, 1) / np.sqrt(qkv.shape[-1])
        raised = np.exp(score - score.max(-1, keepdims=True))
        keep["a"] = raised / raised.sum(-1, keepdims=True)
        keep["c"] = (keep["a"] @ keep["v"]).transpose(1, 0, 2).reshape(len(x), -1)
        keep["b1"] = scaled(affine(keep["c"], block.attn.proj), block.ls1)
        keep["mid"] = x + keep["b1"]
        keep["n2"] = norm(keep["mid"], block.norm2)
        hidden = affine(keep["n2"], block.mlp.fc1)
        keep["h"] = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        keep["b2"] = scaled(affine(keep["h"], block.mlp.fc2), block.ls2)
        x = keep["mid"] + keep["b2"]
        blocks.append(keep)
    return np.array(patches), embedded, blocks, norm(x, m.norm)


def descend(vit, image, target, separate):
    """Relevance of attention (L, H, N, N), of every block's input (L, N, D), of patches (P, D)."""
    m = vit.module
    patches, embedded, blocks, final = forward(vit, image)
    weights = m.head.weight.detach().numpy()
    start = np.eye(len(weights))[[target]]
    r = np.zeros_like(final)
    if hasattr(m, "head_dist"):
        both = np.concatenate([weights, m.head_dist.weight.detach().numpy()], 1) / 2
        r[:2] = linear(start, final[:2].reshape(1, -1), both, separate).reshape(2, -1)
        r[:2] = fork([r[:2]], final[:2])
    else:
        share = vit.readout.double().numpy()[:, None] * final
        pooled = share.sum(0)
        found = linear(start, norm(pooled[None], m.fc_norm), weights, separate)[0]
        r = share * q(found, pooled)
    attention, tokens = [], []
    for block, k in zip(reversed(m.blocks), reversed(blocks), strict=True):
        keep, branch = add(r, k["mid"], k["b2"], separate)
        branch = linear(branch, k["h"], block.mlp.fc2.weight.detach().numpy(), separate)
        branch = linear(branch, k["n2"], block.mlp.fc1.weight.detach().numpy(), separate)
        r = fork([keep, branch], k["mid"])
        keep, branch = add(r, k["x"], k["b1"], separate)
        branch = linear(branch, k["c"], block.attn.proj.weight.detach().numpy(), separate)
        heads = branch.reshape(len(r), len(k["a"]), -1).transpose(1, 0, 2)
        of = [product(heads[h], k["a"][h], k["v"][h]) for h in range(len(heads))]
        attention.append(np.array([a for a, _ in of]))
        qk = [product(a, k["q"][h], k["k"][h].T) for h, (a, _) in enumerate(of)]
        parts = [[a for a, _ in qk], [b.T for _, b in qk], [v for _, v in of]]
        joint = np.array(parts).transpose(2, 0, 1, 3).reshape(len(r), -1)
        branch = linear(joint, k["n1"], block.attn.qkv.weight.detach().numpy(), separate)
        r = fork([keep, branch], k["x"])
        tokens.append(r)
    first = vit.num_prefix
    of_patches = add(r[first:], patches, embedded[first:] - patches, True)[0]
    return np.array(attention[::-1]), np.array(tokens[::-1]), of_patches


def pixels(vit, image, relevance):
    """z^B rule, patch by patch: bounds are the image's smallest and largest value."""
    kernel = vit.module.patch_embed.proj.weight.detach().numpy()
    low, high = image.min(), image.max()
    ph, pw = vit.patch_size
    out = np.zeros(image.shape[1:])
    for index in range(len(relevance)):
        row, col = index // vit.grid[1] * ph, index % vit.grid[1] * pw
        x = image[:, row : row + ph, col : col + pw]
        for channel in range(len(kernel)):
            w = kernel[channel]
            z = x * w - low * np.maximum(w, 0) - high * np.minimum(w, 0)
            share = z / (z.sum() + 1e-9) * relevance[index, channel]
            out[row : row + ph, col : col + pw] += share.sum(0)
    return out


def transformer_attribution(gradient, relevance, readout, start):
    """Readout row of (I + M_L) ... (I + M_s), M the head mean of the positive part of G P."""
    n = relevance.shape[-1]
    whole = np.eye(n)
    for g, p in list(zip(gradient, relevance, strict=True))[start:]:
        whole = (np.eye(n) + np.maximum(g * p, 0).mean(0)) @ whole
    return readout @ whole
