"""The rows of a perturbation study."""

import pandas as pd
import pytest
import torch
from tiny import pictures, tiny

from attnguide import explain, perturb
from attnguide.evaluation.study import RANDOM, perturbation_rows, random_map

COLUMNS = {"image_id", "label", "target", "prediction", "method", "loss", "order", "fraction"}


def study(vit, images, names, label, **kwargs):
    methods = {"complete": {}, "gae": {}}
    return perturbation_rows(vit, images, names, torch.tensor(label), methods=methods, **kwargs)


def test_rows_say_what_perturb_says():
    vit = tiny(dtype=torch.float64)
    images, label = pictures(vit, 2), [3, 1]
    rows = study(vit, images, ["a", "b"], label, fractions=[0, 0.5, 0.9])
    assert COLUMNS | {"correct", "probability", "logit"} <= set(rows.columns)
    assert len(rows) == 2 * 3 * 2 * 3
    relevance = explain(vit, images, label, method="gae").relevance
    curve = perturb(vit, images, relevance, label, order="negative", fractions=[0, 0.5, 0.9])
    part = rows[(rows["method"] == "gae") & (rows["order"] == "negative")]
    assert part["probability"].tolist() == pytest.approx(curve.probability.flatten().tolist())
    assert part["correct"].tolist() == curve.correct.flatten().tolist()
    assert part["image_id"].tolist() == ["a"] * 3 + ["b"] * 3
    assert part["label"].tolist() == [3] * 3 + [1] * 3


def test_what_is_explained_and_what_is_followed_are_two_things():
    vit = tiny()
    images = pictures(vit, 2)
    rows = study(vit, images, ["a", "b"], [3, 1], target="class 2")
    assert set(rows["target"]) == {2}
    assert set(rows["label"]) == {3, 1}


def test_random_order_depends_on_name_and_seed_alone():
    assert torch.equal(random_map("a", 0, (3, 4)), random_map("a", 0, (3, 4)))
    assert not torch.equal(random_map("a", 0, (3, 4)), random_map("b", 0, (3, 4)))
    assert not torch.equal(random_map("a", 0, (3, 4)), random_map("a", 1, (3, 4)))
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, 2)
    both = study(vit, images, ["a", "b"], [3, 1])
    alone = study(vit, images[1:], ["b"], [1])
    same = both[both["image_id"] == "b"].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, alone, rtol=1e-9)
    assert RANDOM in set(alone["method"])
