"""Networks of HuggingFace and torchvision answer and are explained as in their own library."""

from functools import partial

import pytest
import torch
import transformers as hf
from foreign import (
    CASES,
    SIZES,
    carry_to_huggingface,
    carry_to_torchvision,
    huggingface,
    shake,
    torchvision,
)
from matplotlib.text import Text
from tiny import pictures, tiny
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin

from attnguide import explain_many, list_methods, perturb, wrap_model
from attnguide.tracing.trace import AttentionTrace

# HuggingFace computes the softmax of float64 models in float32
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
QUICK = {  # settings under which methods are fast on the small models
    "tis": {"n_masks": 16},
    "tam": {"start_layer": 0, "steps": 4},
    "bi_head": {"start_layer": 1, "steps": 4},
    "bi_token": {"start_layer": 1, "steps": 4},
    "dix": {"steps": 3},
}


def maps(vit, images, methods):
    chosen = {name: QUICK.get(name, {}) for name in methods}
    return explain_many(vit, images, [1, 4], methods=chosen)


@pytest.mark.parametrize("carry", [carry_to_huggingface, carry_to_torchvision])
def test_one_set_of_weights_one_map_in_every_library(carry):
    original = tiny(dtype=torch.float64)
    images = pictures(original, 2)
    foreign = carry(original.module)
    other = wrap_model(foreign)
    answer = foreign.eval()(images)
    assert_close(getattr(answer, "logits", answer), original.module(images))
    expected = maps(original, images, list_methods())
    for name, explanation in maps(other, images, list_methods()).items():
        largest = expected[name].relevance.abs().max()
        assert largest > 0, name
        difference = (explanation.relevance - expected[name].relevance).abs().max()
        assert difference <= 1e-4 * largest, name


@pytest.mark.parametrize("case", CASES)
def test_logits_attention_and_its_gradient_are_the_original_s(case):
    module = huggingface(case)
    vit = wrap_model(module)
    images, target = pictures(vit, 2), torch.tensor([1, 4])
    trace = AttentionTrace(vit, images, target)
    own = module.eval()(images, output_attentions=True)
    gradients = torch.autograd.grad(
        own.logits.gather(1, target[:, None]).sum(), own.attentions, materialize_grads=True
    )
    assert_close(trace.logits, own.logits)
    assert_close(trace.attention, own.attentions)
    assert_close(trace.gradient, gradients)
    assert vit.image_size == tuple(module.vit.embeddings.image_size if "vit" in case else (16, 16))
    assert vit.num_prefix == {"deit": 2, "teacher": 2, "registers": 4}.get(case, 1)


@pytest.mark.parametrize("case", ["teacher", "dinov2", "registers"])
def test_every_method_explains_networks_with_other_heads(case):
    """All but Grad-ECLIP, which is not defined where the mean of the patches is read."""
    vit = wrap_model(huggingface(case))
    methods = [m for m in list_methods() if case == "teacher" or m != "grad_eclip"]
    for name, explanation in maps(vit, pictures(vit, 2), methods).items():
        assert explanation.relevance.std() > 0, name


@pytest.mark.parametrize("case", ["teacher", "registers"])
def test_perturbation_follows_the_original(case):
    """Patches filled in the converted network equal patches filled in the original's images."""
    module = huggingface(case).eval()
    vit = wrap_model(module)
    images = pictures(vit, 1)
    relevance = torch.arange(16.0).flip(0).view(1, 4, 4)
    curve = perturb(vit, images, relevance, [3], order="positive", fractions=(0, 0.25), fill="zero")
    filled = images.clone()
    filled[:, :, :4] = 0  # the first row of patches is the most relevant quarter
    expected = torch.stack([module(x).logits[:, 3] for x in (images, filled)], 1)
    assert_close(curve.logit.double(), expected.detach())


def test_relevance_of_a_concatenated_head_reaches_its_tokens():
    """LRP on no blocks: the mean's share goes to patches alone, the class token's to it."""
    vit = wrap_model(huggingface("registers"))
    assert vit.readout[0] == 0.5
    assert vit.readout[1:4].tolist() == [0, 0, 0]
    assert_close(vit.readout[4:], torch.full((16,), 0.5 / 16))
    from attnguide.methods._lrp.relevance import _unpool

    tokens = torch.rand(1, 20, 24, dtype=torch.float64) + 1
    feature = torch.cat([torch.full((1, 24), 3.0), torch.full((1, 24), 7.0)], 1).double()
    spread = _unpool(feature, tokens, vit.readout.double())
    assert_close(spread[:, 0], feature[:, :24])
    assert spread[:, 1:4].abs().max() == 0
    assert_close(spread[:, 4:].sum(1), feature[:, 24:])


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "quick_gelu", "silu"])
def test_other_activations_are_carried_over(activation):
    module = huggingface("vit", hidden_act=activation)
    vit = wrap_model(module)
    images = pictures(vit)
    assert_close(vit.module(images), module.eval()(images).logits)


@pytest.mark.parametrize(("case", "extra"), [("vit", True), ("teacher", True), ("dinov2", False)])
def test_positions_are_interpolated_as_the_original_does(case, extra):
    module = huggingface(case)
    vit = wrap_model(module, image_size=(16, 32))
    assert vit.grid == (4, 8)
    images = pictures(vit)
    settings = {"interpolate_pos_encoding": True} if extra else {}
    assert_close(vit.module(images), module.eval()(images, **settings).logits)


def test_the_original_is_neither_changed_nor_watched():
    module = huggingface("vit").train()
    module.vit.layernorm.eval()
    module.classifier.weight.requires_grad_(False)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    state = torch.get_rng_state()
    vit = wrap_model(module)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in module.modules()] == modes
    assert [p.requires_grad for p in module.parameters()].count(False) == 1
    assert all(p.grad is None for p in module.parameters())
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[key])
    images = pictures(vit)
    logits = vit.module(images)
    for parameter in module.parameters():
        parameter.data.zero_()
    assert torch.equal(vit.module(images), logits)
    assert not vit.module.training


def test_half_precision_is_checked_in_float32_and_kept_and_said(caplog):
    vit = wrap_model(huggingface("vit", torch.bfloat16))
    assert vit.dtype == torch.bfloat16
    assert "is kept in torch.bfloat16" in caplog.text
    with torch.inference_mode():
        inside = wrap_model(huggingface("vit"))
    assert not any(p.is_inference() for p in inside.module.parameters())


def test_replaced_heads_come_along():
    module = huggingface("vit")
    module.classifier = nn.Sequential(nn.Dropout(), shake(nn.Linear(24, 3)))
    vit = wrap_model(module)
    assert isinstance(vit.module.head, nn.Linear)
    assert vit.class_names == ("class 0", "class 1", "class 2")
    deep = torchvision(representation_size=7)
    vit = wrap_model(deep)
    images = pictures(vit)
    assert_close(vit.module(images), deep.eval()(images))
    with pytest.raises(ValueError, match="head is a Sequential"):
        explain_many(vit, images, 0, methods=["lrp"])


def test_class_names_are_the_configuration_s_unless_they_are_fillers():
    names = {0: "ant", 1: "bee", 2: "cat", 3: "dog", 4: "elk"}
    assert wrap_model(huggingface("vit", id2label=names)).class_names[4] == "elk"
    assert wrap_model(huggingface("vit")).class_names[4] == "class 4"
    assert wrap_model(huggingface("vit"), class_names=list("abcde")).class_names[4] == "e"
    from timm.data import ImageNetInfo

    known = dict(enumerate(ImageNetInfo().label_descriptions()))
    vit = wrap_model(huggingface("vit", id2label=known, num_labels=1000))
    assert vit.class_index("n02391049") == 340


@pytest.mark.parametrize("case", ["vit", "deit", "registers"])
def test_several_labels_have_a_sigmoid_each(case, caplog):
    module = huggingface(case, problem_type="multi_label_classification").eval()
    module.classifier.bias.data = torch.tensor([9.2, 9.0, -9, -9, -9]).double()
    vit = wrap_model(module)
    assert "the sigmoid of its logit" in caplog.text
    x = pictures(vit, 2)
    expected = module(x).logits.sigmoid()[:, 1].detach()
    curve = perturb(vit, x, torch.rand(2, 4, 4), [1, 1], order="positive", fractions=(0, 0.5))
    assert_close(curve.probability[:, 0].double(), expected)
    assert curve.correct[:, 0].all()  # beside class 0, which is more probable
    one = explain_many(vit, x, 1, methods=["gae"])["gae"]
    assert f"p = {float(expected[0]):.2f}" in str(one.plot().findobj(Text))
    other = wrap_model(huggingface("vit"))
    assert_close(other.probabilities(torch.ones(5)), torch.full((5,), 0.2))


@pytest.mark.parametrize(("case", "scores"), [("vit", 1), ("deit", 3), ("dinov2", 1)])
def test_a_score_is_no_class(case, scores):
    with pytest.raises(ValueError, match="a score and no classes"):
        wrap_model(huggingface(case, problem_type="regression", num_labels=scores))


class Surprising(hf.ViTForImageClassification):
    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = out.logits + 0.5
        return out


def test_another_forward_pass_is_refused_with_the_difference():
    config = huggingface("vit").config
    with pytest.raises(ValueError, match=r"Surprising.*largest difference is 0\.5,"):
        wrap_model(shake(Surprising(config)))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: hf.SwinForImageClassification(hf.SwinConfig(
            image_size=16, patch_size=2, embed_dim=8, depths=[1], num_heads=[1], window_size=2)),
         r"SwinForImageClassification: of HuggingFace's networks, ViTForImageClassification"),
        (lambda: hf.BeitForImageClassification(hf.BeitConfig(**SIZES)), "BeitForImageClass"),
        (lambda: huggingface("vit").vit, r"ViTModel: of HuggingFace's"),
        (lambda: TorchvisionSwin([4, 4], 8, [1, 1], [1, 1], [2, 2]), r"SwinTransformer: of torchv"),
        (lambda: huggingface("vit", hidden_act="mish"), r"activation 'mish'.*known are gelu"),
        (lambda: huggingface("vit", num_channels=1), "takes 1 channels, expected 3"),
        (lambda: huggingface("vit", num_labels=0), "has no classifier"),
        (lambda: huggingface("vit", image_size=18), r"\(18, 18\) is no multiple"),
        (lambda: huggingface("vit").to("meta"), "not in memory"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_by_name(make, told):
    with pytest.raises(ValueError, match=told):
        wrap_model(make())


def test_surplus_weights_and_other_sizes_are_refused():
    module = huggingface("vit")
    module.vit.layers[0].mlp.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"do not fit.*blocks\.0\.mlp\.extra"):
        wrap_model(module)
    with pytest.raises(ValueError, match="interpolate_embeddings"):
        wrap_model(torchvision(), image_size=32)
    with pytest.raises(ValueError, match="set_input_size"):
        wrap_model(tiny().module, image_size=32)
    with pytest.raises(ValueError, match=r"takes images of \(16, 16\), the preprocessing makes"):
        wrap_model(huggingface("vit"), hf.ViTImageProcessor())


@pytest.mark.parametrize("name", ["q_proj", "v_proj"])
def test_adapters_that_are_not_merged_are_refused(name):
    module = huggingface("vit")
    for layer in module.vit.layers:
        base = getattr(layer.attention, name)
        setattr(layer.attention, name, nn.ModuleDict({"base_layer": base}))
    with pytest.raises(ValueError, match="merge adapters into"):
        wrap_model(module)
