"""Grad-ECLIP, with one head of full width and with the model's own heads."""

import pytest
import torch
from method_checks import (
    check_batch_and_precision,
    check_head_order,
    check_many_targets,
    check_refused,
    check_untouched,
    counted,
)
from published import FIRST, arrays, worst
from tiny import pictures, tiny
from torch import nn

from attnguide import explain

KEYS = {
    "single": ("others_dev", "grad_eclip"),
    "multi": ("others_dev_variants", "grad_eclip@multihead"),
}
MODELS = ["class_token", "registers", "non_square", "qk_norm", "layer_scale"]


@pytest.mark.parametrize("heads", KEYS)
def test_equals_the_original_code(shared, heads):
    name, key = KEYS[heads]
    only = [FIRST, "catdog.png", "n03527444_holster.JPEG"]
    assert worst(shared, arrays(shared, name), key, "grad_eclip", only, heads=heads) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("heads", KEYS)
def test_equals_the_original_code_everywhere(shared, heads):
    name, key = KEYS[heads]
    assert worst(shared, arrays(shared, name), key, "grad_eclip", heads=heads) <= 1e-4


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


@pytest.mark.parametrize("heads", KEYS)
@pytest.mark.parametrize("shape", MODELS)
def test_equals_its_definition(shape, heads):
    vit = tiny(shape, dtype=torch.float64, depth=3)
    image = pictures(vit, 1)
    got = explain(vit, image, 2, method="grad_eclip", heads=heads).relevance[0]
    assert got.max() > 0
    torch.testing.assert_close(
        got, definition(vit, image, 2, heads).detach(), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("heads", KEYS)
@pytest.mark.parametrize("shape", ["class_token", "distilled", "non_square"])
def test_batch_and_precision(shape, heads):
    check_batch_and_precision("grad_eclip", shape, heads=heads)


@pytest.mark.parametrize("heads", KEYS)
def test_invariants(heads):
    check_many_targets("grad_eclip", heads=heads)
    check_head_order("grad_eclip", heads=heads)
    check_untouched("grad_eclip", heads=heads)


@pytest.mark.parametrize(("heads", "passes"), [("single", 2), ("multi", 1)])
def test_forward_passes_are_shared_by_targets(heads, passes):
    vit = tiny(depth=3)
    with counted(vit) as calls:
        explain(vit, pictures(vit, 1), torch.tensor([[0, 1, 2]]), method="grad_eclip", heads=heads)
    assert len(calls) == passes


def test_one_head_in_the_model_makes_both_forms_the_same():
    vit = tiny(dtype=torch.float64, num_heads=1)
    images = pictures(vit)
    single, multi = (
        explain(vit, images, 1, method="grad_eclip", heads=heads).relevance for heads in KEYS
    )
    torch.testing.assert_close(single, multi, rtol=1e-9, atol=1e-12)


def test_equal_keys_give_zeros_not_nan():
    vit = tiny()
    for part in (vit.module.blocks[-1].attn.qkv,):
        part.weight.data[24:48] = 0
    relevance = explain(vit, pictures(vit), 1, method="grad_eclip").relevance
    assert torch.equal(relevance, torch.zeros_like(relevance))


def test_what_it_is_not_defined_for_is_refused():
    check_refused(
        "grad_eclip", "unknown heads of grad_eclip 'both'.*known: single, multi", heads="both"
    )
    for shape in ("average", "average_with_class"):
        check_refused("grad_eclip", f"tiny {shape} reads the mean.*global_pool", vit=tiny(shape))
    vit = tiny()

    class Own(nn.Module):
        def __init__(self, attn):
            super().__init__()
            self.attn = attn

        def forward(self, x, **_):
            b, n, _ = x.shape
            q, k, v = self.attn.qkv(x).reshape(b, n, 3, 2, -1).permute(2, 0, 3, 1, 4)
            out = torch.softmax(q @ k.mT, dim=-1) @ v
            return self.attn.proj(out.transpose(1, 2).reshape(b, n, -1))

    for block in vit.module.blocks:
        block.attn = Own(block.attn)
    with pytest.raises(ValueError, match=r"grad_eclip needs the queries.*tiny class_token"):
        explain(vit, pictures(vit), 1, method="grad_eclip")
