"""What W&B is sent: names that tell lines apart, claims, pictures with overlays, inputs."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from attnguide.findings import Findings, ShownPicture
from attnguide.store.maps import store_picture
from attnguide.tracking import wandb_payload as payload
from attnguide.tracking.wandb_payload import curves, scalars
from attnguide.viz.overlay import overlay

SUMMARY = pd.DataFrame(
    {
        "method": ["complete", "gae"],
        "order": "negative",
        "quantity": "accuracy",
        "auc": [90.0, 60.0],
        "model": "tiny",
    }
)
ROWS = pd.DataFrame(
    [
        (f"i{image}", method, order, fraction, order == "negative" or image == 0, fraction / 2)
        for image in range(30)
        for method in ("complete", "gae")
        for order in ("negative", "positive")
        for fraction in (0.0, 0.5)
    ],
    columns=["image_id", "method", "order", "fraction", "correct", "probability"],
)
CLAIMS = pd.DataFrame(
    [("tiny", "fig.right", "right of 4.5", 0.5, 0.25, 0.75, 12, 0.2, ">", "holds"),
     ("tiny", "left", "left/right", -1.0, -2.0, 1.0, 12, 0, "<", "inconclusive")],
    columns=["model", "id", "claim", "value", "low", "high", "n", "bound", "side", "verdict"],
)  # fmt: skip


def shown(image_id, methods, target=None):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")
    maps = {method: np.array([[1.0, -1.0], [0.0, 0.5]]) for method in methods}
    return ShownPicture(image_id, f"a {image_id}", buffer.getvalue(), maps, target)


def test_claims_are_numbers_with_verdicts_in_the_summary():
    assert payload.claim_scalars(CLAIMS) == {
        "claim/fig/right/value": 0.5,
        "claim/fig/right/low": 0.25,
        "claim/fig/right/high": 0.75,
        "claim/fig/right/n": 12.0,
        "claim/fig/right/verdict": "holds",
        "claim/left/value": -1.0,
        "claim/left/low": -2.0,
        "claim/left/high": 1.0,
        "claim/left/n": 12.0,
        "claim/left/verdict": "inconclusive",
        "claims/holds": 1,
        "claims/inconclusive": 1,
    }
    both = payload.claim_scalars(pd.concat([CLAIMS, CLAIMS.assign(model="big")]))
    assert both["claim/big/left/verdict"] == "inconclusive"
    assert both["claims/holds"] == 2


def test_the_table_of_pictures_has_overlays_predictions_and_numbers():
    viewer = [shown("i1", ["gae", "complete"], target=3), shown("i2", ["gae"], target=0)]
    rows = pd.DataFrame(
        {"image_id": ["i1", "i1", "i3"], "target": [2, 3, 1], "prediction": [7, 8, 9],
         "probability": [0.25, 0.5, 0.75]}
    )  # fmt: skip
    table = payload.image_table(viewer, rows)
    assert list(table) == [
        "image_id", "title", "picture", "target", "GAE", "complete", "prediction", "probability",
    ]  # fmt: skip
    first, second = table.to_dict("records")
    expected = np.round(255 * overlay(Image.new("RGB", (4, 4), "red"), viewer[0].maps["gae"]))
    np.testing.assert_array_equal(np.asarray(first["GAE"]), expected)
    assert (first["target"], first["prediction"], first["probability"]) == (3, 8, 0.5)
    assert second["complete"] is second["prediction"] is None
    alone = payload.image_table([shown("i3", ["gae"])], rows.drop(columns="target"))
    assert alone["prediction"].tolist() == [9]
    assert list(payload.image_table(viewer[1:], None))[-1] == "GAE"


def test_inputs_without_a_checksum_are_told_apart_by_their_settings():
    def checksum(**data):
        [(_, _, about)] = payload.inputs({"data": data}, {})
        return about["sha256"]

    assert checksum(root="a", workers=1) == checksum(root="a", workers=2) != checksum(root="b")
    assert list(payload.inputs({}, {})) == []


def test_names_of_numbers_tell_lines_apart():
    assert scalars(SUMMARY) == {
        "auc/negative_accuracy/complete": 90.0,
        "auc/negative_accuracy/gae": 60.0,
    }
    shares = pd.DataFrame({"model": ["a", "b"], "measure": "sign right", "value": [0.5, 1.0]})
    assert scalars(shares) == {"measure/sign right/a": 0.5, "measure/sign right/b": 1.0}
    assert scalars(pd.DataFrame({"n": [3]})) == {}
    ends = shares.assign(ci_low=0.25, ci_high=0.75, n=4)[1:]
    assert scalars(ends) == {
        "measure/sign right": 1.0,
        "measure/sign right/low": 0.25,
        "measure/sign right/high": 0.75,
        "measure/sign right/n": 4.0,
    }
    both = SUMMARY.assign(order=[None, ""], quantity="srg")  # of both orders
    assert set(scalars(both)) == {"auc/srg/complete", "auc/srg/gae"}


def test_curves_keep_models_apart_and_need_a_perturbation_study():
    both = pd.concat([ROWS.assign(model="a"), ROWS.assign(model="b", probability=1.0)])
    first = next(iter(curves(both)))
    assert first["curve/positive_probability/a/gae"] == 0.0
    assert first["curve/positive_probability/b/gae"] == 100.0
    assert first["curve/positive_accuracy/a/gae"] == pytest.approx(100 / 30)
    assert list(curves(ROWS.drop(columns="fraction"))) == []


def test_curves_without_the_guide_are_apart():
    both = pd.concat([ROWS.assign(guide="right"), ROWS.assign(guide="none", probability=1.0)])
    first = next(iter(curves(both)))
    assert first["curve/positive_probability/gae"] == 0.0
    assert first["curve_alone/positive_probability/gae"] == 100.0
    assert "curve/positive_probability/gae" in next(iter(curves(ROWS.assign(guide="none"))))


def test_of_masked_pictures_there_is_a_line_with_picture_and_steps(tmp_path):
    answers = {"label": 3, "prediction": 4, "model": "m", "guide": "right"}
    rows = pd.concat([ROWS.assign(**answers), ROWS.assign(**answers | {"guide": "none"})])
    for name in ("i0", "i7"):
        store_picture(tmp_path, f"m {name}", torch.zeros(3, 4, 4))
    first, second = payload.masked_images(rows, tmp_path).to_dict("records")
    assert (first["image_id"], second["image_id"]) == ("i0", "i7")
    assert (first["label"], first["prediction"], first["picture"].size) == (3, 4, (4, 4))
    assert first["complete, positive"] == second["gae, negative"] == 100.0
    assert second["complete, positive"] == 0.0
    assert payload.masked_images(rows, tmp_path / "nowhere").empty


def test_a_chosen_function_is_a_plain_value():
    rule = {"_target_": "attnguide.rules.positive", "_partial_": True}
    config = {"rule": rule, "guide": {"_target_": "x", "layout": "right"}, "seed": 3}
    shown = payload.as_filtered(config)
    assert (shown["rule"], shown["guide"], shown["seed"]) == ("positive", config["guide"], 3)


def test_runs_have_names_and_notes_for_people():
    methods = {name: {} for name in ("gae", "complete", "absolute", "rollout", "tis")}
    config = {"experiment": "fig13", "model": {"name": ["a", "b"]}, "method": methods}
    assert (
        payload.display_name(config, 3)
        == "fig13 · a, b · gae, complete, absolute and 2 more · shard 3"
    )
    assert payload.display_name({"experiment": "x" * 200}) == "x" * 128
    told = Findings(Figure(), SUMMARY, "", (), title="Fig", claim="It is.", claims=CLAIMS)
    assert payload.notes(told).splitlines() == [
        "Fig", "It is.", "- right of 4.5 (tiny): 0.50 [0.25, 0.75], n = 12, bound > 0.2: holds",
        "- left/right (tiny): −1.00 [−2.00, 1.00], n = 12, bound < 0: inconclusive",
    ]  # fmt: skip
