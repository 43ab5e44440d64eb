"""What a network does is believed, and wrappers are taken off; the rest is refused in one line."""

import copy

import pytest
import pytorch_lightning as pl
import timm
import torch
import transformers as hf
from foreign import huggingface, torchvision
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer
from timm.utils import ModelEmaV2, ModelEmaV3
from tiny import pictures, tiny
from torch import nn
from torch.testing import assert_close

from attnguide import explain, wrap_model
from attnguide.models.checkpoint import state_digest
from attnguide.models.preprocess import Preprocess

SIZES = {
    "img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5,
}  # fmt: skip


class Trained(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net, self.loss = net, nn.CrossEntropyLoss()


class Forwarding(Trained):
    def forward(self, x):
        return self.net(x)


WRAPPERS = {
    "compiled": torch.compile,
    "parallel": nn.DataParallel,
    "sequence": lambda net: nn.Sequential(nn.Identity(), net),
    "Lightning without forward": Trained,
    "Lightning": Forwarding,
    "EMA 2": ModelEmaV2,
    "EMA 3": ModelEmaV3,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "compiled in Lightning": lambda net: Forwarding(torch.compile(net)),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_wrappers_are_taken_off(kind):
    net = tiny().module
    vit = wrap_model(WRAPPERS[kind](net), Preprocess((16, 16)))
    assert isinstance(vit.module, VisionTransformer)
    x = pictures(vit)
    assert torch.equal(vit.module(x), net(x))


def test_the_averaged_network_is_found_and_not_the_trained_one():
    class Averaging(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.online_model, self.ema_model = net, tiny(init_values=0.5).module

        def forward(self, x):
            return self.ema_model(x)

    wrapper = Averaging(tiny().module)
    assert wrap_model(wrapper).module is wrapper.ema_model


def test_networks_of_other_libraries_are_found_in_wrappers():
    net = huggingface("vit")
    vit = wrap_model(Forwarding(net))
    x = pictures(vit)
    assert_close(vit.module(x), net.eval()(x).logits)
    config = hf.TimmWrapperConfig(architecture="test_vit", num_labels=4)
    assert len(wrap_model(hf.TimmWrapperForImageClassification(config)).class_names) == 4


class Standardise(nn.Module):
    def forward(self, x):
        return (x - 0.5) / 0.25


class Beside(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.classifier = tiny().module, nn.Linear(24, 3)
        self.backbone.head = nn.Identity()

    def forward(self, x):
        return self.classifier(self.backbone(x))


class Prompted(VisionTransformer):
    def _pos_embed(self, x):
        x = super()._pos_embed(x)
        return torch.cat([x[:, :1], torch.zeros(len(x), 5, 24), x[:, 1:]], 1)


class Features(VisionTransformer):
    def forward(self, x):
        return self.forward_features(x)


class Around(nn.Module):
    """A head of one's own on HuggingFace's features."""

    def __init__(self, kind):
        super().__init__()
        self.encoder, self.classifier = kind, nn.Linear(24, 3)

    def forward(self, x):
        return self.classifier(self.encoder(x).last_hidden_state[:, 0])


class AroundMore(Around):
    def forward(self, pixel_values):
        return {"logits": super().forward(pixel_values)}


def quantised():
    return torch.ao.quantization.quantize_dynamic(tiny().module, {nn.Linear}, torch.qint8)


def changed(**parts):
    net = tiny().module
    for name, part in parts.items():
        owner, _, last = name.rpartition("__")
        setattr(net.get_submodule(owner.replace("__", ".")), last, part)
    return net


def not_finite():
    net = tiny().module
    net.blocks[1].mlp.fc1.weight.data[3, 2] = float("inf")
    return net


REFUSED = {
    "a name": (lambda: "vit_base", TypeError, "a name or a folder goes to load_model"),
    "HuggingFace's features": (
        lambda: Around(huggingface("vit").vit), ValueError,
        r"classifier beside HuggingFace's ViTModel \(encoder\); put it into ViTForImageClass"),
    "DINOv2's features": (
        lambda: AroundMore(huggingface("dinov2").dinov2), ValueError, "into Dinov2ForImageClass"),
    "8 bits": (quantised, ValueError, "layers of whole numbers, through which no gradient flows"),
    "8 bits by hand": (
        lambda: changed(blocks__1__mlp__fc1__weight=nn.Parameter(
            torch.zeros(96, 24).char(), requires_grad=False)), ValueError, "whole numbers"),
    "8 bits in a part": (
        lambda: changed(blocks__1__mlp__fc1=torch.ao.nn.quantized.dynamic.Linear(24, 96)),
        ValueError, "as it was before it was quantised"),
    "traced": (
        lambda: torch.jit.trace(tiny().module, torch.zeros(1, 3, 16, 16)), ValueError,
        "is not a vision transformer of timm's form"),
    "a ViT": (tiny, TypeError, "got ViT, which is ready to be explained"),
    "normalises": (
        lambda: nn.Sequential(Standardise(), tiny().module), ValueError,
        r"more than the network in it \(1\).*preprocess=\{'mean'"),
    "classifier outside": (Beside, ValueError, r"wrapper\.backbone\.head = wrapper\.CLASSIFIER"),
    "prompts": (
        lambda: Prompted(**SIZES), ValueError, r"\(22, 24\).*expected \(17, D\): 4 x 4 patches"),
    "grey": (lambda: VisionTransformer(in_chans=1, **SIZES), ValueError, "1 channels, expected 3"),
    "padded": (
        lambda: VisionTransformer(**{**SIZES, "img_size": (16, 18)}, dynamic_img_size=True,
                                  dynamic_img_pad=True), ValueError, "pads its images"),
    "features": (lambda: Features(**SIZES), ValueError, r"\(1, 17, 24\) for one image; expected"),
    "no classes": (
        lambda: VisionTransformer(**{**SIZES, "num_classes": 0}), ValueError, "no classifier"),
    "not finite": (not_finite, ValueError, r"blocks\.1\.mlp\.fc1\.weight of Vis.* holds NaN or"),
    "no blocks": (
        lambda: timm.create_model("test_resnet"), ValueError, "no patch_embed, blocks; pass one"),
    "other positions": (lambda: timm.create_model("cait_xxs24_224"), ValueError, "first block"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.ao", "ignore:torch.quantize_per")
@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:Converting")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_explained_is_refused_in_one_line(kind):
    make, error, told = REFUSED[kind]
    with pytest.raises(error, match=told) as refused:
        wrap_model(make())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["as made", "one logit", "copied", "HuggingFace"])
def test_weights_made_in_inference_mode_are_taken_outside_of_it(kind):
    with torch.inference_mode():
        if kind == "HuggingFace":
            net = huggingface("vit")
        else:
            net = VisionTransformer(**{**SIZES, "num_classes": 1 if kind == "one logit" else 5})
            net = copy.deepcopy(net).double() if kind == "copied" else net
    assert next(net.parameters()).is_inference()
    vit = wrap_model(net)
    assert bool(explain(vit, pictures(vit), 1).relevance.any())


def test_a_convolutional_stem_has_its_own_grid():
    vit = wrap_model(timm.create_model("vit_tiny_r_s16_p8_224", num_classes=5))
    assert (vit.grid, vit.patch_size) == ((7, 7), (32, 32))
    assert explain(vit, torch.randn(1, 3, 224, 224), 1).relevance.shape == (1, 7, 7)


@pytest.mark.parametrize("pooled", [False, True])
def test_boolean_pooling_as_in_masked_autoencoders(pooled):
    class Masked(VisionTransformer):
        def __init__(self):
            super().__init__(**SIZES)
            self.global_pool, self.fc_norm = pooled, LayerNorm(24)

        def forward(self, x):
            x = self.forward_features(x)
            return self.head(self.fc_norm(x[:, 1:].mean(1)) if pooled else x[:, 0])

    readout = wrap_model(Masked()).readout
    expected = torch.full((17,), 1 / 16) if pooled else torch.zeros(17)
    expected[0] = 0 if pooled else 1
    assert_close(readout, expected)


def test_readout_follows_the_pooling():
    assert tiny().readout.nonzero().tolist() == [[0]]
    assert tiny("registers").readout.nonzero().tolist() == [[0]]
    torch.testing.assert_close(tiny("average").readout, torch.full((16,), 1 / 16))
    assert tiny("average_with_class").readout[0] == 0
    assert tiny("distilled").readout[:2].tolist() == [0.5, 0.5]
    for shape in ("class_token", "registers", "average", "average_with_class", "distilled"):
        assert float(tiny(shape).readout.sum()) == pytest.approx(1)


def test_another_pooling_than_declared_has_no_readout():
    class Largest(VisionTransformer):
        def forward_head(self, x, pre_logits=False):
            return self.head(x.amax(1))

    assert wrap_model(Largest(**SIZES)).readout is None


def test_networks_without_declared_prefix():
    vit = tiny()
    net = copy.deepcopy(vit.module)
    del net.num_prefix_tokens, net.global_pool

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in net.named_children():
                setattr(self, name, part)
            self.cls_token, self.pos_embed = net.cls_token, net.pos_embed

        def forward(self, x):
            x = self.patch_embed(x)
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x)[:, 0])

    own = wrap_model(Own(), vit.preprocess)
    assert own.num_prefix == 1
    x = pictures(vit)
    assert_close(explain(own, x, 1).relevance, explain(vit, x, 1).relevance)


@pytest.mark.parametrize(
    "head", [nn.Linear(24, 3), nn.Sequential(nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3))]
)
def test_logits_are_counted(head):
    vit = wrap_model(changed(head=head))
    assert vit.class_names == ("class 0", "class 1", "class 2")
    assert wrap_model(changed(head=head), class_names=list("abc")).class_index("c") == 2
    with pytest.raises(ValueError, match="has 3 classes, got 5"):
        wrap_model(changed(head=head), class_names=list("abcde"))


def test_one_logit_becomes_two_whose_probability_is_its_sigmoid():
    net = VisionTransformer(**{**SIZES, "num_classes": 1}).double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    vit = wrap_model(net, class_names=["tumour"])
    assert vit.class_names == ("not tumour", "tumour")
    z = net.eval()(x)
    assert z.shape == (2, 1)
    assert_close(vit.module(x), torch.cat([-z / 2, z / 2], 1))
    assert_close(vit.module(x).softmax(-1)[:, 1:], z.sigmoid())
    assert vit.module.blocks is net.blocks
    assert wrap_model(net, class_names=["healthy", "tumour"]).class_index("tumour") == 1


@pytest.mark.parametrize("library", ["timm", "HuggingFace", "torchvision"])
def test_that_1000_classes_are_imagenets_is_said(library, caplog):
    net = {
        "timm": lambda: VisionTransformer(**{**SIZES, "num_classes": 1000}),
        "HuggingFace": lambda: huggingface("vit", num_labels=1000),
        "torchvision": lambda: torchvision(num_classes=1000),
    }[library]()
    assert wrap_model(net).class_names[0].startswith("tench")
    assert "its 1,000 classes are called as ImageNet's" in caplog.text
    caplog.clear()
    wrap_model(net, class_names=[f"fish {number}" for number in range(1000)])
    assert not caplog.records


def test_the_checksum_is_that_of_the_state():
    vit = tiny()
    assert vit.weights_sha256 == state_digest(vit.module)
    net = huggingface("vit")
    assert wrap_model(net).weights_sha256 == state_digest(net)


def test_a_vit_says_what_it_is_and_moves():
    vit = tiny()
    assert repr(vit) == (
        "ViT(tiny class_token: 5 classes, 16 x 16 pixels, 4 x 4 patches and 1 prefix tokens, "
        "float32 on cpu)"
    )
    assert vit.to("meta").device.type == "meta"
    with pytest.raises(ValueError, match="cannot move tiny class_token to 'gpu'"):
        vit.to("gpu")
