"""Figures 3, 4, 5, 7, 8 and 13: their tables, and what they say about known rows."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small_model
from matplotlib.backends.backend_agg import FigureCanvasAgg
from running import load_maps, one, start, table_of
from tiny import tiny

from attnguide import explain, load_model
from attnguide.data import Creatures
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.views import COMPANY, View, to_view
from attnguide.evaluation.localisation import localisation_rows, regions, relevance_by_region
from attnguide.losses import get_loss
from attnguide.methods import get_method
from attnguide.store.maps import relevance_of
from attnguide.store.table import read
from experiments.fig08_guided import Fig08Guided

pytestmark = pytest.mark.usefixtures("small_models", "undrawn")


def test_a_stored_map_is_the_map_and_says_whose(small_run):
    run_dir = small_run("fig05_multi_class").run_dir
    maps, rows = load_maps(run_dir), read(run_dir)
    vit = small_model("creatures")
    [item] = Creatures().shown_pairs(vit, 1).items
    view = to_view(vit, item.load())
    assert {key for key in maps if "pair-0-0" in key} == {
        f"{method}|pair-0-0|{target}" for method in ("complete", "gae") for target in view.targets
    }
    for place, target in enumerate(view.targets):
        own = one(rows, image_id="pair-0-0", method="complete", target=target)
        relevance = maps[f"complete|pair-0-0|{target}"]
        expected = explain(vit, view.image[None], target).relevance[0].numpy()
        np.testing.assert_allclose(relevance, expected, rtol=1e-3, atol=1e-6)
        found = relevance_by_region(relevance, regions(view.objects, place))
        for name in ("positive_target", "negative_other", "positive_background"):
            assert own[name] == pytest.approx(found[name], rel=1e-3)


def toy_view(name, kind="alone", own=None):
    """Left column the first object, right column the second."""
    left = torch.tensor([[1.0, 0, 0, 0]] * 4)
    image = torch.full((3, 16, 16), float(len(name)))
    return View(name, kind, image, (1, 3), (left, left.flip(1)), own, "masks")


def test_rows_of_a_method_that_knows_the_objects():
    """A toy method: red on the target's column, half as much blue on the other's."""

    def knows(trace):
        left = torch.tensor([[1.0, 0, 0, 0]] * 4)
        sign = torch.where(trace.target == 1, 1.0, -1.0).view(-1, 1, 1)
        share = torch.where(sign > 0, left - 0.5 * left.flip(1), left.flip(1) - 0.5 * left)
        return share

    views = [toy_view("a"), toy_view("bb")]
    rows = localisation_rows(tiny(), views, [True, False], {"knows": knows})
    assert rows["relevance"].notna().tolist() == [True, True, False, False]
    assert list(rows["target"]) == [1, 3, 1, 3]
    assert list(rows["image_id"]) == ["a", "a", "bb", "bb"]
    assert set(rows["positive_target"]) == {4.0}
    assert set(rows["negative_other"]) == {2.0}
    assert set(rows["positive_other"]) == set(rows["negative_target"]) == {0.0}
    second = rows[rows["target"] == 3]["correlation"]
    left = np.array([1, 0, 0, -0.5])
    assert second.tolist() == pytest.approx([np.corrcoef(left, left[::-1])[0, 1]] * 2)
    assert rows[rows["target"] == 1]["correlation"].isna().all()


def test_competitors_are_the_runner_up_and_a_class_of_neither():
    vit = tiny()
    views = [
        replace(toy_view("a"), targets=(2,), objects=()),
        replace(toy_view("bb"), targets=(0,)),
    ]
    gae = {"gae": get_method("gae")}
    rows = localisation_rows(vit, views, [False] * 2, gae, competitors=2)
    logits = vit.module(torch.stack([view.image for view in views])).detach()
    for number, view in enumerate(views):
        own = rows[rows["image_id"] == view.id].set_index("role")
        assert list(own.index) == ["target", "runner-up", "absent"]
        others = logits[number].clone()
        others[view.targets[0]] = -torch.inf
        assert own.loc["runner-up", "target"] == int(others.argmax())
        assert own["target"].nunique() == 3
        assert own.loc["runner-up", "logit"] == pytest.approx(float(others.max()), rel=1e-5)
    again = localisation_rows(vit, views[:1], [False], gae, competitors=2)
    assert list(again["target"]) == list(rows["target"][:3])


@pytest.mark.parametrize(
    ("loss", "reference"),
    [("difference", "other"), ("difference", "runner-up"), ("ratio", "class 4")],
)
def test_a_reference_is_the_other_target_the_runner_up_or_a_class(loss, reference):
    vit, view, gae = tiny(), toy_view("a"), {"gae": get_method("gae")}
    rows = localisation_rows(vit, [view], [True], gae, loss=get_loss(loss), reference=reference)
    logits = vit.module(view.image[None])[0].detach()
    for row in rows.to_dict("records"):
        others = logits.clone()
        others[row["target"]] = -torch.inf
        second = {"other": 4 - row["target"], "runner-up": int(others.argmax()), "class 4": 4}
        expected = explain(
            vit, view.image[None], row["target"], method="gae", loss=loss,
            reference=second[reference],
        ).relevance[0]  # fmt: skip
        np.testing.assert_allclose(relevance_of(pd.Series(row)), expected, rtol=1e-5)


def test_figure_8_leaves_the_guides_class_out_and_compares_the_same_pictures(small_run):
    run_dir = small_run("fig08_guided").run_dir
    rows, summary = read(run_dir), table_of(run_dir)
    assert CLASS_NAMES.index("spiral-shelled snail") not in set(rows["target"])
    assert "class that were left out: 1." in (run_dir / "report.html").read_text()
    counts = summary.groupby("view")["n"].max().to_dict()
    assert {counts.pop(name) for name in ("alone", "right 0.5 squash", *COMPANY)} == {8}
    assert set(counts) == {
        "left 0.5 squash",
        "top 0.5 squash",
        "bottom 0.5 squash",
        "right 0.25 squash",
        "right 0.75 squash",
        "right 0.5 crop",
        "right 0.5 pad",
        "composed",
    }
    assert set(counts.values()) == {3}
    assert rows.loc[rows["view"] == "right 0.25 squash", "area_guide"].unique() == [0.25]


@pytest.mark.slow
def test_the_embedded_model_tells_the_two_creatures_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("attnguide.models.load.load_model", load_model)
    words = ["experiment=fig05_multi_class", "data.num_images=24", "batch_size=8", "device=cpu"]
    told = table_of(start(tmp_path / "run", *words)).set_index(["method", "measure"])["value"]
    assert told["complete", "both signs right"] > 0.9
    assert told["gae", "both signs right"] < 0.1


def test_dots_of_one_measure_have_a_row_per_view_and_room():
    views = ["alone", "right 0.5 squash", "noise"]
    lines = product(views, ("complete", "gae"), Fig08Guided.measures)
    keys = pd.DataFrame(lines, columns=["view", "method", "measure"])
    summary = keys.assign(model="m", value=0.5, ci_low=0.25, ci_high=0.75, n=9)
    [figure] = Fig08Guided().dots(summary, ["complete", "gae"]).values()
    FigureCanvasAgg(figure).draw()
    assert len(figure.axes) == len(Fig08Guided.measures)
    for axes in figure.axes:
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names[::2] == [f"{view}   complete" for view in views]
        assert axes.get_window_extent().width > 2 * figure.dpi
