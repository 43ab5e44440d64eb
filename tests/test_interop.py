"""Our methods through other libraries' doors, and theirs through ours."""

import numpy as np
import pytest
import torch
from tiny import pictures

from attnguide import explain
from attnguide.interop import captum_method, quantus_explain


def test_quantus_gets_pixel_maps_that_keep_the_sums(tiny_vit):
    images, target = pictures(tiny_vit), [0, 1, 2]
    own = explain(tiny_vit, images, target, method="gae").relevance
    found = quantus_explain(tiny_vit, "gae")(
        model=tiny_vit.module, inputs=images.numpy(), targets=np.array(target), device="cpu"
    )
    assert found.shape == (3, 1, 16, 16)
    assert found.dtype == np.float32
    patches = found[:, 0].reshape(3, 4, 4, 4, 4).sum((2, 4))
    np.testing.assert_allclose(patches, own, rtol=1e-5, atol=1e-7)


def test_quantus_explains_the_model_that_it_passes(tiny_vit):
    images = pictures(tiny_vit)
    function = quantus_explain(tiny_vit, "input_x_gradient")
    before = function(tiny_vit.module, images, [0, 1, 2])
    with torch.no_grad():
        for parameter in tiny_vit.module.head.parameters():
            parameter.neg_()
    np.testing.assert_allclose(function(tiny_vit.module, images, [0, 1, 2]), -before, rtol=1e-3,
                               atol=1e-6)  # fmt: skip


class Saliency:
    """As captum's: the signed gradient of the target's logit by the pixels."""

    def __init__(self, forward):
        self.forward = forward

    def attribute(self, images, target, scale=1.0):
        logits = self.forward(images).gather(1, target.unsqueeze(1)).sum()
        return scale * torch.autograd.grad(logits, images)[0]


def test_an_attribution_is_a_method_whose_pixels_are_summed(tiny_vit):
    images, target = pictures(tiny_vit), torch.tensor([0, 1, 2])
    x = images.clone().requires_grad_()
    logits = tiny_vit.module(x).gather(1, target[:, None]).sum()
    gradient = torch.autograd.grad(logits, x)[0]
    expected = 2 * gradient.sum(1).reshape(3, 4, 4, 4, 4).sum((2, 4))
    found = explain(tiny_vit, images, target, method=captum_method(Saliency, scale=2.0))
    torch.testing.assert_close(found.relevance, expected)


def test_an_attribution_of_another_shape_is_refused(tiny_vit):
    class Wrong(Saliency):
        def attribute(self, images, target):
            return images.mean(1)

    with pytest.raises(ValueError, match="one value per pixel.*Wrong gave"):
        explain(tiny_vit, pictures(tiny_vit), [0, 1, 2], method=captum_method(Wrong))


def test_captums_input_times_gradient_is_ours(tiny_vit):
    attr = pytest.importorskip("captum.attr")
    images, target = pictures(tiny_vit), torch.tensor([0, 1, 2])
    theirs = explain(tiny_vit, images, target, method=captum_method(attr.InputXGradient))
    ours = explain(tiny_vit, images, target, method="input_x_gradient")
    torch.testing.assert_close(theirs.relevance, ours.relevance, rtol=1e-4, atol=1e-6)
