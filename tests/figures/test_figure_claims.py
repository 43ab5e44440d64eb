"""What Figure 5 claims of rows whose numbers are known: it holds, does not, or is inconclusive."""

from dataclasses import replace

import pandas as pd
import pytest
from running import start as run_command
from running import table_of

from attnguide.evaluation.localisation import column
from attnguide.figures.claims import Best, Table, mean
from attnguide.store.table import read

pytestmark = pytest.mark.usefixtures("small_models", "undrawn")
NUMBERS = ["value", "low", "high"]


def start(run_dir, *words):
    small = ["data.num_images=4", "batch_size=4", "device=cpu"]
    run_command(run_dir, "experiment=fig05_multi_class", *small, *words)


def rewrite(run_dir, change):
    """The stored table with other numbers in it, drawn again: (summary, claims)."""
    rows = read(run_dir)
    change(rows)
    rows.to_parquet(run_dir / "results.parquet")
    run_command(run_dir, "stage=draw")
    return table_of(run_dir), table_of(run_dir, "claims").set_index("id")


def toy_masses(rows, who, target, other, background):
    """Signed mass of each region, by who."""
    parts = {"target": target, "other": other, "background": background}
    for region, value in parts.items():
        rows.loc[who, f"positive_{region}"] = max(value, 0.0)
        rows.loc[who, f"negative_{region}"] = max(-value, 0.0)
        rows.loc[who, f"area_{region}"] = 1 / 3
    for sign in ("positive", "negative"):
        rows.loc[who, sign] = sum(rows[f"{sign}_{region}"] for region in parts)[who]


SIGNS, OTHER, BACKGROUND, GAE = (
    f"fig05.{name}.masks"
    for name in ("both_signs", "on_the_other", "on_the_background", "gae_wrong")
)


def test_figure_5_says_that_the_claims_hold_where_they_do(tmp_path):
    start(tmp_path / "run", "data.num_images=12")

    def holds(rows):
        complete = rows["method"] == "complete"
        toy_masses(rows, complete, 8.0, -6.0, 2.0)
        toy_masses(rows, ~complete, 5.0, 3.0, 2.0)

    summary, claims = rewrite(tmp_path / "run", holds)
    told = summary.set_index(["method", "measure"])
    assert told.loc[("complete", "both signs right"), "value"] == 1
    assert told.loc[("gae", "both signs right"), "value"] == 0
    assert told.loc[("complete", "positive mass on the target"), "value"] == pytest.approx(0.8)
    assert told.loc[("complete", "all mass on the background"), "value"] == pytest.approx(2 / 16)
    assert told.loc[("gae", "positive mass on the other"), "value"] == pytest.approx(0.3)
    assert set(summary["n"]) == {12}
    assert claims.loc[OTHER, NUMBERS].tolist() == pytest.approx([-0.3] * 3)
    assert claims.loc[BACKGROUND, "value"] == pytest.approx(0)  # the bound itself
    assert claims["verdict"].to_dict() == {
        SIGNS: "holds", OTHER: "holds", BACKGROUND: "inconclusive", GAE: "holds"
    }  # fmt: skip
    assert claims["bound"].tolist() == [0.5, 0, 0, 0.5]
    assert claims["side"].tolist() == ["above", "below", "below", "above"]


def test_figure_5_says_that_the_claims_fail_where_they_do(tmp_path):
    start(tmp_path / "run", "data.num_images=12")

    def fails(rows):
        toy_masses(rows, rows["method"] == "complete", 2.0, 4.0, 4.0)
        toy_masses(rows, rows["method"] == "gae", 8.0, -1.0, 1.0)

    _, claims = rewrite(tmp_path / "run", fails)
    assert claims.loc[OTHER, "value"] == pytest.approx(0.4)
    assert set(claims["verdict"]) == {"does not hold"}


def test_of_few_pictures_nothing_is_claimed(tmp_path):
    start(tmp_path / "run", "data.num_images=9")
    _, claims = rewrite(tmp_path / "run", lambda rows: None)
    assert set(claims["verdict"]) == {"inconclusive"}
    assert set(claims["n"]) == {9}


def test_methods_that_were_not_run_are_not_judged(tmp_path):
    start(tmp_path / "run", "method=[gae,rollout]")
    claims = table_of(tmp_path / "run", "claims")
    assert claims["id"].tolist() == [GAE]


# Claims about several methods, on rows of twelve pictures


def signs(**right):
    """Twelve pictures per method, of which so many have the answer 1."""
    return Table(
        pd.DataFrame(
            {"image_id": str(number), "method": method, "answer": float(number < count)}
            for method, count in right.items()
            for number in range(12)
        ),
        {"right": column("answer", "answers")},
    )


def each(*methods):
    return [mean(name, "right", f"{name} is right, in most", above=0.5) for name in methods]


@pytest.mark.parametrize(
    ("right", "verdict", "decides"),
    [
        ({"complete": 12, "gae": 0, "lrp": 1}, "holds", "LRP"),
        ({"complete": 12, "gae": 12, "lrp": 1}, "does not hold", "GAE"),
        ({"complete": 12, "gae": 6, "lrp": 1}, "inconclusive", "GAE"),
    ],
)
def test_the_best_of_the_others_decides(right, verdict, decides):
    claim = Best("study.only", "only complete is right; the best other is", each("gae", "lrp"))
    [line] = claim.lines("m", signs(**right))
    assert (line["id"], line["verdict"], line["bound"], line["side"]) == (
        "study.only", verdict, 0.5, "below"
    )  # fmt: skip
    assert line["claim"].endswith(f" {decides}")
    assert not claim.lines("m", signs(complete=12))  # nobody to compare with


def test_an_id_names_measure_and_method_and_ends_in_the_group():
    table = signs(complete=12)
    [line] = replace(each("complete")[0], section="4.2").lines("m", replace(table, suffix="Boxes"))
    assert line["id"] == "right.complete.boxes"
    assert line["claim"] == "complete is right, in most (Boxes)"
    assert (line["source"], line["section"]) == ("paper", "4.2")
    few = each("complete")[0].where("image_id", "0")
    assert few.lines("m", table)[0]["n"] == 1


def test_a_share_that_is_one_everywhere_has_the_interval_of_answers_unless_it_is_declared():
    rows = pd.DataFrame({"image_id": list("abcdefghijkl"), "method": "a", "share": 1.0})
    intervals = [
        Table(rows, {"x": column("share", kind)}).at("a", "x") for kind in (None, "answers", "mean")
    ]
    assert intervals[0] == intervals[1]
    assert intervals[0].low < intervals[2].low == intervals[2].high == 1
