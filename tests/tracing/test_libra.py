"""LibraGrad: the authors' arrays, and the affine function that its backward pass leaves."""

import numpy as np
import pytest
import torch
from published import FIRST, arrays, cases, error, image, real
from timm.layers import QuickGELU, RmsNorm, SwiGLU
from tiny import SHAPES, HandWritten, pictures, tiny
from torch import nn
from torchvision.models import VisionTransformer as TorchvisionViT

from attnguide import explain, explain_many, wrap_model
from attnguide.tracing.libra import LibraBackward
from attnguide.tracing.trace import AttentionTrace

RULES = ("gae", "complete", "absolute")
LIBRA = {rule: (rule, {"gradient": "libra"}) for rule in RULES}
SWAN = "n01860187_black_swan.JPEG"


@pytest.fixture(scope="module")
def real64(shared):
    vit = real.__wrapped__(shared)
    vit.module.double()
    return vit


def errors_of(shared, vit, case, suffix=""):
    """Of every map of one picture, against the authors' gradient."""
    table = arrays(shared, "signed_dev")
    targets = cases(table, f"libra.gae{suffix}")[case]
    images, found = image(shared, case).to(vit.dtype), {}
    many = explain_many(vit, images, torch.tensor([targets]), methods=LIBRA)
    for column, target in enumerate(targets):
        trace = AttentionTrace(vit, images, torch.tensor([target])).with_gradient("libra")
        maps = {f"libra.{rule}": many[rule].relevance[0, column] for rule in RULES}
        maps["libra.inputxgrad"] = patch_sums(images * trace.image_gradient)
        first, gradient = trace.tokens_and_gradient()[0]
        maps["libra.inputxgrad@tokens"] = trace.on_grid((first * gradient).sum(-1))[0]
        if suffix:
            read = [attention.mean((1, 2)) for attention in trace.attention]
            pairs = zip(trace.tokens_and_gradient(), read, strict=True)
            total = sum((tokens * flow).sum(-1) * weight for (tokens, flow), weight in pairs)
            maps["libra.attcat"] = trace.on_grid(total)[0]
        for key, got in maps.items():
            expected = table[f"{key}{suffix}|{case}|{target}"]
            found[key, target] = error(got, expected)
    return found


def patch_sums(pixels):
    """(14, 14) of (1, 3, 224, 224)."""
    return pixels[0].unflatten(1, (14, 16)).unflatten(3, (14, 16)).sum((0, 2, 4))


@pytest.mark.parametrize("everywhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_equals_the_authors_gradient(shared, real64, everywhere):
    for case in cases(arrays(shared, "signed_dev"), "libra.gae_f64") if everywhere else [FIRST]:
        found = errors_of(shared, real64, case, "_f64")
        assert len(found) == 12 or everywhere
        assert max(found.values()) <= 1e-6, found
        found = errors_of(shared, real(shared), case)
        assert max(found.values()) <= 1e-4, found


def test_raw_gradient_of_the_attention(shared, real64):
    table, images = arrays(shared, "signed_dev"), image(shared, SWAN).double()
    gradient = AttentionTrace(real64, images, torch.tensor([100])).with_gradient("libra").gradient
    rows = table["libra.G.rows"]
    for layer in (0, 5, 11):
        got = gradient[layer][0].numpy()
        name = f"_f64|{SWAN}|100"
        assert error(got[:, rows], table[f"libra.G.rows{layer}{name}"]) <= 1e-6
        assert error(got.sum((1, 2)), table[f"libra.G.headsum{layer}{name}"]) <= 1e-6
        assert error(abs(got).sum((1, 2)), table[f"libra.G.abssum{layer}{name}"]) <= 1e-6


def test_of_the_probability(shared, real64):
    table, images = arrays(shared, "signed_dev"), image(shared, SWAN).double()

    def probability(logits, target, _):
        return logits.softmax(-1).gather(1, target[:, None])[:, 0]

    chosen = {rule: LIBRA[rule] for rule in ("gae", "complete")}
    for target in cases(table, "libra.gae@probability_f64")[SWAN]:
        many = explain_many(real64, images, target, methods=chosen, loss=probability)
        for rule in chosen:
            expected = table[f"libra.{rule}@probability_f64|{SWAN}|{target}"]
            assert error(many[rule].relevance[0], expected) <= 1e-6


def act(kind):
    def change(module):
        for block in module.blocks:
            block.mlp.act = kind()

    return change


def rms(module):
    module.norm = RmsNorm(24)
    for block in module.blocks:
        block.norm1, block.norm2 = RmsNorm(24), RmsNorm(24, eps=1e-3)


def gated_mlp(module):
    for block in module.blocks:
        block.mlp = SwiGLU(24, 40)


NETWORKS = {
    **{shape: (shape, lambda _: None) for shape in SHAPES},
    "tanh GELU": ("class_token", act(lambda: nn.GELU(approximate="tanh"))),
    "QuickGELU": ("class_token", act(QuickGELU)),
    "SiLU": ("registers", act(nn.SiLU)),
    "ReLU": ("average", act(nn.ReLU)),
    "RMSNorm": ("layer_scale", rms),
    "gated MLP": ("class_token", gated_mlp),
}


def network(name):
    shape, change = NETWORKS[name]
    torch.manual_seed(0)
    vit = tiny(shape, dtype=torch.float64, depth=3)
    change(vit.module)
    vit.module.double().eval()
    return vit


def assert_accounts_for_the_logit(module, images):
    """The logit is the sum of all inputs, biases and embeddings times their gradient."""
    leaves = [images.clone()]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.endswith(("bias", "token", "pos_embed")))
        leaves += [parameter] * parameter.requires_grad
    with LibraBackward("network"):
        logit = module(leaves[0].requires_grad_())[0, 1]
    gradients = torch.autograd.grad(logit, leaves, allow_unused=True)
    pairs = zip(leaves, gradients, strict=True)
    terms = [float((leaf * g).sum().detach()) for leaf, g in pairs if g is not None]
    assert sum(terms) == pytest.approx(float(logit.detach()), abs=1e-11 * max(map(abs, terms)))
    assert abs(terms[0]) > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_accounts_for_the_whole_logit(name):
    vit = network(name)
    assert_accounts_for_the_logit(vit.module, pictures(vit, 1))


def test_accounts_for_the_logit_of_torchvision_s_network():
    torch.manual_seed(0)
    foreign = TorchvisionViT(16, 4, 2, 2, 24, 48, num_classes=5).double().eval()
    for parameter in foreign.parameters():
        nn.init.normal_(parameter, std=0.3)
    vit = wrap_model(foreign)
    assert_accounts_for_the_logit(vit.module, pictures(vit, 1))


@pytest.mark.filterwarnings("ignore:.*no positive evidence")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_forward_pass_is_unchanged_and_the_gradient_is_not(name):
    vit = network(name)
    images = pictures(vit, 2)
    plain = AttentionTrace(vit, images, torch.tensor([1, 3]))
    libra = plain.with_gradient("libra")
    assert torch.equal(plain.logits, libra.logits)
    assert all(map(torch.equal, plain.attention, libra.attention))
    assert not torch.allclose(plain.gradient[0], libra.gradient[0])
    with LibraBackward(vit.name):
        assert torch.equal(vit.module(images), vit.module(images))
    for rule in (*RULES, "attn_gradcam"):
        together = explain(vit, images, [1, 3], method=rule, gradient="libra").relevance
        alone = explain(vit, images[1:], 3, method=rule, gradient="libra").relevance
        torch.testing.assert_close(together[1:], alone, rtol=1e-9, atol=1e-12)


def test_attention_written_out_by_hand_gets_it_too():
    vit, other = (tiny(dtype=torch.float64) for _ in range(2))

    for block in other.module.blocks:
        block.attn = HandWritten(block.attn)
    images = pictures(vit)
    got, expected = (explain(v, images, 1, gradient="libra").relevance for v in (other, vit))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("part", "name"),
    [(nn.Tanh, "tanh"), (nn.Sigmoid, "sigmoid"), (nn.Mish, "mish"), (nn.Hardswish, "hardswish")],
)
def test_a_part_without_a_rule_is_refused_by_name(part, name):
    vit = tiny()
    act(part)(vit.module)
    before = {key: value.clone() for key, value in vit.module.state_dict().items()}
    with pytest.raises(ValueError, match=f"no rule for '{name}', which tiny class_token uses"):
        explain(vit, pictures(vit), 1, gradient="libra")
    explain(vit, pictures(vit), 1)
    assert all(torch.equal(before[key], value) for key, value in vit.module.state_dict().items())


def test_one_more_forward_pass_serves_all_rules_and_targets():
    vit = tiny()
    images, calls = pictures(vit, 2), []
    explain(vit, images, 1)
    vit.module.patch_embed.register_forward_hook(lambda *_: calls.append(1))
    targets = torch.tensor([[0, 1], [2, 3]])
    many = explain_many(vit, images, targets, methods=LIBRA | {"plain": "complete"})
    assert len(calls) == 2 + 2  # one image of each is compared
    assert many["complete"].settings["gradient"] == "libra"
    np.testing.assert_allclose(many["plain"].logits, many["complete"].logits)
