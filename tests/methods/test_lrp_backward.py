"""The edited backward pass of CP-LRP and AttnLRP: conservation, the gamma rule, what is refused."""

import numpy as np
import pytest
import torch
from foreign import huggingface
from oracles_signed import gamma_gradient
from tiny import pictures, tiny
from torch import nn

from attnguide import explain, wrap_model
from attnguide.methods import get_method
from attnguide.methods._lrp.backward import gamma_convolution, gamma_linear
from attnguide.tracing.trace import AttentionTrace

FORMS = [("attn_lrp", {}), ("cp_lrp", {"gamma": 0.1}), ("cp_lrp", {"gamma": 0})]


@pytest.mark.parametrize(("method", "settings"), FORMS)
def test_forward_pass_is_the_same_to_the_bit(method, settings):
    vit = tiny(init_values=0.5, depth=3)
    x, target = pictures(vit), torch.tensor([0, 1, 2])
    trace = AttentionTrace(vit, x, target)
    get_method(method)(trace, **settings)
    passes = [p for p in trace.shared.values() if isinstance(p, tuple)]
    assert len(passes) == 1
    assert torch.equal(passes[0][1], vit.module(x))


def test_gamma_rule_term_by_term():
    """A linear layer with terms of both signs, a negative sum, an input of 0 and a bias."""
    rng = np.random.default_rng(0)
    weight, bias, inputs = rng.normal(size=(6, 5)), rng.normal(size=6), rng.normal(size=(3, 5))
    inputs[0, 2], gradient = 0, rng.normal(size=(3, 6))
    layer = nn.Linear(5, 6).double()
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    x = torch.tensor(inputs, requires_grad=True)
    out = layer(x)
    assert (out > 0).any()
    assert (out < 0).any()
    result = gamma_linear(0.3, layer, (x,), out)
    assert torch.equal(result, out)
    (got,) = torch.autograd.grad(result, x, torch.tensor(gradient))
    for row in range(3):
        expected = gamma_gradient(weight, bias, inputs[row], gradient[row], 0.3)
        np.testing.assert_allclose(got[row], expected, rtol=1e-9, atol=1e-9)
    without = nn.Linear(5, 6, bias=False).double()
    without.weight.data = torch.tensor(weight)
    result = gamma_linear(0.3, without, (x,), without(x))
    (got,) = torch.autograd.grad(result, x, torch.tensor(gradient))
    expected = gamma_gradient(weight, np.zeros(6), inputs[1], gradient[1], 0.3)
    np.testing.assert_allclose(got[1], expected, rtol=1e-9, atol=1e-9)


def test_gamma_rule_of_a_convolution_is_that_of_its_squares():
    layer = nn.Conv2d(3, 4, (2, 3), stride=(2, 3)).double()
    x = torch.randn(2, 3, 4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    flat = nn.Linear(18, 4).double()
    flat.weight.data, flat.bias.data = layer.weight.data.flatten(1), layer.bias.data
    squares = x.reshape(2, 3, 2, 2, 3, 3).permute(0, 2, 4, 1, 3, 5).reshape(2, 6, 18)
    rows = gamma_linear(0.25, flat, (squares,), flat(squares))
    result = gamma_convolution(0.25, layer, (x,), layer(x))
    torch.testing.assert_close(result, rows.mT.reshape(2, 4, 2, 3), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        torch.autograd.grad(result.square().sum(), x)[0],
        torch.autograd.grad(rows.square().sum(), x)[0],
        rtol=1e-9,
        atol=1e-12,
    )


def test_gamma_reaches_the_layers_outside_the_attention():
    """Zero is no rule, not the rule with zero; each of the two changes the map."""
    vit = tiny(dtype=torch.float64)
    x = pictures(vit, 2)

    def of(**settings):
        return explain(vit, x, 1, method="cp_lrp", **settings).relevance

    torch.testing.assert_close(of(gamma=0, gamma_conv=0), of(), rtol=1e-9, atol=1e-12)
    forms = [of(), of(gamma=0.1, gamma_conv=0), of(gamma=0, gamma_conv=0.1), of(gamma=0.1)]
    for index, one in enumerate(forms):
        assert not any(torch.allclose(one, other) for other in forms[:index])


def test_gamma_leaves_the_layers_of_the_attention_alone(monkeypatch):
    seen = []

    def rule(_gamma, layer, _inputs, output):
        seen.append(layer)
        return output

    for name in ("gamma_linear", "gamma_convolution"):
        monkeypatch.setattr(f"attnguide.methods._lrp.backward.{name}", rule)
    vit = tiny()
    explain(vit, pictures(vit), 1, method="cp_lrp", gamma=0.1)
    net = vit.module
    mlps = [layer for block in net.blocks for layer in (block.mlp.fc1, block.mlp.fc2)]
    assert seen == [net.patch_embed.proj, *mlps, net.head]


@pytest.mark.parametrize("method", ["cp_lrp", "attn_lrp"])
def test_explains_gated_layers_of_huggingface(method):
    vit = wrap_model(huggingface("swiglu"))
    x = pictures(vit, 2)
    for settings in ({}, {"gamma": 0.1})[: 2 if method == "cp_lrp" else 1]:
        e = explain(vit, x, [1, 4], method=method, **settings)
        alone = explain(vit, x[1:], 4, method=method, **settings)
        assert e.relevance.std() > 0
        torch.testing.assert_close(e.relevance[1:], alone.relevance, rtol=1e-9, atol=1e-12)


class Loud(nn.Module):
    """An activation of the user's own."""

    def forward(self, x):
        return x.exp()


@pytest.mark.parametrize(("method", "settings"), [("cp_lrp", {}), *FORMS])
def test_parts_without_a_rule_are_refused_by_name(method, settings):
    loud = tiny(act_layer=Loud)
    with pytest.raises(ValueError, match=rf"{method}.*no rule for 'exp', which tiny class_token"):
        explain(loud, pictures(loud), 1, method=method, **settings)
    assert not any(part._forward_hooks for part in loud.module.modules())


def test_attention_that_is_not_seen_is_refused():
    vit = tiny(dtype=torch.float64)
    plain = vit.module.blocks[1].attn

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = plain.proj

        def forward(self, x, **_):
            return self.proj((x @ x.mT / 9).softmax(-1) @ x)

    vit.module.blocks[1].attn = Own()
    with pytest.raises(ValueError, match="computes only 1 of 2 by PyTorch's attention function"):
        explain(vit, pictures(vit), 1, method="attn_lrp")
