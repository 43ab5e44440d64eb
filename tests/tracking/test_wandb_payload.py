"""What W&B is sent: names that tell lines apart, claims, pictures with overlays, inputs."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from attnguide.findings import Findings, ShownPicture
from attnguide.tracking import wandb_payload as payload
from attnguide.tracking.wandb_payload import curves, sample, scalars
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
    [("tiny", "right of 4.5", 0.5, 0.25, 0.75, 12, 0.2, ">", "holds"),
     ("tiny", "left/right", -1.0, -2.0, 1.0, 12, 0, "<", "inconclusive")],
    columns=["model", "claim", "value", "low", "high", "n", "bound", "side", "verdict"],
)  # fmt: skip


def shown(image_id, methods, **facts):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")
    maps = {method: np.array([[1.0, -1.0], [0.0, 0.5]]) for method in methods}
    return ShownPicture(image_id, f"a {image_id}", buffer.getvalue(), maps, {"gae": "+1"}, facts)


def test_claims_are_numbers_with_verdicts_in_the_summary():
    assert payload.claim_scalars(CLAIMS) == {
        "claim/right of 4·5/value": 0.5,
        "claim/right of 4·5/low": 0.25,
        "claim/right of 4·5/high": 0.75,
        "claim/right of 4·5/n": 12.0,
        "claim/right of 4·5/verdict": "holds",
        "claim/left right/value": -1.0,
        "claim/left right/low": -2.0,
        "claim/left right/high": 1.0,
        "claim/left right/n": 12.0,
        "claim/left right/verdict": "inconclusive",
        "claims/holds": 1,
        "claims/inconclusive": 1,
    }
    both = payload.claim_scalars(pd.concat([CLAIMS, CLAIMS.assign(model="big")]))
    assert both["claim/big/left right/verdict"] == "inconclusive"
    assert both["claims/holds"] == 2


def test_the_table_of_pictures_has_overlays_predictions_and_numbers():
    viewer = [shown("i1", ["gae", "complete"], target=3), shown("i2", ["gae"])]
    rows = pd.DataFrame(
        {"image_id": ["i1", "i1", "i3"], "target": [2, 3, 1], "prediction": [7, 8, 9],
         "probability": [0.25, 0.5, 0.75]}
    )  # fmt: skip
    columns, lines = payload.image_table(viewer, rows)
    assert columns == [
        "image_id", "title", "picture", "GAE", "complete", "GAE: numbers", "complete: numbers",
        "target", "prediction", "probability",
    ]  # fmt: skip
    first, second = (dict(zip(columns, line, strict=True)) for line in lines)
    red = Image.new("RGB", (4, 4), "red")
    expected = np.round(255 * overlay(red, viewer[0].maps["gae"]))
    np.testing.assert_array_equal(first["GAE"], expected)
    assert (first["target"], first["prediction"], first["probability"]) == (3, 8, 0.5)
    assert (first["GAE: numbers"], first["complete: numbers"]) == ("+1", "")
    assert second["complete"] is second["prediction"] is None
    assert payload.image_table(viewer[1:], None)[0][-1] == "GAE: numbers"


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


def test_the_sample_of_rows_is_the_same_in_any_order():
    rows = ROWS.assign(relevance=b"raw")
    chosen = sample(rows)
    assert chosen["image_id"].nunique() == 20
    assert set(chosen["image_id"]) == set(sample(rows[::-1])["image_id"])
    assert "relevance" not in chosen


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
