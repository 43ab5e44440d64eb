"""What Figure 5 claims of rows whose numbers are known: it holds, does not, or is inconclusive."""

import pytest
from running import start as run_command
from running import table_of

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
