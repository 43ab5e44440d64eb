"""Relevance becomes colour the way the paper describes, and nothing else changes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from attnguide import list_methods
from attnguide.viz.overlay import as_picture, normalize, overlay
from attnguide.viz.style import (
    METHOD_STYLES,
    FigureSettings,
    drawn_with,
    method_style,
    relevance_colours,
)

MAPS = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=3), elements=st.floats(-1e6, 1e6)
)


@given(MAPS)
def test_normalising_divides_each_map_by_its_own_largest_magnitude(maps):
    scaled = normalize(maps)
    for raw, ours in zip(np.atleast_3d(maps.T).T, np.atleast_3d(scaled.T).T, strict=True):
        largest = max(abs(v) for v in raw.flat)
        for before, after in zip(raw.flat, ours.flat, strict=True):
            assert after == (before / largest if largest else 0)


def test_normalising_takes_tensors_and_refuses_what_is_no_map():
    relevance = torch.tensor([[1.0, -4.0]], requires_grad=True)
    assert normalize(relevance).tolist() == [[0.25, -1.0]]
    with pytest.raises(ValueError, match="rows, cols"):
        normalize(np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        normalize(np.array([[1.0, np.nan]]))


def test_colours_are_white_at_zero_and_as_dark_below_as_above():
    red, white, blue = relevance_colours(np.array([1.0, 0.0, -1.0]))
    assert white.tolist() == [1, 1, 1]
    assert red[0] > 2 * max(red[1], red[2])
    assert blue[2] > 2 * max(blue[0], blue[1])
    values = np.linspace(0, 1, 50)
    luminance = np.array([0.299, 0.587, 0.114])
    above, below = (relevance_colours(s * values) @ luminance for s in (1, -1))
    assert (np.diff(above) < 0).all()
    assert (np.diff(below) < 0).all()
    assert np.abs(above - below).max() < 0.12


def test_overlay_mixes_seven_parts_of_map_with_three_of_picture():
    picture = np.full((4, 4, 3), 0.5, dtype=np.float32)
    white = overlay(picture, np.zeros((2, 2)))
    np.testing.assert_allclose(white, 0.7 + 0.3 * 0.5, atol=1e-6)
    alone = overlay(picture, np.ones((2, 2)), weight=1)
    np.testing.assert_allclose(alone, np.broadcast_to(relevance_colours(np.ones(())), (4, 4, 3)))


def test_a_grey_picture_beneath_keeps_its_brightness_and_zero_without_a_tint():
    magenta = np.zeros((4, 4, 3), np.float32)
    magenta[..., [0, 2]] = 1
    shown = overlay(magenta, np.zeros((2, 2)), grey=True)
    np.testing.assert_allclose(shown, 0.7 + 0.3 * (0.299 + 0.114), atol=1e-6)
    assert (magenta[..., 1] == 0).all()
    with drawn_with(FigureSettings(underlay="grey")):
        np.testing.assert_array_equal(overlay(magenta, np.zeros((2, 2))), shown)
        coloured = overlay(magenta, np.zeros((2, 2)), grey=False)
    np.testing.assert_array_equal(coloured, overlay(magenta, np.zeros((2, 2))))


def test_overlay_resizes_bilinearly_and_keeps_directions():
    relevance = np.array([[1.0, -1.0], [0.0, 0.0]])
    shown = overlay(np.zeros((4, 8, 3)), relevance, weight=1)
    assert shown.shape == (4, 8, 3)
    assert shown[0, 0, 0] > shown[0, 0, 2]  # red at the upper left
    assert shown[0, -1, 2] > shown[0, -1, 0]  # blue at the upper right
    np.testing.assert_allclose(shown[-1, :], 1, atol=1e-6)  # white below
    # Pixel 3 of 8 lies at 1.25 of patch centres 0.5 and 1.5: a quarter before the middle.
    expected = relevance_colours(np.array([0.25]))
    np.testing.assert_allclose(shown[0, 3], expected[0], atol=1e-6)


def test_pictures_of_every_kind_are_the_same_picture():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = pixels.astype(np.float32) / 255
    for form in (
        Image.fromarray(pixels),
        pixels,
        expected,
        torch.from_numpy(expected).permute(2, 0, 1),
    ):
        np.testing.assert_allclose(as_picture(form), expected, atol=1e-7)


def test_normalised_images_are_refused_with_advice():
    with pytest.raises(ValueError, match="denormalize"):
        as_picture(torch.randn(3, 8, 8) * 3)
    with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
        as_picture(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="weight"):
        overlay(np.zeros((4, 4, 3)), np.zeros((2, 2)), weight=1.2)
    with pytest.raises(ValueError, match="one map"):
        overlay(np.zeros((4, 4, 3)), np.zeros((3, 2, 2)))


def test_every_method_has_a_look_of_its_own_that_never_changes():
    looks = [(s.colour, s.dash, s.marker) for s in METHOD_STYLES.values()]
    assert len(set(looks)) == len({s.colour for s in METHOD_STYLES.values()}) == len(looks)
    assert len({(s.dash, s.marker) for s in METHOD_STYLES.values()}) == len(looks)  # in grey too
    unnamed = {"corrected_rollout"}  # of a rule of the user's own
    assert set(list_methods()) - unnamed <= set(METHOD_STYLES)
    assert method_style("someone's own") == method_style("someone's own")
    assert method_style("someone's own") != method_style("another of theirs")
