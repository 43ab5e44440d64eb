"""Figures 6 and 11: the numbers behind them, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from running import load_maps, near, one, table_of
from running import start as run_command

from attnguide import load_model
from attnguide.evaluation.intervention_rows import MEASURES, crossed, last_steps
from attnguide.evaluation.statistics import summarise
from attnguide.store.table import read

pytestmark = pytest.mark.usefixtures("small_models", "undrawn")
SMALL = {
    "fig06_attention_transfer": ["runner.steps=3", "runner.shown=1"],
    "fig11_rewrite": ["runner.max_steps=2"],
}


def start(run_dir, figure, *words):
    small = ["data.num_images=4", "batch_size=4", "device=cpu", *SMALL.get(figure, ())]
    run_command(run_dir, f"experiment={figure}", *small, *words)
    return table_of(run_dir)


@pytest.fixture
def embedded(monkeypatch):
    """The embedded models in place of random ones."""
    monkeypatch.setattr("attnguide.models.load.load_model", load_model)


def test_what_is_shown_is_stored(small_run):
    descents, rewritten = (small_run(name).run_dir for name in SMALL)
    assert len(load_maps(descents)) == 3 * 2 * 3  # pictures, rates, steps
    with Image.open(descents / "animation.gif") as film:
        assert film.n_frames == 3
    assert len(list((rewritten / "pictures").iterdir())) == 3 * 2  # before and after


def descent(begin, end, image="a"):
    """Rows of three steps from shares (target, other) to others, in a straight line."""
    line = np.linspace(begin, end, 3)
    return pd.DataFrame(
        {
            "image_id": image,
            "model": "m",
            "lr": 1.0,
            "regions": "masks",
            "step": range(3),
            "share_target": line[:, 0],
            "share_other": line[:, 1],
            "logit_target": [5.0, 4.0, 2.0],
            "logit_other": [1.0, 1.0, 3.0],
            "others_share": [0.2, np.nan, 0.4],
            "overlap": [-0.5, np.nan, 0.9],
            "prediction": [1, 1, 2],
            "other": 2,
            "row_error": [0.0, 0.5, 1.0],
            "negative_entries": 0.0,
            "like_own": 1.0,
        }
    )


def test_attention_has_crossed_from_the_step_on_at_which_it_passes():
    moves = descent((0.5, -0.5), (-0.4, 0.7))
    stays = descent((0.5, -0.5), (0.4, 0.3), "b")
    elsewhere = descent((0.1, 0.2), (0.0, 0.3), "c")  # never was on the target
    rows = pd.concat([moves, stays, elsewhere], ignore_index=True)
    found = crossed(rows)
    assert found[:6].tolist() == [0, 1, 1, 0, 0, 0]
    assert found[6:].isna().all()
    table = summarise(last_steps(rows), ["model", "lr"], MEASURES)
    told = table.set_index("measure")
    assert told.loc["begins on the target", "value"] == pytest.approx(2 / 3)
    assert told.loc["crossed, of those that begin there", ["value", "n"]].tolist() == [0.5, 2]
    assert told.loc["step of crossing", ["value", "n"]].tolist() == [1, 1]
    assert told.loc["change of the target's logit", "value"] == -3
    assert told.loc["change of the other's share", "value"] == pytest.approx(2.1 / 3)
    assert told.loc["top-1 is the other", "value"] == 1
    assert told.loc["the other's map is net positive on the other", "value"] == 1
    assert told.loc["correlation of the maps of both classes", "value"] == pytest.approx(0.9)


def test_the_flip_is_the_first_step_at_which_the_others_logit_leads():
    """Of `a` at the second step of three, of `b` never, of `c` from the start."""
    moves = descent((0.5, -0.5), (-0.4, 0.7)).assign(logit_other=[1.0, 4.5, 6.0])
    stays = descent((0.5, -0.5), (0.4, 0.3), "b").assign(logit_other=0.0)
    begun = descent((0.5, -0.5), (0.4, 0.3), "c").assign(logit_other=9.0)
    table = last_steps(pd.concat([moves, stays, begun], ignore_index=True)).set_index("image_id")
    assert table["flips"].tolist() == pytest.approx([1, 0, np.nan], nan_ok=True)
    found = table[["share_target_flip", "share_other_flip", "crossed_flip"]]
    assert found.loc["a"].tolist() == pytest.approx([-0.45, 0.6, 1])
    assert found.loc[["b", "c"]].isna().all(axis=None)


def test_figure_6_judges_the_end_the_flip_and_the_first_map(small_run):
    run_dir = small_run("fig06_attention_transfer").run_dir
    claims = table_of(run_dir, "claims").set_index("id")
    names = ("target_falls", "other_rises", "crosses", "other_stays", "overlap")
    ends = {f"fig06.{name}.masks_lr_0.0004" for name in names}
    assert ends | {"fig06.like_own.masks_lr_0.0004"} <= set(claims.index)
    assert "fig06.like_own.masks_lr_0.004" not in claims.index  # the same maps
    assert claims.loc["fig06.crosses.masks_lr_0.004", "claim"].startswith("after 2 steps attention")
    assert read(run_dir).groupby("step")["overlap"].count()[1] == 0


def test_figure_6_on_the_embedded_model(tmp_path, embedded):
    words = ["data.num_images=1", "runner.steps=4"]
    start(tmp_path / "run", "fig06_attention_transfer", *words)
    rows = read(tmp_path / "run")
    begin, end = (one(rows, step=step, lr=0.004) for step in (0, 4))
    assert begin[["target_name", "other_name"]].tolist() == [
        "spire-shelled snail",
        "plume-crested lizard",
    ]
    assert begin[["logit_target", "logit_other"]].tolist() == near([6.153, 5.179])
    assert begin[["share_target", "share_other"]].tolist() == near([0.381, -0.350])
    assert end[["logit_target", "logit_other"]].tolist() == near([-1.440, 7.147])
    assert one(rows, step=0, lr=0.0004)["share_other"] == near(-0.350)


def test_figure_11_on_the_embedded_model(tmp_path, embedded):
    pairs = "data.rewrites=[[white-headed eagle, stilt-legged ibis]]"
    words = ["data.num_images=1", "runner.max_steps=40", pairs]
    start(tmp_path / "run", "fig11_rewrite", *words)
    eagle = one(read(tmp_path / "run"), source_name="white-headed eagle")
    assert eagle["flipped"]
    assert eagle["steps"] == near(15)
    assert eagle["goal_probability"] == near(0.953)
    assert eagle["psnr"] == near(35.09)
    assert eagle["before"].startswith("white-headed eagle 98.3 % (7.28)")
    assert eagle["after"].startswith("stilt-legged ibis 95.")


def test_unknown_classes_are_named_all_at_once(tmp_path, photographs):
    words = ["scale=paper", "logger=files", f"data.root={photographs}"]
    file = photographs / "n02391049" / "a.png"
    wrong = {
        "fig09_detail": "data.framed=[zebro,snael]",
        "fig10_other_methods": "data.framed=[zebro,snael]",
        "fig06_attention_transfer": f"runner.pictures=[{{file: {file}, classes: [zebro, snael]}}]",
        "fig11_rewrite": "data.rewrites=[[zebro, kite], [tusker, snael]]",
    }
    for figure, setting in wrong.items():
        with pytest.raises(ValueError, match=r"'zebro'.*'snael'"):
            start(tmp_path / figure, figure, *words, setting)
