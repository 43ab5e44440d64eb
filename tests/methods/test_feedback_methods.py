"""TAM and the two forms of Beyond Intuition."""

import numpy as np
import pytest
import torch
from method_checks import counted
from oracles import attention_and_gradient
from tiny import SHAPES, pictures, tiny

from attnguide import explain, explain_many

START = {"tam": 1, "bi_head": 2, "bi_token": 2}


def published_map(vit, image, target, method, start, steps):
    """One image's map from the definitions: full gradients, full N x N products."""
    paths = [
        attention_and_gradient(vit, alpha * image, target, "logit")
        for alpha in np.linspace(0, 1, steps)
    ]
    mean = sum(gradients[-1] for _, gradients in paths) / steps
    feedback = np.maximum(mean, 0).mean(0)
    attention, gradient = paths[-1]
    n = len(feedback)
    if method == "tam":
        perception = attention[-1].mean(0)
        for layer in range(len(attention) - 2, start - 1, -1):
            perception = perception + perception @ attention[layer].mean(0)
    else:
        perception = np.eye(n)
        for layer in range(start - 1, len(attention)):
            matrix = chain_matrix(vit, image, attention[layer], gradient[layer], layer, method)
            perception = perception + matrix @ perception
    row = np.zeros(n)
    for token, weight in enumerate(vit.readout.tolist()):
        row += weight * feedback[token] * perception[token]
    return row[vit.num_prefix :].reshape(vit.grid)


def chain_matrix(vit, image, attention, gradient, layer, method):
    if method == "bi_head":
        size = [abs(a.T @ g).mean() for a, g in zip(attention, gradient, strict=True)]
        return sum(s / sum(size) * a for s, a in zip(size, attention, strict=True))
    block, seen = vit.module.blocks[layer], []
    hook = block.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    with torch.no_grad():
        vit.module(image.unsqueeze(0))
        hook.remove()
        width = seen[0].shape[-1]
        value = block.attn.qkv(block.norm1(seen[0]))[:, 2 * width :]
        offer = value @ block.attn.proj.weight.T
        if hasattr(block.ls1, "gamma"):
            offer = offer * block.ls1.gamma
    return attention.mean(0) * (offer.norm(dim=-1) / seen[0].norm(dim=-1)).numpy()


@pytest.mark.parametrize("method", START)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_its_definition_on_every_kind_of_model(shape, method):
    vit = tiny(shape, dtype=torch.float64, depth=3)
    image = pictures(vit, 1)
    got = explain(vit, image, 2, method=method, start_layer=START[method], steps=4).relevance[0]
    expected = published_map(vit, image[0], 2, method, START[method], 4)
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-12 * expected.max())


def test_forward_passes_are_shared_by_methods_and_targets():
    vit = tiny(depth=3)
    images = pictures(vit, 2)
    methods = [(name, {"start_layer": start, "steps": 12}) for name, start in START.items()]
    with counted(vit) as calls:
        explain_many(vit, images, torch.tensor([[0, 1, 2], [3, 4, 0]]), methods=methods)
    # the image, the path, the tokens of bi_token; one image is compared
    assert sum(calls) == 2 * (1 + 12 + 1) + 1
    assert len(calls) == 1 + 3 + 1 + 1


def test_two_class_loss_is_differentiated_on_the_way():
    vit = tiny(dtype=torch.float64, depth=3)
    images, settings = pictures(vit), {"method": "tam", "start_layer": 0, "steps": 3}
    logit = explain(vit, images, 1, **settings).relevance
    contrast = explain(vit, images, 1, loss="difference", reference=[0, 2, 4], **settings).relevance
    assert not torch.allclose(logit, contrast)
    for index, reference in enumerate([0, 2, 4]):
        alone = explain(
            vit, images[[index]], 1, loss="difference", reference=reference, **settings
        ).relevance
        torch.testing.assert_close(contrast[[index]], alone)


@pytest.mark.parametrize(("method", "share"), [("tam", 1), ("bi_head", 1), ("bi_token", 2)])
def test_published_start_means_the_same_share_of_a_shallow_model(method, share):
    """Layer 4 (0-based) of 12 is layer 1 of 3; layers 4 and 7 (1-based) are 1 and 2."""
    vit = tiny(dtype=torch.float64, depth=3)
    images = pictures(vit)
    default = explain(vit, images, 1, method=method, steps=2).relevance
    for start in (1, 2):
        chosen = explain(vit, images, 1, method=method, steps=2, start_layer=start).relevance
        assert torch.equal(chosen, default) == (start == share)


def test_bi_token_names_what_it_lacks():
    vit = tiny(depth=3)
    for block in vit.module.blocks:
        block.attn.out, block.attn.proj = block.attn.proj, torch.nn.Sequential(block.attn.proj)
    with pytest.raises(ValueError, match=r"bi_token needs.*tiny class_token.*bi_head"):
        explain(vit, pictures(vit), 1, method="bi_token", start_layer=1)
