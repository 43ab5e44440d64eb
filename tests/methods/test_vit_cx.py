"""ViT-CX, and the clustering of its masks."""

import numpy as np
import pytest
import torch
from method_checks import check_refused
from published import FIRST, arrays, image, real
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from tiny import pictures, tiny

from attnguide import explain
from attnguide.methods.vit_cx import complete_linkage, masks_of


def test_masks_are_as_many_as_those_of_the_original_code(shared):
    labels = arrays(shared, "others_dev_stages")[f"vit_cx.labels|{FIRST}|1"]
    assert len(masks_of(real(shared), image(shared, FIRST), 0.1)) == labels.max() + 1


@pytest.mark.slow
def test_another_seed_gives_much_the_same_map(shared):
    vit, picture = real(shared), image(shared, "n02165105_tiger_beetle.JPEG")
    first, second = (
        explain(vit, picture, 300, method="vit_cx", seed=seed).relevance for seed in (0, 1)
    )
    assert 0 < (first - second).norm() / first.norm() <= 0.25


def definition(vit, picture, target, masks, noise, seed):
    """Map of pixels of one image, mask by mask."""
    draw = torch.randn(
        len(masks), *picture.shape[1:], generator=torch.Generator().manual_seed(seed)
    )

    def score(x):
        with torch.no_grad():
            return vit.module(x).softmax(-1)[0, target]

    total = torch.zeros(vit.image_size, dtype=picture.dtype)
    for mask, e in zip(masks, draw.double(), strict=True):
        extra = e * noise * (1 - mask)
        effect = score(picture * mask + extra) - score(picture + extra) + score(picture)
        total += effect * mask
    return total / masks.sum(0) / len(masks)


@pytest.mark.parametrize("shape", ["class_token", "non_square", "average"])
def test_equals_its_definition_in_pixels_and_patches(shape):
    vit = tiny(shape, dtype=torch.float64)
    picture = pictures(vit, 1)
    masks = masks_of(vit, picture, 0.1)
    assert len(masks) > 3
    expected = definition(vit, picture, 2, masks, 0.3, 7)
    settings = {"method": "vit_cx", "noise": 0.3, "seed": 7, "batch_size": 2}
    got = explain(vit, picture, 2, pixels=True, **settings).relevance[0]
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    means = explain(vit, picture, 2, **settings).relevance[0]
    rows, cols = vit.grid
    blocks = expected.view(rows, 4, cols, 4).mean((1, 3))
    torch.testing.assert_close(means, blocks, rtol=1e-9, atol=1e-12)


def test_seed_decides_the_noise():
    vit = tiny()
    images = pictures(vit)

    def run(seed, **settings):
        return explain(vit, images, 1, method="vit_cx", seed=seed, **settings).relevance

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))
    assert torch.equal(run(3, noise=0), run(4, noise=0))


@pytest.mark.parametrize("constant", [20, 24])
def test_constant_channels_are_left_out(constant):
    """Zero contrast has no place in the picture; if no channel has any, relevance is zero."""
    vit = tiny()
    last = vit.module.blocks[-1].norm1
    last.weight.data[:constant] = 0
    assert len(masks_of(vit, pictures(vit, 1), 0)) == 24 - constant
    relevance = explain(vit, pictures(vit), 1, method="vit_cx").relevance
    assert relevance.isfinite().all()
    assert bool(relevance.any()) == (constant < 24)


def test_linkage_is_complete():
    rows = np.random.default_rng(0).uniform(size=(60, 5))
    for threshold in (0.0, 0.02, 0.1, 1.0):
        got = complete_linkage(torch.from_numpy(rows), threshold).numpy()
        tree = linkage(pdist(rows, "cosine"), "complete")
        expected = fcluster(tree, threshold, "distance")
        assert (np.equal.outer(got, got) == np.equal.outer(expected, expected)).all()
    assert complete_linkage(torch.ones(1, 4), 0.1).tolist() == [0]


def test_a_block_without_attention_is_refused():
    vit = tiny()
    vit.module.blocks[-1].attention = vit.module.blocks[-1]._modules.pop("attn")
    check_refused("vit_cx", "last block of tiny class_token has no part `attn`", vit=vit)
