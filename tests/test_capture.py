"""Attention is captured exactly, and the model comes back as it was."""

import pytest
import timm
import torch
from oracles import attention_and_gradient
from tiny import SHAPES, pictures, tiny
from torch import nn

from attnguide import explain, wrap_model
from attnguide.tracing.capture import capture
from attnguide.tracing.trace import AttentionTrace


@pytest.mark.parametrize("shape", SHAPES)
def test_attention_and_gradient_of_every_layer(shape):
    vit = tiny(shape, dtype=torch.float64)
    images = pictures(vit, 2)
    trace = AttentionTrace(vit, images, torch.tensor([1, 4]))
    for index, target in enumerate([1, 4]):
        a, g = attention_and_gradient(vit, images[index], target, "logit")
        for layer in range(2):
            got_a, got_g = trace.attention[layer][index], trace.gradient[layer][index]
            torch.testing.assert_close(got_a, torch.from_numpy(a[layer]), rtol=0, atol=1e-12)
            torch.testing.assert_close(got_g, torch.from_numpy(g[layer]), rtol=0, atol=1e-10)
            torch.testing.assert_close(got_a.sum(-1), torch.ones_like(got_a[..., 0]))


def fingerprint(module):
    """Everything about a module that a visit could have changed."""
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for m in module.modules()
    ]
    flags = [getattr(m, "fused_attn", None) for m in module.modules()]
    return (
        [m.training for m in module.modules()],
        [(p.requires_grad, p.grad is None, p._version) for p in module.parameters()],
        hooks,
        flags,
        [sorted(vars(m)) for m in module.modules()],
    )


@pytest.mark.parametrize("fused", [True, False])
def test_model_is_untouched_after_success_bad_target_and_exception(fused):
    vit = tiny()
    module = vit.module.train()
    module.blocks[0].eval()
    module.head.weight.requires_grad_(False)
    for block in module.blocks:
        block.attn.fused_attn = fused
    before = fingerprint(module)
    explain(vit, pictures(vit), 1)
    assert fingerprint(module) == before
    with pytest.raises(ValueError, match="class index"):
        explain(vit, pictures(vit), 99)
    assert fingerprint(module) == before

    class Broken(nn.Module):
        def forward(self, _):
            raise RuntimeError("broken on purpose")

    module.head = Broken()
    before = fingerprint(module)
    with pytest.raises(RuntimeError, match="on purpose"):
        explain(vit, pictures(vit), 1)
    assert fingerprint(module) == before


def test_training_mode_is_explained_in_evaluation_mode():
    vit = tiny(drop_rate=0.5, attn_drop_rate=0.5, drop_path_rate=0.5)
    images = pictures(vit)
    expected = explain(vit, images, 1).relevance
    vit.module.train()
    torch.testing.assert_close(explain(vit, images, 1).relevance, expected)
    assert vit.module.training


def test_no_parameter_gradient_is_computed():
    vit = tiny()
    explain(vit, pictures(vit), 1)
    assert all(parameter.grad is None for parameter in vit.module.parameters())
    assert all(parameter.requires_grad for parameter in vit.module.parameters())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(context):
    vit = tiny()
    images = pictures(vit)
    expected = explain(vit, images, 1).relevance
    with context():
        torch.testing.assert_close(explain(vit, images.clone(), 1).relevance, expected)


@pytest.mark.parametrize("shape", ["class_token", "registers"])
def test_attention_written_out_by_hand_is_captured_too(shape):
    """A user's own attention, without PyTorch's fused function, gives the same map."""
    vit = tiny(shape, dtype=torch.float64)
    images = pictures(vit)
    expected = explain(vit, images, 1).relevance

    class Own(nn.Module):
        def __init__(self, attn):
            super().__init__()
            self.attn = attn

        def forward(self, x, **_):
            b, n, _ = x.shape
            heads = self.attn.num_heads
            q, k, v = self.attn.qkv(x).reshape(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
            weights = torch.softmax(q @ k.mT * self.attn.scale, dim=-1)
            return self.attn.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))

    for block in vit.module.blocks:
        block.attn = Own(block.attn)
    torch.testing.assert_close(explain(vit, images, 1).relevance, expected)


def test_a_model_without_the_attention_is_refused_by_name():
    with pytest.raises(ValueError, match=r"SwinTransformer.*not a vision transformer"):
        wrap_model(timm.create_model("swin_tiny_patch4_window7_224"))
    with pytest.raises(ValueError, match=r"ResNet.*not a vision transformer"):
        wrap_model(timm.create_model("resnet18"))
    vit = tiny()

    class Blind(nn.Module):
        def forward(self, x, **_):
            return x

    vit.module.blocks[1].attn = Blind()
    with pytest.raises(ValueError, match=r"cannot capture.*expected 2 layers.*saw 1"):
        explain(vit, pictures(vit), 0)


def test_edited_attention_is_used():
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, 1)
    with torch.no_grad():
        plain = vit.module(images)
        with capture(vit, edit=lambda layer, a: a * (0.5 if layer == 1 else 1)) as recording:
            edited = vit.module(images)
    assert not torch.allclose(plain, edited)
    torch.testing.assert_close(recording.attention[1].sum(-1), torch.full((1, 2, 17), 0.5).double())
