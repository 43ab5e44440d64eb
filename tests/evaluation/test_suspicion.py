"""Signals of wrong labels: worked out by hand, and told apart where the truth is known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cleanlab.count import compute_confident_joint
from cleanlab.rank import get_label_quality_scores
from running import table_of
from tiny import pictures

from attnguide.evaluation.suspicion import (
    BESIDE,
    DETAIL,
    auroc,
    beside_signal,
    confident_learning,
    detail_signal,
    is_issue,
    issues,
    runner_up,
    suspicious_pairs,
    unlike_its_class,
    with_all_signals,
)
from attnguide.models.load import EMBEDDED
from attnguide.store.maps import as_columns
from attnguide.store.table import read


def test_auroc_counts_pairs_in_the_right_order_and_ties_half():
    assert auroc([3, 2, 1, 0], [True, True, False, False]).value == 1
    assert auroc([0, 1, 2, 3], [True, True, False, False]).value == 0
    found = auroc([1, 2, 2, 0], [True, True, False, False])
    assert found.value == pytest.approx((0 + 1 + 0.5 + 1) / 4)
    assert found.n == 2
    assert auroc([1, 2], [False, False]).n == 0
    assert auroc([np.nan, 2, 1], [True, True, False]).value == 1


def test_the_interval_of_auroc_covers_the_true_area():
    """Normal signals a standard deviation apart: the area is Phi(1 / sqrt 2) = 0.760."""
    rng = np.random.default_rng(0)
    wrong, covered = np.arange(50) < 12, 0
    for _ in range(300):
        found = auroc(rng.normal(size=50) + wrong, wrong)
        covered += found.low <= 0.760 <= found.high
    assert 0.92 * 300 <= covered <= 0.99 * 300


def issue_rows(confident, clusters=None):
    """Rows of two labels as `audited_rows` makes them, of these probabilities of the label."""
    maps = [np.eye(4, dtype="<f4")] * len(confident) if clusters is None else clusters
    tables = [
        {"image_id": f"{n}.png", "model": "m", "target": n % 2, "target_name": "ab"[n % 2],
         "other_name": "ba"[n % 2], "prediction_name": "ab"[n % 2] if share > 0.5 else "ba"[n % 2],
         DETAIL: 1 - share, BESIDE: -share, **as_columns(torch.as_tensor(maps[n])),
         "probabilities": np.array([share, 1 - share][:: 1 - 2 * (n % 2)], "<f4").tobytes()}
        for n, share in enumerate(confident)
    ]  # fmt: skip
    return pd.DataFrame(tables)


def test_issues_are_listed_as_cleanlab_does():
    shares = [0.9, 0.8, 0.2, 0.9, 0.9, 0.7]
    table = issues(with_all_signals(issue_rows(shares)))
    assert list(table) == ["picture", "rank", "is_label_issue", "label_score", "given_label",
                           "predicted_label", "model"]  # fmt: skip
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table.iloc[0][["picture", "given_label", "predicted_label"]].tolist() == [
        "2.png", "a", "b"
    ]  # fmt: skip
    probabilities = np.array([[s, 1 - s][:: 1 - 2 * (n % 2)] for n, s in enumerate(shares)])
    theirs = get_label_quality_scores(
        np.arange(6) % 2, probabilities, method="normalized_margin", adjust_pred_probs=True
    )
    by_picture = table.set_index("picture").sort_index()
    np.testing.assert_allclose(by_picture["label_score"], theirs, atol=1e-6)
    assert by_picture.index[by_picture["is_label_issue"]].tolist() == ["2.png"]


def test_certain_labels_of_one_kind_are_no_issue():
    assert not issues(with_all_signals(issue_rows([0.9] * 6)))["is_label_issue"].any()


def test_issues_are_what_cleanlabs_confident_joint_has_beside_its_diagonal():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 50)
    labels = rng.integers(0, 4, 50)
    _, theirs = compute_confident_joint(
        labels, probabilities, return_indices_of_off_diagonals=True, calibrate=False
    )
    assert np.flatnonzero(is_issue(probabilities, labels)).tolist() == sorted(theirs)


def test_one_picture_of_each_of_some_classes_is_audited_by_the_usual_probability():
    probabilities = np.full((8, 20), 0.2 / 19)
    probabilities[range(8), range(8)] = 0.8
    probabilities[3] = np.roll(probabilities[3], 9)  # sure of a class that nothing is labelled as
    assert is_issue(probabilities, np.arange(8)).tolist() == [n == 3 for n in range(8)]


def test_the_runner_up_is_the_most_probable_class_beside_the_label():
    logits = torch.tensor([[3.0, 2, 1], [3.0, 2, 1]])
    assert runner_up(logits, torch.tensor([0, 1])).tolist() == [1, 0]


def test_confident_learning_puts_every_class_in_its_place():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.6, 0.4]])
    labels = np.array([0, 0, 1, 1])
    # mean of class 0 among its own: 0.8; of class 1: 0.5; the larger is added again
    adjusted = np.array([[0.9, 0.4], [0.7, 0.6], [0.4, 0.9], [0.6, 0.7]])
    adjusted /= adjusted.sum(1, keepdims=True)
    own, other = adjusted[range(4), labels], adjusted[range(4), 1 - labels]
    found = confident_learning(probabilities, labels)
    np.testing.assert_allclose(found, (1 - own + other) / 2)
    assert found.argmax() == 1 or found[3] > found[2]


def test_confident_learning_is_that_of_cleanlab_where_every_class_is_a_label():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 50)
    labels = rng.integers(0, 4, 50)
    theirs = get_label_quality_scores(
        labels, probabilities, method="normalized_margin", adjust_pred_probs=True
    )
    np.testing.assert_allclose(confident_learning(probabilities, labels), 1 - theirs, atol=1e-9)


def test_the_map_that_is_unlike_those_of_its_label_stands_out():
    one, two = np.eye(4), np.fliplr(np.eye(4))
    maps = np.stack([one, 2 * one, 3 * one + 1, two, one, two, np.ones((4, 4))])
    labels = np.array([0, 0, 0, 0, 1, 1, 0])
    found = unlike_its_class(maps, labels)
    assert found[:4].argmax() == 3
    correlation = np.corrcoef(one.ravel(), two.ravel())[0, 1]
    assert found[3] == pytest.approx(1 - correlation)
    assert np.isnan(found[4:]).all()  # two pictures have no mean; a constant map no shape


class TwoLogits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, images):
        return torch.stack([images.mean((1, 2, 3)), -images.mean((1, 2, 3))], 1) * self.weight


def test_the_logit_beside_another_class_is_the_others_minus_the_labels(tiny_vit):
    vit = replace(tiny_vit, module=TwoLogits(), class_names=("a", "b"))
    images = torch.stack([torch.full((3, 16, 16), 2.0), torch.full((3, 16, 16), -1.0)])
    found = beside_signal(vit, images, torch.tensor([0, 0]), torch.tensor([1, 1]))
    np.testing.assert_allclose(found, [-4, 2])


def test_detail_is_the_share_of_the_map_against_the_label(tiny_vit):
    images, label, other = pictures(tiny_vit), torch.tensor([0, 1, 2]), torch.tensor([3, 3, 3])
    found, maps = detail_signal(tiny_vit, images, label, other)
    values = maps.double().numpy()
    expected = np.maximum(-values, 0).sum((1, 2)) / np.abs(values).sum((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pairs_of_classes_are_ranked_by_their_pictures():
    rows = pd.DataFrame({"model": "m", "target_name": list("aabb"), "other_name": list("bbac"),
                         "suspicion": [1.0, 0.75, 0.375, 0.375]})  # fmt: skip
    found = suspicious_pairs(rows)
    assert found["label"].tolist()[0] == "a"
    assert found["pictures"].tolist()[0] == 2
    assert found["suspicion"].tolist() == pytest.approx([0.875, 0.375, 0.375])


def test_creatures_are_judged_in_both_models_and_photographs_are_ranked(small_run):
    run_dir = small_run("label_audit").run_dir
    claims = table_of(run_dir, "claims")
    assert set(claims["model"]) == set(EMBEDDED) - {"creatures_masked"}
    rows = read(run_dir)
    wrong = rows[rows["wrong"].eq(True)]
    assert wrong["image_id"].nunique() == 4
    assert set(wrong["target_name"]) == {"red-necked eagle"}
    singles = rows[rows["model"].eq("creatures") & ~rows["wrong"].eq(True)]
    assert singles["image_id"].nunique() == 9  # those of the guide's class are beside another's
    listed = table_of(run_dir, "issues")
    assert listed.groupby("model")["rank"].max().tolist() == [13] * 3
    found = json.loads((run_dir / "findings.json").read_text())["found"]
    count = listed[listed["model"] == "creatures"]["is_label_issue"].sum()
    assert any(f"creatures: {count} of 13 labels are suspicious" in line for line in found)

    other = small_run("label_audit", "photographs").run_dir
    assert table_of(other, "claims").empty
    assert {"label", "other", "pictures", "suspicion"} <= set(table_of(other))
    assert "Pairs of classes" in (other / "report.html").read_text()
