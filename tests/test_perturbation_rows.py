"""The rows of a perturbation study."""

import pandas as pd
import pytest
import torch
from tiny import pictures, tiny

from attnguide import explain, explain_many, perturb
from attnguide.evaluation.engines import Engine, prepare
from attnguide.evaluation.perturbation_rows import RANDOM, perturbation_rows, random_map

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


def test_fills_stand_side_by_side_and_share_the_explanations(monkeypatch):
    vit = tiny(dtype=torch.float64)
    images, label = pictures(vit, 2), [3, 1]
    fills = ("zero", "black", 0.5, "linear", "drop")
    calls = []
    module = "attnguide.evaluation.perturbation_rows.explain_many"
    monkeypatch.setattr(module, lambda *a, **k: calls.append(1) or explain_many(*a, **k))
    rows = study(vit, images, ["a", "b"], label, fills=fills)
    assert calls == [1]
    assert list(rows["fill"].unique()) == [str(fill) for fill in fills]
    for fill in fills:
        alone = study(vit, images, ["a", "b"], label, fills=(fill,))
        same = rows[rows["fill"] == str(fill)].reset_index(drop=True)
        pd.testing.assert_frame_equal(same, alone, rtol=1e-12)
    assert rows.groupby("fill")["logit"].sum().round(6).nunique() == len(fills)


def test_noise_of_linear_is_that_of_name_and_seed():
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, 2)
    logit = lambda rows: rows.loc[rows["image_id"] == "b", "logit"].to_numpy()  # noqa: E731
    kwargs = {"fills": ("linear",), "fractions": [0.5, 0.9]}
    both = logit(study(vit, images, ["a", "b"], [3, 1], **kwargs))
    alone = logit(study(vit, images[1:], ["b"], [1], **kwargs))
    other = logit(study(vit, images[1:], ["b"], [1], seed=7, **kwargs))
    assert both == pytest.approx(alone, rel=1e-12)
    assert (other != alone).all()


def test_the_engine_is_that_of_all_fills():
    vit = tiny()
    ready = prepare(vit, Engine(precision="bf16"))
    images = pictures(vit, 2)
    rows = study(vit, images, ["a", "b"], [3, 1], fills=("zero", "drop"), engine=ready)
    full = study(vit, images, ["a", "b"], [3, 1], fills=("zero", "drop"))
    gap = (rows["logit"] - full["logit"]).abs()
    assert 0 < gap.max() < 0.5


@pytest.mark.parametrize("fills", [(), ("zero", "zero"), (0.5, "0.5")])
def test_fills_differ(fills):
    vit = tiny()
    with pytest.raises(ValueError, match="fills must be different ones, at least one"):
        study(vit, pictures(vit, 1), ["a"], [0], fills=fills)


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
