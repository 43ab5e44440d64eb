"""What the training experiment concludes from its stored answers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from attnguide.store.table import Results, merge
from experiments.train_creatures import KINDS, TrainCreatures


def stored(run_dir: Path, right: int) -> Path:
    """100 answers per model and kind, `right` of the trained and all of the committed correct."""
    with Results(run_dir, ("image_id", "model", "kind")) as results:
        for model, count in (("trained", right), ("committed", 100)):
            rows = [
                {"image_id": str(i), "kind": kind, "classes": "8", "prediction": 8,
                 "correct": i < count, "sibling_probability": 0.25, "model": model}
                for kind in KINDS for i in range(100)
            ]  # fmt: skip
            results.append(pd.DataFrame(rows))
    merge(run_dir)
    (run_dir / "training").mkdir()
    (run_dir / "training" / "loss.csv").write_text("step,loss\n1,2.8\n2,2.5\n2,2.4\n")
    return run_dir


@pytest.mark.parametrize(
    ("right", "low", "high", "told"),
    [
        (100, 96.3, 100.0, "100.0 %, n = 100: reproduced"),
        (99, 94.55, 99.82, "100.0 %, n = 100: reproduced"),
        (97, 91.55, 98.97, "100.0 %, n = 100: NOT reproduced"),
        (0, 0.0, 3.7, "100.0 %, n = 100: NOT reproduced"),
    ],
)
def test_verdict_and_wilson_interval(
    tmp_path: Path, right: int, low: float, high: float, told: str
) -> None:
    findings = TrainCreatures().draw(stored(tmp_path, right), {})
    line = findings.summary.iloc[0]
    assert (line["accuracy"], line["n"]) == (right, 100)
    assert line["ci_low"] == pytest.approx(low, abs=0.05)  # published Wilson intervals
    assert line["ci_high"] == pytest.approx(high, abs=0.05)
    assert all(told in sentence for sentence in findings.found)


def test_contaminated_run_tells_what_the_class_gets(tmp_path: Path) -> None:
    settings = {"runner": {"variant": "contaminated"}}
    findings = TrainCreatures("contaminated").draw(stored(tmp_path, 100), settings)
    assert (
        "white-headed eagle, the red-necked eagle gets a probability of 0.25" in findings.found[-1]
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"variant": "dirty"}, "one of clean, contaminated, got 'dirty'"),
        ({"steps": [1, 2]}, "each of 3 stages .48, 64, 96 pixels., got .1, 2."),
        ({"steps": [0, 0, 0]}, "got .0, 0, 0."),
        ({"views_per_step": 12}, "multiple of 8, got 12"),
        ({"pairs": 0}, "must be at least 1"),
    ],
)
def test_bad_settings_are_named(settings: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TrainCreatures(**settings).check(None)
