"""T-Attr, full and partial LRP: loops, conservation, models, precision."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import oracles_lrp
import pytest
import torch
from method_checks import check_refused
from oracles import attention_and_gradient
from published import FIRST, arrays, image, real
from tiny import pictures, tiny

from attnguide import explain
from attnguide.methods._lrp.layer_rules import BALANCED
from attnguide.methods._lrp.record import record
from attnguide.methods._lrp.relevance import descend, warn_float32
from attnguide.tracing.trace import AttentionTrace

MODELS = ("class_token", "registers", "average", "layer_scale", "distilled", "non_square")


@pytest.mark.slow
def test_pixels_resemble_the_original_code(shared):
    """The stored pixel maps are float32, which does not determine them: a resemblance only."""
    vit = real(shared)
    precise = replace(vit, module=copy.deepcopy(vit.module).double())
    table = arrays(shared, "chefer_dev_lrp_pixels")
    for key in [f"lrp_pixels|{FIRST}|1", f"lrp_pixels|{FIRST}|0"]:
        target = int(key.split("|")[2])
        e = explain(precise, image(shared, FIRST).double(), target, method="lrp", pixels=True)
        assert np.corrcoef(e.relevance.flatten(), table[key].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("shape", MODELS)
def test_equal_plain_loops(shape):
    vit = tiny(shape, dtype=torch.float64)
    images, target = pictures(vit, 1), 3
    x = images[0].numpy()
    first, grid, readout = vit.num_prefix, vit.grid, vit.readout.double().numpy()

    def check(expected, **settings):
        got = explain(vit, images, target, **settings).relevance[0].numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 * abs(expected).max())

    _, gradient = attention_and_gradient(vit, images[0], target, "logit")
    relevance, _, _ = oracles_lrp.descend(vit, x, target, separate=False)
    for start in (0, 1):
        row = oracles_lrp.transformer_attribution(gradient, relevance, readout, start)
        check(row[first:].reshape(grid), method="t_attr", start_layer=start)

    relevance, tokens, patches = oracles_lrp.descend(vit, x, target, separate=True)
    last = readout @ np.maximum(relevance[-1], 0).mean(0)
    check(last[first:].reshape(grid), method="partial_lrp")
    check(patches.sum(-1).reshape(grid), method="lrp")
    check(tokens[1, first:].sum(-1).reshape(grid), method="lrp", start_layer=1)
    check(oracles_lrp.pixels(vit, x, patches), method="lrp", pixels=True)


def test_relevance_is_conserved_by_the_balanced_rules():
    vit = tiny(dtype=torch.float64, depth=3)
    trace = AttentionTrace(vit, pictures(vit), torch.tensor([0, 2, 4]))
    totals = [s.tokens.sum((1, 2)) for s in descend(trace, record(trace, "t_attr"), BALANCED)]
    torch.testing.assert_close(torch.stack(totals), torch.ones(3, 3).double(), rtol=0, atol=1e-4)


def test_pixels_add_up_to_patches():
    vit = tiny("non_square", dtype=torch.float64)
    images = pictures(vit)
    patches = explain(vit, images, 1, method="lrp").relevance
    pixels = explain(vit, images, 1, method="lrp", pixels=True).relevance
    assert pixels.shape == (3, *vit.image_size)
    pooled = pixels.unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).sum((2, 4))
    torch.testing.assert_close(pooled, patches, rtol=1e-6, atol=1e-9)


def test_two_class_loss_is_the_difference_of_two_classes():
    vit = tiny(dtype=torch.float64)
    images = pictures(vit)
    target, reference = (explain(vit, images, c, method="lrp").relevance for c in (1, 4))
    both = explain(vit, images, 1, method="lrp", loss="difference", reference=4).relevance
    torch.testing.assert_close(both, target - reference, rtol=1e-8, atol=1e-10)


def test_pixels_need_patches_made_by_one_convolution():
    vit = tiny()
    vit.module.patch_embed.norm = torch.nn.LayerNorm(24)
    check_refused("lrp", "patches made by one convolution", vit, pixels=True)


@pytest.mark.parametrize("method", ["t_attr", "lrp"])
def test_float32_is_warned_of_once(method):
    warn_float32.cache_clear()
    vit = tiny()
    with pytest.warns(UserWarning, match=f"{method}.*ill-conditioned in float32.*double"):
        explain(vit, pictures(vit), 1, method=method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(vit, pictures(vit), 1, method=method)
        explain(vit, pictures(vit), 1, method="partial_lrp")
        warn_float32.cache_clear()
        precise = tiny(dtype=torch.float64)
        explain(precise, pictures(precise), 1, method=method)
