"""timm's standard network is recognised part by part; every other one is run as it is."""

import functools

import pytest
import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from tiny import SHAPES, pictures, tiny
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from attnguide import explain, wrap_model
from attnguide.tracing.blocks import effective_weight, is_standard, tokens_read, why_not_standard
from attnguide.tracing.capture import capture
from attnguide.tracing.trace import AttentionTrace

STANDARD = sorted(set(SHAPES) - {"qk_norm"})


@pytest.mark.parametrize("shape", STANDARD)
def test_the_short_way_equals_the_network_run_as_it_is(shape):
    vit = tiny(shape, dtype=torch.float64)
    images, target = pictures(vit, 3), torch.tensor([1, 4, 0])
    assert is_standard(vit.module)
    short = AttentionTrace(vit, images, target)
    vit.module.blocks[0].register_forward_hook(lambda *_: None)  # somebody watches
    assert not is_standard(vit.module)
    whole = AttentionTrace(vit, images, target)
    torch.testing.assert_close(short.logits, vit.module(images), rtol=0, atol=1e-12)
    torch.testing.assert_close(short.attention, whole.attention, rtol=0, atol=1e-12)
    torch.testing.assert_close(short.gradient, whole.gradient, rtol=1e-9, atol=1e-12)
    assert max(float(g.abs().max()) for g in whole.gradient) > 1e-3


def test_how_many_tokens_the_head_reads():
    read = {shape: tokens_read(tiny(shape).module, 17) for shape in SHAPES}
    assert read["class_token"] == 1
    assert read["registers"] == 4
    assert read["distilled"] == 2
    assert read["average"] == read["average_with_class"] == 17
    module = tiny().module
    module.pool = lambda x: x.amax(1)
    assert tokens_read(module, 17) == 17


class Halved(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 0.5


def halve(module):
    old = module.blocks[0].attn.proj
    module.blocks[0].attn.proj = Halved(old.in_features, old.out_features).to(old.weight.dtype)


CHANGES = {
    "a hook": lambda m: m.blocks[1].mlp.register_forward_hook(lambda *_: None),
    "an early hook": lambda m: m.norm.register_forward_pre_hook(lambda *_: None),
    "a replaced forward": lambda m: setattr(m.blocks[0], "forward", m.blocks[0].forward),
    "a subclass of Linear": halve,
    "a parametrization": lambda m: weight_norm(m.blocks[0].mlp.fc1),
    "qk-norm": lambda m: setattr(m.blocks[1].attn, "q_norm", nn.LayerNorm(12)),
    "a part in the place of a drop": lambda m: setattr(m.blocks[1], "drop_path2", nn.Tanh()),
    "patches dropped otherwise": lambda m: setattr(m, "patch_drop", nn.Tanh()),
    "other blocks": lambda m: setattr(m, "blocks", nn.Sequential(nn.Sequential(*m.blocks))),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_changed_network_is_not_standard(change):
    module = tiny(dtype=torch.float64).module
    CHANGES[change](module.double())
    assert not is_standard(module)


@pytest.mark.parametrize("wraps", [False, True])
def test_a_forward_replaced_on_timm_s_class_is_seen(monkeypatch, wraps):
    """Recipes for reading attention do that; the logits are the changed network's."""
    vit = tiny(dtype=torch.float64)
    images, original = pictures(vit, 1), Attention.forward
    before = vit.module(images)
    assert not why_not_standard(vit.module)

    def sharper(self, x, *_, **__):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        weights = ((q * self.scale * 20) @ k.mT).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))

    replaced = functools.wraps(original)(sharper) if wraps else sharper
    monkeypatch.setattr(Attention, "forward", replaced)
    assert why_not_standard(vit.module) == "its block 0 has a Attention whose forward was replaced"
    logits = explain(vit, images, 1).logits
    torch.testing.assert_close(logits, vit.module(images), rtol=0, atol=1e-12)
    assert not torch.allclose(logits, before)


class MaxPooled(VisionTransformer):
    def forward_head(self, x, **_):
        return self.head(x.amax(1))


class TokenAndMean(VisionTransformer):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.head = nn.Linear(2 * self.embed_dim, 5)

    def forward_head(self, x, **_):
        return self.head(torch.cat([x[:, 0], x[:, 1:].mean(1)], -1))


class PooledElsewhere(VisionTransformer):
    def pool(self, x, *_):
        return x[:, 2]


class Shifted(VisionTransformer):
    def _pos_embed(self, x):
        return super()._pos_embed(x).flip(1)


class Twice(VisionTransformer):
    def forward_features(self, x, **_):
        return super().forward_features(2 * x)


@pytest.mark.parametrize("kind", [MaxPooled, TokenAndMean, PooledElsewhere, Shifted, Twice])
@pytest.mark.parametrize("on_the_instance", [False, True])
def test_the_logits_are_the_network_s_own_whatever_it_overrides(kind, on_the_instance):
    torch.manual_seed(0)
    settings = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    module = kind(num_classes=5, **settings).double()
    if on_the_instance:
        changed = module
        module = VisionTransformer(num_classes=5, **settings).double()
        module.head, changed.head = changed.head, module.head
        for name in ("forward_features", "forward_head", "pool", "_pos_embed"):
            if name in vars(kind):
                setattr(module, name, functools.partial(getattr(kind, name), module))
        if kind in (Shifted, Twice):
            module.__class__ = kind  # they call super()
    vit = wrap_model(module)
    images = pictures(vit, 2)
    pools_otherwise = kind in (MaxPooled, TokenAndMean, PooledElsewhere)
    if pools_otherwise:
        with pytest.raises(ValueError, match="no row of a rollout belongs to its output"):
            explain(vit, images, [1, 2])
    explanation = explain(vit, images, [1, 2], method="gradcam" if pools_otherwise else "complete")
    torch.testing.assert_close(explanation.logits, module(images), rtol=0, atol=1e-12)
    assert explanation.relevance.isfinite().all()


class Random(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


def scaled(module):
    """timm's fused attention knows no scale of one's own."""
    for block in module.blocks:
        block.attn.fused_attn, block.attn.scale = False, 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m, "norm", nn.Sequential(m.norm, Random())), "gives other logits"),
        (scaled, "gives other logits by itself"),
        (lambda m: m.head.bias.data.fill_(torch.inf), "NaN or infinite logits"),
    ],
)
def test_logits_that_are_not_finite_or_the_network_s_own_are_refused(change, message):
    vit = tiny()
    change(vit.module)
    with pytest.raises(ValueError, match=message):
        explain(vit, pictures(vit, 1), 1)


def test_one_image_of_every_call_is_compared():
    vit, calls = tiny(), []
    vit.module.patch_embed.register_forward_hook(lambda *args: calls.append(len(args[2])))
    for _ in range(2):
        explain(vit, pictures(vit, 3), 1)
    assert calls == [3, 1, 3, 1]


class LoRA(nn.Module):
    """An adapter beside a layer, whose `weight` is the frozen one's."""

    def __init__(self, base):
        super().__init__()
        self.base, self.weight = base, base.weight
        self.down = nn.Linear(base.in_features, 2, bias=False).to(base.weight.dtype)
        self.up = nn.Linear(2, base.out_features, bias=False).to(base.weight.dtype)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.base(x) + self.up(self.down(self.dropout(x)))

    def merged(self):
        layer = nn.Linear(self.base.in_features, self.base.out_features).to(self.weight.dtype)
        layer.weight.data = self.weight.data + self.up.weight.data @ self.down.weight.data
        layer.bias.data = self.base.bias.data
        return layer


@pytest.mark.filterwarnings("ignore:.*no positive evidence")
@pytest.mark.parametrize("method", ["complete", "bi_token", "t_attr", "partial_lrp", "lrp", "dix"])
def test_what_adapters_add_counts(method):
    torch.manual_seed(0)
    beside, merged = (tiny(dtype=torch.float64) for _ in range(2))
    for block, other in zip(beside.module.blocks, merged.module.blocks, strict=True):
        for part, layer in (("attn", "qkv"), ("attn", "proj"), ("mlp", "fc1"), ("mlp", "fc2")):
            adapter = LoRA(getattr(getattr(block, part), layer))
            setattr(getattr(block, part), layer, adapter)
            setattr(getattr(other, part), layer, adapter.merged())
    images = pictures(beside, 2)
    beside.module.train()
    got, expected = (explain(vit, images, 1, method=method).relevance for vit in (beside, merged))
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))
    assert beside.module.blocks[0].attn.qkv.dropout.training


def test_the_weight_of_a_plain_layer_is_its_own():
    layer = nn.Linear(3, 2)
    assert torch.equal(effective_weight(layer, 3), layer.weight)
    adapter = LoRA(layer)
    adapter.eval()
    torch.testing.assert_close(effective_weight(adapter, 3), adapter.merged().weight)
    two = nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 2))  # written as its factors
    torch.testing.assert_close(effective_weight(two, 3), two[1].weight @ two[0].weight)


def test_autocast_is_followed():
    vit = tiny()
    images = pictures(vit, 1)
    expected = explain(vit, images, 1).relevance
    with torch.autocast("cpu", torch.bfloat16):
        got = explain(vit, images, 1).relevance
    assert got.dtype == torch.float32
    assert 0 < (got - expected).abs().max() < 0.1 * expected.abs().max()


def test_capture_reads_a_standard_network_s_queries_and_values():
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, 2)
    trace = AttentionTrace(vit, images, torch.tensor([0, 1]))
    with torch.no_grad(), capture(vit) as recording:
        vit.module(images)
    for name in ("query", "key", "value"):
        got, expected = getattr(trace.recording, name), getattr(recording, name)
        assert len(got) == 2
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
