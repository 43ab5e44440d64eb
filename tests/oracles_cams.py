"""GradCAM and LayerCAM on tokens again: plain loops, float64, written from the papers.

F[p][c] is channel c of patch p, G[p][c] the derivative of the loss by it.
"""


def features_and_gradient(vit, image, target, layer):
    """Output of `norm1` of a block, patches only, and d logit / d output, by plain autograd."""
    kept = []

    def keep(_module, _inputs, output):
        output.retain_grad()
        kept.append(output)

    for parameter in vit.module.parameters():
        parameter.requires_grad_(True)
    hook = vit.module.blocks[layer].norm1.register_forward_hook(keep)
    try:
        vit.module(image[None])[0, target].backward()
    finally:
        hook.remove()
        vit.module.zero_grad()
    first = vit.num_prefix
    return kept[0].detach()[0, first:].numpy(), kept[0].grad[0, first:].numpy()


def gradcam(f, g):
    """max(0, sum_c (mean_p G[p][c]) F[p][c])."""
    patches, channels = f.shape
    weight = []
    for c in range(channels):
        weight.append(sum(g[p][c] for p in range(patches)) / patches)
    return [max(0.0, sum(weight[c] * f[p][c] for c in range(channels))) for p in range(patches)]


def layercam(f, g):
    """max(0, sum_c max(0, G[p][c]) F[p][c])."""
    patches, channels = f.shape
    return [
        max(0.0, sum(max(0.0, g[p][c]) * f[p][c] for c in range(channels))) for p in range(patches)
    ]


def attn_gradcam(a, g, readout, prefix):
    """max(0, mean_h w_h a_h[p]), w_h the mean of g_h over patches; a_h, g_h readout rows."""
    heads, tokens, _ = a.shape
    row, slope = [], []
    for h in range(heads):
        row.append([sum(readout[i] * a[h][i][j] for i in range(tokens)) for j in range(tokens)])
        slope.append([sum(readout[i] * g[h][i][j] for i in range(tokens)) for j in range(tokens)])
    found = []
    for p in range(prefix, tokens):
        total = 0.0
        for h in range(heads):
            total += sum(slope[h][prefix:]) / (tokens - prefix) * row[h][p] / heads
        found.append(max(0.0, total))
    return found
