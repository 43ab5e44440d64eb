"""Every rule and loss against plain float64 loops written from the paper."""

import numpy as np
import pytest
import torch
from oracles import WEIGHTS, attention_and_gradient, before_the_softmax, rollout_map
from tiny import SHAPES, pictures, tiny

from attnguide import explain, explain_many

LOSSES = ["logit", "log_probability", "relative_contrast", "difference", "ratio"]
pytestmark = pytest.mark.filterwarnings("ignore:relative_contrast")


@pytest.mark.parametrize("shape", SHAPES)
def test_maps_equal_the_loops(shape):
    vit = tiny(shape, dtype=torch.float64)
    images = pictures(vit, 2)
    many = explain_many(vit, images, [1, 3], methods=[*WEIGHTS, "centred"])
    for index, target in enumerate([1, 3]):
        a, g = attention_and_gradient(vit, images[index], target, "logit")
        ones = [np.ones_like(layer) for layer in a]
        scores = [before_the_softmax(*layer) for layer in zip(a, g, strict=True)]
        forms = {name: (a, g, weight) for name, weight in WEIGHTS.items()}
        forms["centred"] = (ones, scores, WEIGHTS["complete"])
        for name, (first, second, weight) in forms.items():
            start = vit.readout.numpy()
            expected = rollout_map(first, second, weight, start, vit.num_prefix, vit.grid)
            got = many[name].relevance[index].numpy()
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * abs(expected).max())


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_equal_the_loops(loss):
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, 2)
    got = explain(vit, images, [0, 2], loss=loss, reference=[4, 1]).relevance
    for index, (target, reference) in enumerate([(0, 4), (2, 1)]):
        a, g = attention_and_gradient(vit, images[index], target, loss, reference)
        expected = rollout_map(a, g, WEIGHTS["complete"], vit.readout.numpy(), 1, vit.grid)
        np.testing.assert_allclose(
            got[index].numpy(), expected, rtol=0, atol=1e-10 * abs(expected).max()
        )


def test_normalised_rollout_is_the_paper_s_divided_by_two_to_the_depth():
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, 2)
    plain = explain(vit, images, 0, method="rollout").relevance
    normalised = explain(vit, images, 0, method="rollout", normalize=True).relevance
    torch.testing.assert_close(plain, normalised * 2 ** len(vit.module.blocks))


def test_start_layer_leaves_out_the_first_layers():
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, 1)
    a, g = attention_and_gradient(vit, images[0], 0, "logit")
    expected = rollout_map(a[1:], g[1:], WEIGHTS["rollout"], vit.readout.numpy(), 1, vit.grid)
    got = explain(vit, images, 0, method="rollout", start_layer=1).relevance[0]
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)
    with pytest.raises(ValueError, match=r"start_layer must lie in \[0, 1\]"):
        explain(vit, images, 0, method="rollout", start_layer=2)


def test_complete_is_nearly_the_first_order_sum_over_layers():
    """For small attention gradients the product is 1 + the sum of the layers' matrices."""
    vit = tiny(dtype=torch.float64)
    vit.module.head.weight.data *= 1e-4
    images = pictures(vit, 1)
    a, g = attention_and_gradient(vit, images[0], 2, "logit")
    first_order = sum((ga * aa).mean(0)[0, 1:] for aa, ga in zip(a, g, strict=True))
    got = explain(vit, images, 2).relevance[0].flatten().numpy()
    assert np.corrcoef(got, first_order)[0, 1] > 0.9999
