"""Where the mass of a map lies, on maps whose shares are known."""

import numpy as np
import pandas as pd
import pytest
import torch

from attnguide.evaluation import localisation as shares
from attnguide.evaluation.localisation import correlation, regions, relevance_by_region

# A 2 x 3 grid: the target's object on the left, half of a patch in the middle, the other right.
LEFT = torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
RIGHT = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.5]])
MAP = torch.tensor([[3.0, 2.0, -4.0], [-1.0, 0.5, -2.0]])


def row(relevance, target=0, own=None, **more):
    return {
        "image_id": "a",
        **relevance_by_region(relevance, regions((LEFT, RIGHT), target, own)),
        **more,
    }


def value(measure, *rows):
    return measure(pd.DataFrame(rows)).tolist()


def test_mass_is_divided_among_the_regions():
    found = row(MAP)
    assert (found["positive"], found["negative"]) == (5.5, 7.0)
    assert (found["positive_target"], found["negative_target"]) == (4.0, 1.0)
    assert (found["positive_other"], found["negative_other"]) == (0.0, 5.0)
    assert (found["positive_background"], found["negative_background"]) == (1.5, 1.0)
    areas = [found[f"area_{region}"] for region in ("target", "other", "background")]
    assert areas == pytest.approx([2.5 / 6, 1.5 / 6, 2 / 6])
    assert np.isnan(found["positive_own"])
    assert np.isnan(found["area_guide"])


def test_the_other_object_becomes_the_target():
    first, second = row(MAP), row(MAP, target=1)
    assert second["positive_target"] == first["positive_other"]
    assert second["negative_other"] == first["negative_target"]
    nobody = row(MAP, target=2)
    assert nobody["area_target"] == 0
    assert nobody["negative_other"] == 6.0


def test_without_objects_only_the_whole_is_known():
    found = relevance_by_region(MAP, regions((), 0))
    assert (found["positive"], found["negative"]) == (5.5, 7.0)
    assert np.isnan(found["positive_target"])
    assert np.isnan(found["area_background"])


def test_measures_of_a_known_map():
    known = row(MAP)
    assert value(shares.positive_share("target"), known) == pytest.approx([4 / 5.5])
    assert value(shares.negative_share("other"), known) == pytest.approx([5 / 7])
    assert value(shares.mass_share("background"), known) == pytest.approx([2.5 / 12.5])
    assert value(shares.positive_within("target"), known) == pytest.approx([0.8])
    assert value(shares.area("other"), known) == pytest.approx([0.25])
    assert value(shares.all_net_positive, known, row(-MAP)) == [0, 1]
    assert value(shares.both_signs, known, row(-MAP), row(MAP, target=1)) == [1, 0, 0]


def test_signs_are_strict_and_unknown_without_an_object():
    zero = row(torch.zeros(2, 3))
    assert value(shares.net_positive("target"), row(MAP), zero, row(-MAP)) == [1, 0, 0]
    assert value(shares.net_negative("other"), row(MAP), zero, row(-MAP)) == [1, 0, 0]
    assert np.isnan(value(shares.net_positive("target"), row(MAP, target=2))).all()
    assert np.isnan(value(shares.positive_share("target"), zero)).all()


def test_guided_share_counts_red_in_the_picture_and_blue_in_the_guide():
    own = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    found = row(MAP, own=own)
    assert value(shares.guided_share, found) == pytest.approx([(3 + 4 + 2) / 12.5])
    everywhere = row(torch.ones(2, 3), own=torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert value(shares.guided_share, everywhere) == [0.5]


def test_correlation_knows_scale_sign_and_constant_maps():
    assert correlation(MAP, 3 * MAP + 2) == pytest.approx(1)
    assert correlation(MAP, -MAP) == pytest.approx(-1)
    assert correlation(MAP, torch.arange(6.0).view(2, 3)) == pytest.approx(
        np.corrcoef(MAP.flatten(), np.arange(6))[0, 1]
    )
    assert np.isnan(correlation(MAP, torch.ones(2, 3)))
