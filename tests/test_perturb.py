"""Perturbation against plain loops and against models whose exact answer is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SHAPES, pictures, tiny

from attnguide import perturb
from attnguide.evaluation.curve import area_under_curve
from attnguide.evaluation.engines import Engine
from attnguide.evaluation.fills import filled
from attnguide.evaluation.masking import paths
from attnguide.evaluation.perturbation import FRACTIONS, perturb_many, rank_patches


def counting_model(weight):
    """Logit of class 0 = sum over patches of weight x (patch is not filled); class 1 = 0."""

    def model(images):
        kept = (torch.nn.functional.avg_pool2d(images[:, :1], 2).flatten(1) > 0.5).float()
        score = kept @ weight
        return torch.stack([score, torch.zeros_like(score)], 1)

    return model


def test_exact_area_on_a_model_with_a_known_answer():
    """Ten patches, one counts: correct until it is filled."""
    weight = torch.zeros(10)
    weight[3] = 1
    images = torch.ones(1, 3, 4, 10)
    relevance = weight.view(1, 2, 5)
    fractions = [i / 10 for i in range(11)]
    run = lambda order: perturb(  # noqa: E731
        counting_model(weight), images, relevance, 0, order=order, fractions=fractions
    )
    # class 0 wins at a score of 1, and by the lower index at a tie: count probabilities instead
    p1, p0 = 1 / (1 + torch.e**-1), 0.5
    first, last = run("positive"), run("negative")
    assert first.auc("probability") == pytest.approx(100 * (0.05 * (p1 + p0) + 0.9 * p0), abs=1e-4)
    assert last.auc("probability") == pytest.approx(100 * (0.9 * p1 + 0.05 * (p1 + p0)), abs=1e-4)
    assert first.probability[0].tolist() == pytest.approx([p1] + [p0] * 10)
    assert last.higher_is_better
    assert not first.higher_is_better


def test_positive_is_worst_negative_is_best_random_between():
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(36, generator=generator) - 0.3
    images = torch.ones(1, 3, 12, 12)
    model = counting_model(weight)
    best = perturb_many(model, images, {"w": weight.view(1, 6, 6)}, 0)
    random = [
        perturb(model, images, torch.rand(1, 6, 6, generator=generator), 0).auc("probability")
        for _ in range(50)
    ]
    assert best["w", "positive"].auc("probability") < min(random)
    assert best["w", "negative"].auc("probability") > max(random)


@pytest.mark.parametrize("fill", ["zero", "black", "mean", "blur", 0.7])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_plain_loop_over_pixels(shape, fill):
    vit = tiny(shape, dtype=torch.float64)
    images = pictures(vit, 3)
    generator = torch.Generator().manual_seed(3)
    relevance = torch.rand(3, *vit.grid, generator=generator)
    curves = perturb_many(
        vit, images, {"r": relevance}, [0, 1, 2], fill=fill, engine=Engine(chunk=5)
    )
    replacement = filled(images, fill, vit.preprocess, 4)
    patches = vit.grid[0] * vit.grid[1]
    for order in ("positive", "negative"):
        for image in range(3):
            values = relevance[image].flatten().tolist()
            sign = -1 if order == "positive" else 1
            ranked = sorted(range(patches), key=lambda p: (sign * values[p], p))
            for step, fraction in enumerate(FRACTIONS):
                masked = images[image].clone()
                for patch in ranked[: int(fraction * patches + 0.5)]:
                    row, col = divmod(patch, vit.grid[1])
                    area = (slice(4 * row, 4 * row + 4), slice(4 * col, 4 * col + 4))
                    masked[:, area[0], area[1]] = replacement[image][:, area[0], area[1]]
                with torch.no_grad():
                    logits = vit.module(masked.unsqueeze(0))[0]
                curve = curves["r", order]
                torch.testing.assert_close(curve.logit[image, step], logits[image])
                assert curve.correct[image, step] == (logits.argmax() == image)
                assert curve.prediction[image, step] == logits.argmax()
                torch.testing.assert_close(
                    curve.probability[image, step], logits.softmax(-1)[image]
                )


def test_tokens_are_masked_where_it_is_exact_and_pixels_elsewhere():
    vit = tiny()
    assert paths(vit) == ("pixels", "tokens", "last block")
    vit.module.patch_embed.proj.stride = (2, 2)
    assert paths(vit) == ("pixels",)


def test_no_image_is_forwarded_twice():
    """9 distinct masks per order and one clean image, whatever the number of maps that agree."""
    count = []

    def model(images):
        count.append(len(images))
        return torch.zeros(len(images), 2)

    relevance = torch.rand(2, 4, 4)
    perturb_many(model, torch.ones(2, 3, 16, 16), {"a": relevance, "same": relevance}, 0)
    assert sum(count) == 2 * (1 + 9 + 9)


def test_ties_go_by_position():
    flat = torch.zeros(1, 6)
    assert rank_patches(flat, "positive").tolist() == [[0, 1, 2, 3, 4, 5]]
    assert rank_patches(flat, "negative").tolist() == [[0, 1, 2, 3, 4, 5]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30, unique=True))
def test_ranking_survives_rescaling_and_mirrors(values):
    relevance = torch.tensor(values, dtype=torch.float64)
    positive = rank_patches(relevance, "positive")
    assert positive.tolist() == rank_patches(relevance * 3 + 7, "positive").tolist()
    assert positive.tolist() == rank_patches(-relevance, "negative").tolist()
    assert positive.tolist() == sorted(range(len(values)), key=lambda i: -values[i])


@given(st.floats(0, 1), st.integers(2, 12))
def test_a_constant_curve_has_itself_as_area(value, steps):
    fraction = torch.linspace(0, 0.9, steps)
    assert float(area_under_curve(fraction, torch.full((steps,), value))) == pytest.approx(value)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"order": "up"}, "unknown order"),
        ({"fill": "white"}, "unknown fill"),
        ({"fractions": [0, 1.5]}, r"within \[0, 1\]"),
        ({"fractions": [0.5, 0.1]}, "must increase"),
        ({"relevance": torch.zeros(2, 4, 4)}, r"must be \(B, rows, cols\)"),
        ({"relevance": torch.full((3, 4, 4), torch.nan)}, "NaN"),
    ],
)
def test_bad_input(kwargs, message):
    vit = tiny()
    relevance = kwargs.pop("relevance", torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match=message):
        perturb(vit, pictures(vit), relevance, 0, **kwargs)


def test_black_needs_to_know_the_normalisation():
    with pytest.raises(ValueError, match="needs the model's normalisation"):
        perturb(
            lambda x: torch.zeros(len(x), 2),
            torch.ones(1, 3, 8, 8),
            torch.zeros(1, 2, 2),
            0,
            fill="black",
        )
