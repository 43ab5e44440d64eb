"""Gradients of pixels and tokens: definitions, identities, bad input."""

import numpy as np
import oracles_signed
import pytest
import torch
from method_checks import check_refused
from published import error
from tiny import SHAPES, pictures, tiny

from attnguide import explain, explain_many
from attnguide.methods.integrated_gradients import rule

METHODS = {
    "input_x_gradient": {},
    "integrated_gradients": {"steps": 3},
    "smoothgrad": {"samples": 3},
    "cp_lrp": {},
    "attn_lrp": {},
    "legrad": {},
    "attcat": {},
    "cdam": {},
}
FORMS = [*METHODS.items(), ("cp_lrp", {"gamma": 0.05}), ("attcat", {"attention": False})]
FORMS += [("legrad", {"layers": None}), ("smoothgrad", {"samples": 3, "times_input": True})]


@pytest.mark.parametrize("shape", SHAPES)
def test_cp_lrp_is_libra_input_times_gradient(shape):
    vit = tiny(shape, dtype=torch.float64)
    methods = ["cp_lrp", ("input_x_gradient", {"gradient": "libra"})]
    many = explain_many(vit, pictures(vit), [1, 4, 0], methods=methods)
    torch.testing.assert_close(*(e.relevance for e in many.values()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_their_definitions_on_every_kind_of_model(shape):
    vit = tiny(shape, dtype=torch.float64, depth=3)
    x, target = pictures(vit, 2), 2
    maps = {
        str(form): explain(vit, x, target, method=form[0], **form[1]).relevance for form in FORMS
    }
    for row, picture in enumerate(x):
        gradient = oracles_signed.pixel_gradient(vit.module, picture, target)
        held = oracles_signed.edited(vit.module, 0, 1)
        shared = oracles_signed.edited(vit.module, 1 / 4, 1 / 2)
        expected = {
            "input_x_gradient": picture * gradient,
            "cp_lrp": picture * oracles_signed.pixel_gradient(held, picture, target),
            "attn_lrp": picture * oracles_signed.pixel_gradient(shared, picture, target),
        }
        expected = {
            str((name, {})): oracles_signed.patch_sums(values, vit.patch_size)
            for name, values in expected.items()
        }
        for weighted, settings in ((True, {}), (False, {"attention": False})):
            key = str(("attcat", settings))
            expected[key] = oracles_signed.attcat(vit, picture, target, weighted)
        for layers, settings in ((2, {}), (3, {"layers": None})):
            key = str(("legrad", settings))
            expected[key] = oracles_signed.legrad(vit, picture, target, layers)
        expected[str(("cdam", {}))] = oracles_signed.cdam(vit, picture, target)
        for key, values in expected.items():
            assert error(maps[key][row], values) <= 1e-9, key


@pytest.mark.parametrize("method", METHODS)
def test_follows_the_loss(method):
    """A loss that is twice a logit gives twice the map, the difference of two their difference."""
    vit = tiny(dtype=torch.float64)
    x, settings = pictures(vit, 2), METHODS[method]

    def of(target, loss="logit", reference=None):
        return explain(
            vit, x, target, method=method, loss=loss, reference=reference, **settings
        ).relevance

    double = of(1, lambda logits, target, _: 2 * logits.gather(1, target[:, None])[:, 0])
    torch.testing.assert_close(double, 2 * of(1), rtol=1e-9, atol=1e-12)
    if method != "legrad":  # which clamps
        torch.testing.assert_close(of(1, "difference", 3), of(1) - of(3), rtol=1e-9, atol=1e-9)


def test_integrated_gradients_sum_to_the_difference_of_logits():
    """The network is smooth: the error of the quadrature falls fast with the number of points."""
    vit = tiny(dtype=torch.float64)
    x, baseline = pictures(vit, 2), 0.25
    away = vit.module(x)[:, 1] - vit.module(torch.full_like(x, baseline))[:, 1]
    away = away.detach()

    def distance(**settings):
        e = explain(vit, x, 1, method="integrated_gradients", baseline=baseline, **settings)
        return float((e.relevance.sum((1, 2)) - away).abs().max() / away.abs().max())

    few, many, midpoint = (
        distance(steps=10),
        distance(steps=200),
        distance(steps=400, quadrature="midpoint"),
    )
    assert many <= 1e-6 < few
    assert midpoint <= 1e-2


def test_quadrature_is_exact_for_polynomials():
    """Gauss-Legendre with n points up to degree 2 n - 1, midpoints for lines alone."""
    points, weights = rule("gauss_legendre", 5)
    for degree in range(10):
        assert float(weights @ points**degree) == pytest.approx(1 / (degree + 1), abs=1e-14)
    assert float(weights @ points**10) != pytest.approx(1 / 11, abs=1e-7)
    points, weights = rule("midpoint", 4)
    assert points.tolist() == [0.125, 0.375, 0.625, 0.875]
    assert weights.tolist() == [0.25] * 4


def test_baselines_spread_to_the_image():
    vit = tiny(dtype=torch.float64)
    x = pictures(vit, 2)

    def of(baseline):
        return explain(
            vit, x, 1, method="integrated_gradients", steps=2, baseline=baseline
        ).relevance

    for same in (torch.tensor(0.5), torch.full((3, 1, 1), 0.5), torch.full((3, 16, 16), 0.5)):
        assert torch.equal(of(same), of(0.5))
    assert not torch.allclose(of(0.0), of(0.5))
    assert float(of(x[0])[0].abs().max()) == 0  # nothing lies between an image and itself


def test_smoothgrad_without_noise_is_the_gradient():
    vit = tiny("non_square", dtype=torch.float64)
    x = pictures(vit, 1)
    gradient = oracles_signed.pixel_gradient(vit.module, x[0], 1)
    for times_input, values in ((False, gradient), (True, gradient * x[0])):
        e = explain(vit, x, 1, method="smoothgrad", noise=0, times_input=times_input)
        expected = oracles_signed.patch_sums(values, vit.patch_size)
        np.testing.assert_allclose(e.relevance[0], expected, rtol=1e-9, atol=1e-12)


def test_smoothgrad_averages_over_the_noise_it_is_given():
    """The deviation is a share of each image's own range; the seed draws in float32."""
    vit = tiny(dtype=torch.float64)
    x = pictures(vit, 2)
    x[1] *= 3
    drawn = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(7))
    given = explain(vit, x, 1, method="smoothgrad", samples=2, noise=0.2, noise_tensor=drawn)
    seeded = explain(vit, x, 1, method="smoothgrad", samples=2, noise=0.2, seed=7)
    assert torch.equal(given.relevance, seeded.relevance)
    for row, picture in enumerate(x):
        deviation = 0.2 * (picture.max() - picture.min())
        copies = [picture + deviation * e.double() for e in drawn]
        gradients = [oracles_signed.pixel_gradient(vit.module, c, 1) for c in copies]
        mean = (gradients[0] + gradients[1]) / 2
        expected = oracles_signed.patch_sums(mean, vit.patch_size)
        np.testing.assert_allclose(given.relevance[row], expected, rtol=1e-9, atol=1e-12)


def test_legrad_needs_the_final_norm():
    vit = tiny()
    vit.module.norm_f = vit.module.norm
    del vit.module.norm
    check_refused("legrad", "VisionTransformer.* has no norm; use complete", vit)
