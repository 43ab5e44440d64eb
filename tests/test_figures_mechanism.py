"""Figures 6, 9, 10 and 11: the numbers behind them, and runs at every scale."""

import json
from copy import deepcopy
from functools import cache

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_config import config

from attnguide import load_model
from attnguide.evaluation.detail import contamination_changes
from attnguide.evaluation.transfer import crossed, transfer_summary
from attnguide.runs.lifecycle import run
from attnguide.store.table import load_maps, read

pytestmark = pytest.mark.usefixtures("small_models", "undrawn")
SMALL = {
    "fig06_attention_transfer": {"steps": 3, "shown": 1},
    "fig09_detail": {"impostors": 2, "creatures": ["star-marked fish"], "photographs": ["tusker"]},
    "fig10_other_methods": {"limits": {}},
    "fig11_rewrite": {
        "max_steps": 2,
        "creatures": [["star-marked fish", "long-eared hare"]],
        "photographs": [["tusker", "bull mastiff"]],
    },
}
SCALES = {
    "embedded": [],
    "sample": ["scale=sample", "model.checkpoint=weights"],
    "paper": ["scale=paper", "logger=files"],
}
COLUMNS = {
    "fig06_attention_transfer": {"lr", "step", "logit_target", "share_other", "row_error"},
    "fig09_detail": {"loss", "study", "is_valid", "like_eq8", "positive_part"},
    "fig10_other_methods": {"method", "role", "framed", "positive_part"},
    "fig11_rewrite": {"source", "goal", "flipped", "psnr", "largest", "steps"},
}


composed = cache(config)  # Hydra takes longer than a small run


def start(run_dir, figure, *words, **settings):
    methods = ["method=[complete,gae]"] if figure == "fig10_other_methods" else []
    words = ["data.num_images=4", "batch_size=4", "device=cpu", *methods, *words]
    made = deepcopy(composed(f"experiment={figure}", *words))
    made.runner |= SMALL[figure] | settings
    run(made, run_dir)
    return pd.read_csv(run_dir / "summary.csv")


@pytest.fixture
def embedded(monkeypatch):
    """The embedded models in place of random ones."""
    for place in ("runs.job", "data.creatures.contaminated"):
        monkeypatch.setattr(f"attnguide.{place}.load_model", load_model)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("figure", SMALL)
def test_every_figure_runs_at_every_scale(figure, scale, tmp_path, photographs, monkeypatch):
    words = [*SCALES[scale], *([] if scale == "embedded" else [f"data.root={photographs}"])]
    run_dir = tmp_path / "run"
    summary = start(run_dir, figure, *words)
    rows, maps = read(run_dir), load_maps(run_dir) if figure != "fig11_rewrite" else {}
    assert COLUMNS[figure] | {"image_id", "model"} <= set(rows)
    assert all(m.shape == (4, 4) and np.isfinite(m).all() for m in maps.values())
    assert {"model", "n"} <= set(summary)
    if "ci_low" in summary:
        assert (summary["ci_low"] <= summary["value"] + 1e-9).all()
        assert (summary["value"] <= summary["ci_high"] + 1e-9).all()
    rivals = scale == "embedded" and figure in ("fig09_detail", "fig10_other_methods")
    assert len(set(rows["model"])) == (2 if rivals or scale == "paper" else 1)
    told = json.loads((run_dir / "findings.json").read_text())
    assert told["found"]
    assert told["found"][0] in told["caption"] or figure == "fig06_attention_transfer"
    if figure == "fig06_attention_transfer":
        with Image.open(run_dir / "animation.gif") as film:
            assert film.n_frames == 4
    if scale == "embedded":
        monkeypatch.setattr("attnguide.runs.job.load_model", lambda *_: pytest.fail("a model"))
        before = (run_dir / "summary.csv").read_bytes()
        run(config(f"experiment={figure}", "stage=draw"), run_dir)
        assert (run_dir / "summary.csv").read_bytes() == before


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
    told = transfer_summary(rows).set_index("measure")
    assert told.loc["begins on the target", "value"] == pytest.approx(2 / 3)
    assert told.loc["crossed, of those that begin there", ["value", "n"]].tolist() == [0.5, 2]
    assert told.loc["step of crossing", ["value", "n"]].tolist() == [1, 1]
    assert told.loc["change of the target's logit", "value"] == -3
    assert told.loc["change of the other's share", "value"] == pytest.approx(2.1 / 3)
    assert told.loc["top-1 is the other", "value"] == 1


def shares(model, role, values, method="a"):
    """Rows whose part has these signed shares of a mass of 1."""
    values = np.array(values)
    return pd.DataFrame(
        {
            "image_id": [f"image {number}" for number in range(len(values))],
            "model": model,
            "method": method,
            "role": role,
            "positive": 1.0,
            "negative": 0.0,
            "positive_part": values.clip(0),
            "negative_part": (-values).clip(0),
        }
    )


def test_contamination_is_what_the_mixed_class_gains_over_the_shown_one():
    rows = pd.concat(
        [
            shares("clean", "mixed", [-0.2] * 5),
            shares("clean", "shown", [0.1] * 5),
            shares("dirty", "mixed", [0.3] * 5),
            shares("dirty", "shown", [0.2] * 5),
            *(shares("clean", role, [0.1] * 5, "blind") for role in ("mixed", "shown")),
            *(shares("dirty", role, [0.6] * 5, "blind") for role in ("mixed", "shown")),
            *(
                shares(m, r, [0.1] * 4, "few")
                for m in ("clean", "dirty")
                for r in ("mixed", "shown")
            ),
        ]
    )
    found = contamination_changes(rows, ["a", "blind", "few"], ("clean", "dirty"))
    assert found["method"].tolist() == ["a", "blind"]
    assert found["value"].tolist() == pytest.approx([0.4, 0.0])
    assert found["n"].tolist() == [5, 5]


def near(value):
    """What was stored, up to what another machine may round otherwise."""
    return pytest.approx(value, rel=0.02, abs=0.005)


def one(table, **where):
    """The only row with these values."""
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_figure_6_on_the_embedded_model(tmp_path, embedded):
    start(tmp_path / "run", "fig06_attention_transfer", "data.num_images=1", steps=4)
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


def test_figure_9_on_the_embedded_models(tmp_path, embedded):
    summary = start(tmp_path / "run", "fig09_detail", "data.num_images=2")
    part = {"study": "detail", "measure": "positive mass on the part that differs"}
    found = {loss: one(summary, loss=loss, **part)["value"] for loss in set(summary["loss"])}
    assert found == near(
        {"logit": 0.256, "relative_contrast": 0.443, "difference": 0.526, "ratio": 0.438}
    )
    head = {"study": "contamination", "loss": "relative_contrast"}
    head |= {"measure": "signed share of that part"}
    assert one(summary, model="creatures", **head)["value"] == near(-0.113)
    assert one(summary, model="creatures_contaminated", **head)["value"] == near(-0.441)


def test_figure_10_on_the_embedded_models(tmp_path, embedded):
    summary = start(tmp_path / "run", "fig10_other_methods", "data.num_images=1", "method=[gae]")
    found = {
        (model, method): one(summary, model=model, method=method, role="mixed")["value"]
        for model in ("creatures", "creatures_contaminated")
        for method in ("detail", "gae")
    }
    assert list(found.values()) == near([-0.257, 0.035, -0.434, 0.064])


def test_figure_11_on_the_embedded_model(tmp_path, embedded):
    pairs = [["white-headed eagle", "stilt-legged ibis"]]
    start(tmp_path / "run", "fig11_rewrite", "data.num_images=1", max_steps=40, creatures=pairs)
    eagle = one(read(tmp_path / "run"), source_name="white-headed eagle")
    assert eagle["flipped"]
    assert eagle["steps"] == near(15)
    assert eagle["goal_probability"] == near(0.953)
    assert eagle["psnr"] == near(35.09)
    assert eagle["before"].startswith("white-headed eagle 98.3 % (7.28)")
    assert eagle["after"].startswith("stilt-legged ibis 95.")


def refused(run_dir, figure, *words, **settings):
    with pytest.raises((ValueError, OSError)) as caught:
        start(run_dir, figure, *words, **settings)
    return str(caught.value)


def test_what_cannot_work_is_refused_before_any_weights(tmp_path, monkeypatch):
    for place in ("runs.job", "data.creatures.contaminated"):
        monkeypatch.setattr(
            f"attnguide.{place}.load_model", lambda *_, **__: pytest.fail("a model")
        )
    run_dir = tmp_path / "run"
    missing = [{"file": name, "classes": ["x", "y"]} for name in ("a.png", "b.png")]
    same = [{"file": "a.png", "classes": ["zebra", "Zebra"]}]
    for figure in SMALL:
        told = refused(run_dir, figure, pictures=missing)
        assert "2 of 2 pictures of runner.pictures are missing: a.png, b.png" in told
        assert "must differ, got zebra, zebra" in refused(run_dir, figure, pictures=same)
    for figure in ("fig09_detail", "fig10_other_methods"):
        twice = {"framed_creature": ["long-eared hare"] * 2}
        assert "two different classes" in refused(run_dir, figure, **twice)
        assert "'hare' is no creature" in refused(
            run_dir, figure, framed_creature=["hare", "long-eared hare"]
        )
    assert "two different classes" in refused(
        run_dir, "fig11_rewrite", creatures=[["long-eared hare"] * 2]
    )
    assert "must be positive" in refused(run_dir, "fig06_attention_transfer", lr=0.0)
    assert "pass 0.9" in refused(run_dir, "fig11_rewrite", confidence=90)
    assert "gaee" in refused(run_dir, "fig10_other_methods", limits={"gaee": 3})
    assert not run_dir.exists()


def test_unknown_classes_are_named_all_at_once(tmp_path, photographs):
    words = ["scale=paper", "logger=files", f"data.root={photographs}"]
    own = [{"file": str(photographs / "n02391049" / "a.png"), "classes": ["zebro", "snael"]}]
    wrong = {
        "fig06_attention_transfer": {"pictures": own},
        "fig09_detail": {"photographs": ["zebro"], "framed_photograph": ["bald eagle", "snael"]},
        "fig10_other_methods": {"framed_photograph": ["zebro", "snael"]},
        "fig11_rewrite": {"photographs": [["zebro", "kite"], ["tusker", "snael"]]},
    }
    for figure, settings in wrong.items():
        told = refused(tmp_path / figure, figure, *words, **settings)
        assert "'zebro'" in told, figure
        assert "'snael'" in told, figure


def test_a_picture_smaller_than_the_input_is_upscaled_and_named(tmp_path, photographs, capsys):
    words = ["scale=sample", "model.checkpoint=weights", f"data.root={photographs}"]
    start(tmp_path / "run", "fig11_rewrite", *words)
    assert "n01871265/a.png: upscaled from 48 x 30 pixels" in capsys.readouterr().out
