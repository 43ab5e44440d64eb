"""Attention is captured exactly, and the model comes back as it was."""

import gc
import threading
from dataclasses import replace

import pytest
import timm
import torch
from method_checks import fingerprint
from oracles import attention_and_gradient
from tiny import SHAPES, HandWritten, pictures, tiny
from torch import nn
from torch.utils.checkpoint import checkpoint

from attnguide import explain, explain_many, wrap_model
from attnguide.methods import get_method, list_methods
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


@pytest.mark.parametrize("shape", ["class_token", "registers"])
def test_attention_written_out_by_hand_is_captured_too(shape):
    """A user's own attention, without PyTorch's fused function, gives the same map."""
    vit = tiny(shape, dtype=torch.float64)
    images = pictures(vit)
    expected = explain(vit, images, 1).relevance

    for block in vit.module.blocks:
        block.attn = HandWritten(block.attn)
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


# Whatever state a network is in: the right map, and all of the state given back

METHODS = ("gae", "gradcam", "layercam", "dix", "tam", "tis", "partial_lrp")


def maps(vit, images, methods=METHODS):
    settings = {"tis": {"n_masks": 8}, "dix": {"steps": 2}, "tam": {"steps": 3}}
    return {
        name: explain(vit, images, 1, method=name, **settings.get(name, {})).relevance
        for name in methods
    }


def assert_same(vit, expected, images):
    before = fingerprint(vit.module)
    for name, got in maps(vit, images, expected).items():
        torch.testing.assert_close(got, expected[name], rtol=1e-4, atol=1e-6)
    assert fingerprint(vit.module) == before


@pytest.fixture
def expected():
    vit = tiny()
    return maps(vit, pictures(vit, 1))


def compiled(module):
    return torch.compile(module, backend="eager")


def compile_in_place(module):
    module.compile(backend="eager")
    return module


def compile_blocks(module):
    for index in range(len(module.blocks)):
        module.blocks[index] = compiled(module.blocks[index])
    return module


def compile_a_forward(module):
    module.blocks[0].forward = torch.compile(module.blocks[0].forward, backend="eager")
    return module


@pytest.mark.parametrize("how", [compiled, compile_in_place, compile_blocks, compile_a_forward])
def test_compiled_in_every_way(how, expected):
    vit = tiny()
    images = pictures(vit, 1)
    with torch.no_grad():
        answer = vit.module(images)
    network = how(vit.module)
    with torch.no_grad():
        network(images)  # code exists
    found = wrap_model(network, vit.preprocess, vit.class_names)
    if how in (compile_blocks, compile_a_forward):  # no rules for what they are now
        with pytest.raises(ValueError, match=r"its block 0 has .*(OptimizedModule|replaced)"):
            explain(found, images, 1, method=expected.popitem()[0])
    assert_same(found, expected, images)
    runs = []

    def count(graph, _):
        runs.append(1)
        return graph.forward

    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(network(images), answer)
        torch.compile(vit.module.norm, backend=count)(torch.ones(1, 24))
    assert runs  # compiling works as before


def test_gradient_checkpointing_is_put_aside(expected):
    vit = tiny()
    vit.module.set_grad_checkpointing(True)
    assert_same(vit, expected, pictures(vit, 1))
    assert vit.module.grad_checkpointing


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_of_one_s_own_is_refused(reentrant):
    vit = tiny()

    class Checkpointed(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, x):
            return checkpoint(self.block, x, use_reentrant=reentrant)

    for index, block in enumerate(vit.module.blocks):
        vit.module.blocks[index] = Checkpointed(block)
    with pytest.raises(ValueError, match="checkpoint"):
        explain(vit, pictures(vit, 1), 1)


def test_weights_made_in_inference_mode(expected):
    with torch.inference_mode():
        vit = tiny()
        vit.module.register_buffer("made_there_too", torch.ones(1))
    assert vit.module.head.weight.is_inference()
    assert_same(vit, expected, pictures(vit, 1))
    assert vit.module.head.weight.requires_grad


def test_threads_share_a_network(expected):
    vit = tiny()
    images = pictures(vit, 1)
    before, wrong = fingerprint(vit.module), []

    def work():
        ready.wait()
        for name, got in maps(vit, images).items():
            if not torch.allclose(got, expected[name], rtol=1e-4, atol=1e-6):
                wrong.append(name)

    for _ in range(4):
        ready = threading.Barrier(4)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert fingerprint(vit.module) == before


class Unwatched(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    @torch.no_grad()
    def forward(self, x):
        return self.part(x)


def quantised(vit):
    kinds = {nn.Linear}
    network = torch.ao.quantization.quantize_dynamic(vit.module, kinds, dtype=torch.qint8)
    return replace(vit, module=network)  # wrapped, it is refused at once


def without_gradient(vit):
    vit.module.norm = Unwatched(vit.module.norm)
    return vit


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("method", ["complete", "gae", "attn_gradcam", "tam", "dix", "bi_token"])
@pytest.mark.parametrize("cut", [quantised, without_gradient])
def test_no_gradient_flows(cut, method):
    vit = cut(tiny(depth=3))
    with pytest.raises(ValueError, match="no gradient flows from the logits to the attention"):
        explain(vit, pictures(vit, 1), 1, method=method)
    assert explain(vit, pictures(vit, 1), 1, method="rollout").relevance.abs().sum() > 0


def test_a_detach_between_two_layers_is_refused():
    vit = tiny(depth=3)
    vit.module.blocks[1].register_forward_pre_hook(lambda _, args: (args[0].detach(),))
    with pytest.raises(ValueError, match="no gradient flows"):
        explain(vit, pictures(vit, 1), 1)


def test_a_loss_that_ignores_the_logits_is_refused():
    vit = tiny()
    with pytest.raises(ValueError, match="loss does not depend on the logits"):
        explain(vit, pictures(vit, 1), 1, loss=lambda logits, *_: torch.ones(len(logits)))


def alive():
    """Tensors and traces, not frozen, that Python knows; garbage that waits is among them."""
    kinds = (torch.Tensor, AttentionTrace)
    return sum(issubclass(type(found), kinds) for found in gc.get_objects())


@pytest.mark.filterwarnings("ignore:.*no positive evidence", "ignore:.*ill-conditioned")
@pytest.mark.parametrize("method", [*list_methods(), "complete_libra"])
def test_nothing_of_an_explanation_waits_for_the_garbage_collector(tiny_vit, method):
    """What waits for it piles up: gigabytes, where tensors are large and objects are few."""
    named = {method: (get_method(method.removesuffix("_libra")), {})}
    if method.endswith("_libra"):
        named[method] = (named[method][0], {"gradient": "libra"})
    images, target = pictures(tiny_vit), torch.tensor([[0, 1], [1, 2], [2, 3]])
    explain_many(tiny_vit, images, target, methods=named)  # what is made once
    gc.disable()
    gc.freeze()  # what is there already is not counted
    try:
        explain_many(tiny_vit, images, target, methods=named)
        assert alive() == 0
    finally:
        gc.unfreeze()
        gc.enable()
