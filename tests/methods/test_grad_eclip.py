"""Grad-ECLIP, with one head of full width and with the model's own heads."""

import pytest
import torch
from tiny import HandWritten, pictures, tiny

from attnguide import explain

HEADS = ("single", "multi")
MODELS = ["class_token", "registers", "non_square", "qk_norm", "layer_scale"]


def definition(vit, image, target, heads):
    """relu(sum over channels of w lam v), w taken at the head outputs before the projection."""
    module, last = vit.module, vit.module.blocks[-1]
    attn, prefix = last.attn, vit.num_prefix
    x = module.norm_pre(module._pos_embed(module.patch_embed(image)))
    for block in module.blocks[:-1]:
        x = block(x)
    batch, tokens, width = x.shape
    count = attn.num_heads
    q, k, v = attn.qkv(last.norm1(x)).view(batch, tokens, 3, count, -1).permute(2, 0, 3, 1, 4)
    q, k = attn.q_norm(q), attn.k_norm(k)
    full_q, full_k, full_v = (part.transpose(1, 2).reshape(tokens, width) for part in (q, k, v))
    if heads == "single":
        out = (full_q @ full_k.T / width**0.5).softmax(-1) @ full_v
    else:
        out = (q @ k.mT / (width / count) ** 0.5).softmax(-1) @ v
        out = out.transpose(1, 2).reshape(tokens, width)
    out = out.detach().requires_grad_()
    z = x + last.ls1(attn.proj(out))
    z = z + last.ls2(last.mlp(last.norm2(z)))
    logit = module.forward_head(module.norm(z))[0, target]
    weight = torch.autograd.grad(logit, out)[0][0]
    cosine = torch.cosine_similarity(full_q[:1], full_k[prefix:])
    loosened = (cosine - cosine.min()) / (cosine.max() - cosine.min())
    return (loosened * (full_v[prefix:] @ weight)).clamp(min=0).view(vit.grid)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("shape", MODELS)
def test_equals_its_definition(shape, heads):
    vit = tiny(shape, dtype=torch.float64, depth=3)
    image = pictures(vit, 1)
    got = explain(vit, image, 2, method="grad_eclip", heads=heads).relevance[0]
    assert got.max() > 0
    torch.testing.assert_close(
        got, definition(vit, image, 2, heads).detach(), rtol=1e-9, atol=1e-12
    )


def test_equal_keys_give_zeros_not_nan():
    vit = tiny()
    for part in (vit.module.blocks[-1].attn.qkv,):
        part.weight.data[24:48] = 0
    relevance = explain(vit, pictures(vit), 1, method="grad_eclip").relevance
    assert torch.equal(relevance, torch.zeros_like(relevance))


def test_a_network_that_does_not_show_its_queries_is_refused():
    vit = tiny()

    for block in vit.module.blocks:
        block.attn = HandWritten(block.attn)
    with pytest.raises(ValueError, match=r"grad_eclip needs the queries.*tiny class_token"):
        explain(vit, pictures(vit), 1, method="grad_eclip")
