"""What stands where a patch is masked: against numbers worked out by hand and plain loops."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from tiny import pictures, tiny

from attnguide.evaluation.fills import NOISE, filled, impute, linear_filled, seeds_of
from attnguide.evaluation.perturbation import perturb_many

HIDDEN = "."


def image(text):
    """(1, H, W) numbers and (H, W) hidden ones of `1 . / 3 4`."""
    rows = [row.split() for row in text.split("/")]
    hidden = np.array([[word == HIDDEN for word in row] for row in rows])
    values = [[-99.0 if word == HIDDEN else float(word) for word in row] for row in rows]
    return np.array([values]), hidden


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 2 3 / 4 . 6 / 7 8 18", ["23/4"]),
        (". . 6 12 / 3 . 6 9 / 12 9 3 0", ["9/2", "21/4", "6"]),
        ("1 2 3 4 / 5 . . 8 / 9 . . 12 / 13 14 15 16", ["6", "7", "10", "11"]),
        ("0 0 0 0 / 1 . . 0 / 1 . . 0 / 1 1 0 0",
         ["547/1365", "218/1365", "848/1365", "337/1365"]),
        ("7 . / . .", ["7", "7", "7"]),
    ],
)  # fmt: skip
def test_imputed_pixels_are_the_exact_solution(text, expected):
    values, hidden = image(text)
    made = impute(values, hidden)
    assert made[0][hidden] == pytest.approx([float(Fraction(word)) for word in expected])
    assert np.array_equal(made[0][~hidden], values[0][~hidden])


def test_every_hidden_pixel_is_the_weighted_mean_of_its_neighbours():
    rng = np.random.default_rng(0)
    picture, hidden = rng.random((3, 9, 7)), rng.random((9, 7)) < 0.6
    made = impute(picture, hidden)
    for row, col in np.argwhere(hidden):
        total, weights = np.zeros(3), 0.0
        for r in range(max(0, row - 1), min(9, row + 2)):
            for c in range(max(0, col - 1), min(7, col + 2)):
                if (r, c) != (row, col):
                    weight = 1 / 6 if r == row or c == col else 1 / 12
                    total, weights = total + weight * made[:, r, c], weights + weight
        np.testing.assert_allclose(made[:, row, col], total / weights)
    assert made.min() >= picture[:, ~hidden].min()
    assert made.max() <= picture[:, ~hidden].max()


def test_no_visible_pixel_gives_the_mean_and_no_hidden_one_the_image():
    picture = np.random.default_rng(0).random((3, 4, 4))
    everywhere = impute(picture, np.ones((4, 4), dtype=bool))
    np.testing.assert_allclose(everywhere, picture.mean((1, 2), keepdims=True) + 0 * picture)
    assert np.array_equal(impute(picture, np.zeros((4, 4), dtype=bool)), picture)


def test_noise_has_its_size_in_image_space_and_hidden_pixels_alone():
    images = torch.zeros(1, 3, 64, 64)
    hidden = torch.zeros(1, 64, 64, dtype=torch.bool)
    hidden[:, 8:] = True
    noisy = linear_filled(images, hidden, [1], (0.5, 0.25, 1.0))
    assert torch.equal(noisy[0, :, :8], images[0, :, :8])
    spread = noisy[0, :, 8:].flatten(1).std(1) * torch.tensor([0.5, 0.25, 1.0])
    assert spread.tolist() == pytest.approx([NOISE] * 3, rel=0.05)


def test_noise_is_that_of_the_image_and_the_fraction_in_every_batch():
    vit = tiny(dtype=torch.float64)
    images, relevance = pictures(vit, 3), torch.rand(3, 4, 4)
    study = lambda which, **kwargs: perturb_many(  # noqa: E731
        vit, images[which], {"r": relevance[which]}, 0, fill="linear", **kwargs
    )["r", "positive"]
    every, alone = study(slice(0, 3)), study(slice(1, 2))
    torch.testing.assert_close(every.logit[1:2], alone.logit)
    other = study(slice(1, 2), seeds=[5])
    assert torch.equal(other.logit[:, 0], alone.logit[:, 0])
    assert not torch.isclose(other.logit[:, 1:], alone.logit[:, 1:]).any()
    assert len(set(seeds_of(images))) == 3


def test_linear_equals_the_plain_loop():
    vit = tiny(dtype=torch.float64)
    images, relevance = pictures(vit, 2), torch.rand(2, 4, 4)
    curve = perturb_many(vit, images, {"r": relevance}, 1, fill="linear", fractions=[0, 0.5, 1])
    for index in range(2):
        ranked = relevance[index].flatten().argsort(descending=True, stable=True)
        for step, count in enumerate([0, 8, 16]):
            hidden = torch.zeros(16, dtype=torch.bool).index_fill(0, ranked[:count], True)
            hidden = hidden.view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1)
            std = vit.preprocess.std
            picture = linear_filled(
                images[index : index + 1], hidden[None], seeds_of(images[index : index + 1]), std
            )
            with torch.no_grad():
                logit = vit.module(picture)[0, 1]
            torch.testing.assert_close(curve["r", "positive"].logit[index, step], logit)


@pytest.mark.parametrize("fill", ["black", "linear"])
def test_some_fills_need_to_know_the_normalisation(fill):
    model = lambda x: torch.zeros(len(x), 2)  # noqa: E731
    with pytest.raises(ValueError, match=f"fill='{fill}' needs the model's normalisation"):
        perturb_many(model, torch.ones(1, 3, 8, 8), {"r": torch.zeros(1, 2, 2)}, 0, fill=fill)


def test_a_fill_must_be_a_name_or_a_finite_number():
    images = torch.ones(1, 3, 8, 8)
    for bad in ("white", True, None):
        with pytest.raises(ValueError, match="unknown fill"):
            filled(images, bad, None, 4)
    with pytest.raises(ValueError, match="must be finite"):
        filled(images, float("nan"), None, 4)
    with pytest.raises(ValueError, match="depends on which patches"):
        filled(images, "linear", None, 4)
