"""The written-out pass equals autograd's, and is taken only where the network is unchanged."""

import pytest
import torch
from PIL import Image
from tiny import SHAPES, pictures, tiny
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from attnguide import explain, load_model
from attnguide.losses import LOSSES
from attnguide.tracing.capture import Pass, capture
from attnguide.tracing.plain import PlainPass, is_plain
from attnguide.tracing.trace import AttentionTrace

PLAIN = sorted(set(SHAPES) - {"qk_norm"})


def passes(vit, images):
    """Both, on the same images."""
    with capture(vit) as recording:
        logits = vit.module(images)
    return PlainPass(vit.module, images), Pass(recording, logits)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("shape", PLAIN)
@pytest.mark.filterwarnings("ignore:relative_contrast needs both")
def test_it_equals_autograd(shape, loss):
    vit = tiny(shape, dtype=torch.float64)
    assert is_plain(vit.module)
    written, recorded = passes(vit, pictures(vit, 3))
    target, reference = torch.tensor([1, 4, 0]), torch.tensor([2, 0, 3])

    def objective(logits):
        return LOSSES[loss](logits, target, reference)

    torch.testing.assert_close(written.logits, recorded.logits, rtol=0, atol=1e-12)
    for name in ("attention", "query", "key", "value"):
        own, other = getattr(written.recording, name), getattr(recorded.recording, name)
        torch.testing.assert_close(own, other, rtol=0, atol=1e-12)
    expected = recorded.gradient(objective)
    assert max(float(g.abs().max()) for g in expected) > 1e-3
    for keep in (True, False):  # again, and freed on the way
        got = written.gradient(objective, keep=keep)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    assert not written._blocks


def test_a_loss_that_ignores_the_logits_has_no_gradient():
    vit = tiny()
    written = PlainPass(vit.module, pictures(vit, 2))
    for gradient in written.gradient(lambda logits: logits.sum(1) * 0):
        assert not gradient.any()


def test_a_bfloat16_network_is_followed_in_its_own_precision():
    vit = tiny(dtype=torch.bfloat16)
    assert explain(vit, pictures(vit), 1).relevance.dtype == torch.bfloat16


def gated(module):
    class Gated(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 0.5

    old = module.blocks[0].attn.proj
    module.blocks[0].attn.proj = Gated(old.in_features, old.out_features).to(old.weight.dtype)


CHANGES = {
    "a hook": lambda m: m.blocks[1].mlp.register_forward_hook(lambda *_: None),
    "an early hook": lambda m: m.norm.register_forward_pre_hook(lambda *_: None),
    "a replaced forward": lambda m: setattr(m.blocks[0], "forward", m.blocks[0].forward),
    "a subclass of Linear": gated,
    "a parametrization": lambda m: weight_norm(m.blocks[0].mlp.fc1),
    "another activation": lambda m: setattr(m.blocks[0].mlp, "act", nn.ReLU()),
    "another norm": lambda m: setattr(m.blocks[1], "norm1", nn.Identity()),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_network_that_was_changed_takes_autograds_way(change):
    vit = tiny(dtype=torch.float64)
    CHANGES[change](vit.module)
    assert not is_plain(vit.module)
    images = pictures(vit, 2)
    trace = AttentionTrace(vit, images, torch.tensor([1, 4]))
    torch.testing.assert_close(trace.logits, vit.module(images))
    assert trace.gradient[0].any()


def test_autocast_takes_autograds_way():
    vit = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_plain(vit.module)
    assert is_plain(vit.module)


def test_error_on_the_real_network_is_that_of_autograd(shared):
    """Against float64, on real weights and a real picture (max difference / max, worst layer)."""
    weights = shared / "assets" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    vit = load_model("vit_tiny_patch16_224", checkpoint=weights)
    picture = sorted((shared / "assets" / "imagenet_sample").glob("*/*"))[0]
    images = vit.preprocess([Image.open(picture)])

    def gradient(one):
        return one.gradient(lambda logits: logits[:, 0])

    def worst(got):
        return max(
            float((g - t).abs().max() / t.abs().max()) for g, t in zip(got, truth, strict=True)
        )

    written, recorded = map(gradient, passes(vit, images))
    vit.module.double()
    truth = gradient(passes(vit, images.double())[1])
    assert worst(written) < 2 * worst(recorded)
    assert worst(recorded) < 5e-5
