"""A perturbation study: its rows, and areas, intervals and differences of known tables."""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import pictures, tiny

from attnguide import explain, explain_many, perturb
from attnguide.evaluation.engines import Engine, prepare
from attnguide.evaluation.perturbation_rows import (
    RANDOM,
    areas,
    auc_table,
    curves,
    paired_differences,
    perturbation_rows,
    random_map,
    scores,
)

MODULE = "attnguide.evaluation.perturbation_rows.explain_many"
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
    monkeypatch.setattr(MODULE, lambda *a, **k: calls.append(1) or explain_many(*a, **k))
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


class SeesOneHalf(torch.nn.Module):
    """Is right (class 1) as long as a patch of the left half is there and none of the right is."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, images):
        left, right = (part.abs().amax((1, 2, 3)) for part in images.chunk(2, -1))
        nothing = torch.zeros_like(left)
        return torch.stack([right, 2 * left - 1.5 * right, *[nothing - 9] * 3], 1)


def test_seam_masks_all_of_the_guide_first_and_knows_nothing_else(monkeypatch):
    vit = tiny(dtype=torch.float64)
    map_ = types.SimpleNamespace(relevance=torch.rand(2, 4, 4), target=torch.tensor([1, 1]))
    monkeypatch.setattr(MODULE, lambda *_, **__: {"any": map_})
    vit = dataclasses.replace(vit, module=SeesOneHalf())
    own = torch.ones(4, 4)
    own[:, 2:] = 0
    images = torch.ones(2, 3, 16, 16, dtype=torch.float64)
    found = {}
    fractions = [0.0, 0.25, 0.5, 0.75, 1.0]
    rows = study(vit, images, ["a", "b"], [1, 1], fractions=fractions, own=own)
    for order in ("negative", "positive"):
        part = rows[(rows["method"] == "seam") & (rows["order"] == order)]
        found[order] = part.groupby("fraction")[["on_guide", "correct"]].mean()
    assert found["negative"]["on_guide"].tolist()[1:] == pytest.approx([1, 1, 2 / 3, 0.5])
    assert found["positive"]["on_guide"].tolist()[1:] == pytest.approx([0, 0, 1 / 3, 0.5])
    assert found["negative"]["correct"].tolist() == [False, False, True, True, False]
    assert found["positive"]["correct"].tolist() == [False] * 5
    assert set(rows["method"]) == {"any", "random", "seam"}


# From rows to areas


def table(values, method="complete", order="negative"):
    """Rows of one model; `values` is images x fractions, used as probability and as correct."""
    return pd.DataFrame(
        {
            "image_id": f"image {image}",
            "model": "m",
            "method": method,
            "order": order,
            "fraction": step / 2,
            "probability": value,
            "correct": value > 0.5,
        }
        for image, row in enumerate(values)
        for step, value in enumerate(row)
    )


def test_area_is_the_trapezoid_in_percent():
    rows = table([[1, 0.5, 0], [0.2, 0.2, 0.2]])
    assert areas(rows, "probability").tolist() == pytest.approx([50, 20])
    assert areas(rows, "accuracy").tolist() == pytest.approx([25, 0])


def test_an_incomplete_image_is_refused():
    with pytest.raises(ValueError, match="'image 1' lacks fractions"):
        curves(table([[1, 1], [1, 1]]).iloc[:-1], "probability")


def test_paired_difference_sees_what_the_spread_hides():
    """Both methods vary wildly between images, one is always 10 points better."""
    levels = np.linspace(0, 0.8, 40)
    rows = pd.concat(
        [
            table([[v + 0.1, v + 0.1] for v in levels]),
            table([[v, v] for v in levels], method="gae"),
        ]
    )
    summary = auc_table(rows, ["complete", "gae"]).set_index(["method", "quantity"])
    own, rival = summary.loc[("complete", "probability")], summary.loc[("gae", "probability")]
    assert own["ci_low"] < rival["ci_high"]
    gap = paired_differences(rows, "complete", ["gae"]).set_index("quantity").loc["probability"]
    assert gap[["auc", "ci_low", "ci_high"]].tolist() == pytest.approx([10, 10, 10])
    assert gap["n"] == 40


def test_summary_has_the_columns_that_others_read():
    summary = auc_table(table([[1, 1], [0, 0]]), ["complete"])
    names = ["method", "order", "quantity", "auc", "ci_low", "ci_high", "n"]
    assert list(summary.columns[:7]) == names
    assert summary["quantity"].tolist() == ["accuracy", "probability", "auc_chefer"]


LEAST = [1, 1, 1, 1, 1, 1, 1, 0.6, 0.6, 0]
MOST = [1, 0.6, 0.6, 0, 0, 0, 0, 0, 0, 0]


def both_orders(least, most, method="complete", **more):
    """Rows over 0 to 0.9; an answer is right above one half."""
    rows = pd.concat([table(least, method), table(most, method, order="positive")])
    return rows.assign(fraction=rows["fraction"] / 5, **more)


def test_published_quantities_are_lines_of_the_same_table():
    """Worked by hand: hits 1 to 0.8 and 1 to 0.2; probabilities as they stand."""
    summary = auc_table(both_orders([LEAST, LEAST], [MOST, MOST]), ["complete"])
    lines = summary.set_index(["quantity", "order"])["auc"]
    assert lines["auc_chefer", "negative"] == pytest.approx(85)
    assert lines["auc_chefer", "positive"] == pytest.approx(25)
    assert lines["accuracy", "negative"] == pytest.approx(85 / 0.9)
    assert lines["srg", ""] == pytest.approx(60 / 0.9)
    assert lines["abpc", ""] == pytest.approx(100 * (8.2 - 2.2) / 11)
    assert len(summary) == 8
    assert list(summary["n"]) == [2] * 8


def test_a_gain_needs_both_orders_at_the_same_fractions():
    rows = both_orders([LEAST], [MOST])
    shorter = rows[(rows["order"] == "negative") | (rows["fraction"] < 0.85)]
    with pytest.raises(ValueError, match="srg needs the same fractions in both orders"):
        scores(shorter, "srg")


def test_images_of_one_picture_are_one_unit_and_shown_ones_do_not_count():
    values = np.linspace(0.1, 0.9, 24)[:, None] * np.ones(10)
    rows = both_orders(values, values / 2)
    number = rows["image_id"].str.removeprefix("image ").astype(int)
    mirrored = rows.assign(unit=(number // 2).astype(str), measured=number < 20)
    alone, together = (
        auc_table(each, ["complete"]).set_index(["quantity", "order"])
        for each in (rows[number < 20], mirrored)
    )
    assert (alone["n"] == 20).all()
    assert (together["n"] == 10).all()
    assert together["auc"].tolist() == pytest.approx(alone["auc"].tolist())
    gap = paired_differences(
        pd.concat([mirrored, mirrored.assign(method="gae")]), "complete", ["gae"]
    )
    assert (gap["n"] == 10).all()
