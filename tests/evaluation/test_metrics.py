"""Metrics of curves and maps against numbers worked out by hand."""

import numpy as np
import pytest

from attnguide.evaluation import metrics

FRACTION = np.arange(10) / 10
LEAST = [1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0]
MOST = [1, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 0]


def test_areas_of_two_curves():
    assert metrics.auc_chefer(FRACTION, [LEAST, MOST]) == pytest.approx([0.75, 0.15])
    assert metrics.srg(FRACTION, LEAST, MOST) == pytest.approx(2 / 3)
    assert metrics.srg(FRACTION, [LEAST, MOST], [MOST, LEAST]) == pytest.approx([2 / 3, -2 / 3])
    percent = 100 * np.array(LEAST), 100 * np.array(MOST)
    assert metrics.srg(FRACTION, *percent) == pytest.approx(66.6667, abs=1e-4)


def test_abpc_counts_the_filled_picture_once():
    assert metrics.abpc(FRACTION, LEAST, MOST) == pytest.approx(6 / 11)
    whole = metrics.abpc([*FRACTION, 1], [*LEAST, 0], [*MOST, 0])
    assert whole == pytest.approx(6 / 11)


CELLS = [[3, 1, 0, -1], [2, 5, 0.5, -2], [1.5, 4, 0.2, -0.5], [0.1, 0.3, 0.4, -3]]
DROPS = [[1, 0.5, 0.1, -0.2], [0.9, 3, 0.2, -0.1], [0.4, 2.5, 0, 0.1], [0.05, 0.3, 0.15, -0.4]]


def test_single_deletion_of_the_worked_example():
    assert metrics.single_deletion(CELLS, DROPS) == pytest.approx(0.958058, abs=1e-6)
    enlarged = np.kron(CELLS, np.ones((3, 3)))
    assert metrics.single_deletion(enlarged, DROPS) == pytest.approx(0.958058, abs=1e-6)
    assert metrics.single_deletion(CELLS, -np.array(DROPS)) == pytest.approx(-0.958058, abs=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1 / 3])
def test_single_deletion_is_unknown_where_nothing_can_be_ranked(constant):
    assert np.isnan(metrics.single_deletion(np.full((14, 14), constant), DROPS))
    assert np.isnan(metrics.single_deletion(CELLS, np.full((4, 4), constant)))
    assert np.isnan(metrics.single_deletion(np.full((4, 4), np.nan), DROPS))


def test_a_patch_on_a_border_is_split_in_halves():
    """14 patches in 4 cells of 3.5: the fourth lies half in the first cell, half in the second."""
    relevance = np.random.default_rng(0).normal(size=(14, 14))
    pixels = np.kron(relevance, np.ones((16, 16))) / 256
    by_pixels = pixels.reshape(4, 56, 4, 56).sum((1, 3))
    assert metrics.cell_sums(relevance) == pytest.approx(by_pixels, abs=1e-12)
    one = np.zeros((14, 14))
    one[3, 0] = 8
    assert metrics.cell_sums(one)[:, 0].tolist() == [4, 4, 0, 0]
    one[3, 10] = 8
    assert metrics.cell_sums(one)[:2, 2:].tolist() == [[2, 2], [2, 2]]


def test_completeness_error_is_a_size_and_unknown_without_a_difference():
    error, relative = metrics.completeness_error([1.5, -1.0, 0.5], [1.0, -2.0, 0.0])
    assert error.tolist() == [0.5, 1, 0.5]
    assert relative.tolist() == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)


def test_similarity_sees_the_sign_or_not():
    relevance = np.array([[1.0, -2.0], [3.0, -4.0]])
    assert metrics.similarity(relevance, -relevance) == pytest.approx({"signed": -1, "absolute": 1})
    monotone = metrics.similarity(relevance, relevance**3)
    assert monotone == pytest.approx({"signed": 1, "absolute": 1})
    unknown = metrics.similarity(relevance, np.ones((2, 2)))
    assert np.isnan([unknown["signed"], unknown["absolute"]]).all()
    # ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15)
    assert metrics.spearman([1, 2, 3, 4], [2, 1, 9, 5]) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="as many values to be ranked, got 3 and 2"):
        metrics.spearman([1, 2, 3], [1, 2])
