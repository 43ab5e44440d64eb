"""GradCAM, LayerCAM and attention GradCAM: loops, known answers, original code, zero maps."""

import warnings

import numpy as np
import oracles_cams
import pytest
import torch
from oracles import attention_and_gradient
from timm.models.vision_transformer import VisionTransformer
from tiny import SHAPES, pictures, tiny
from torch import nn

from attnguide import explain, explain_many, wrap_model

TOKEN_METHODS = ("gradcam", "layercam")
METHODS = (*TOKEN_METHODS, "attn_gradcam")
ignore_zeros = pytest.mark.filterwarnings("ignore:.*found no positive evidence")


def same(got, expected):
    expected = np.array(expected).reshape(got.shape)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * abs(expected).max())
    assert expected.max() > 0


@ignore_zeros
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_plain_loops(shape):
    vit = tiny(shape, dtype=torch.float64)
    images, targets = pictures(vit), torch.tensor([[1, 4], [0, 2], [3, 1]])
    for layer in (-1, 0):
        methods = [(name, {"layer": layer}) for name in TOKEN_METHODS]
        many = explain_many(vit, images, targets, methods=methods)
        for index, target in ((0, 1), (1, 0)):
            aim = int(targets[index, target])
            f, g = oracles_cams.features_and_gradient(vit, images[index], aim, layer)
            for name in TOKEN_METHODS:
                same(many[name].relevance[index, target], getattr(oracles_cams, name)(f, g))
    positive = 0
    for target in range(5):
        a, g = attention_and_gradient(vit, images[0], target, "logit")
        expected = oracles_cams.attn_gradcam(a[-1], g[-1], vit.readout.numpy(), vit.num_prefix)
        got = explain(vit, images[:1], target, method="attn_gradcam").relevance[0]
        np.testing.assert_allclose(got.flatten(), expected, rtol=0, atol=1e-10)
        positive += max(expected) > 0
    assert positive


def colour_counter(class_token):
    """Features are the patch colours, attention is uniform, class c is how much of colour c.

    Then d logit / d feature is 1 / N for the target's colour, nothing for the others.
    """
    pool = {} if class_token else {"global_pool": "avg", "class_token": False}
    module = VisionTransformer(
        img_size=8,
        patch_size=2,
        embed_dim=3,
        depth=1,
        num_heads=1,
        num_classes=3,
        norm_layer=nn.Identity,
        **pool,
    )
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    block = module.blocks[0]
    block.attn.qkv.weight.data[6:] = torch.eye(3)
    block.attn.proj.weight.data = torch.eye(3)
    module.head.weight.data = torch.eye(3)
    for colour in range(3):
        module.patch_embed.proj.weight.data[colour, colour] = 0.25
    return wrap_model(module.double(), name="colour counter")


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("method", TOKEN_METHODS)
def test_finds_the_patch_of_the_target_colour(method, class_token):
    vit = colour_counter(class_token)
    picture = torch.zeros(1, 3, 8, 8).double()
    picture[0, 0, 2:4, 6:8] = 5  # red in row 1, column 3
    picture[0, 1, 6:8, :2] = 2  # green in row 3, column 0
    maps = explain(vit, picture, torch.tensor([[0, 1]]), method=method).relevance[0]
    expected = torch.zeros(2, 4, 4).double()
    expected[0, 1, 3], expected[1, 3, 0] = 5 / vit.num_tokens, 2 / vit.num_tokens
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_no_positive_evidence_is_zeros_and_a_warning(method):
    """The first picture speaks against red; the second one for it."""
    vit = colour_counter(class_token=True)
    picture = -torch.ones(2, 3, 8, 8).double()
    picture[1] = 1
    told = f"1 of 2 maps of method {method!r} are all zero.* evidence for 'class 0' in images.0.$"
    with pytest.warns(UserWarning, match=told) as caught:
        maps = explain(vit, picture, 0, method=method).relevance
    assert len(caught) == 1
    assert (maps[0] == 0).all()
    assert (maps[1] > 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(vit, picture[1:], 0, method=method)
