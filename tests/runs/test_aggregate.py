"""Many runs become one table, figure and page; what is unfinished or damaged is named."""

import json
from itertools import product

import pandas as pd
import pytest
import yaml
from running import start

from attnguide.runs.aggregate import find_runs, gather, named, table_of
from attnguide.store.folder import FAILED

IDS = [f"picture {number:02d}" for number in range(12)]


def store(folder, auc, *, finished="2026-11-23T18:00:00+00:00", **settings):
    """A run as it lies on disk."""
    folder.mkdir(parents=True)
    method = {"rollout": {"start_layer": settings.pop("start_layer", 0)}}
    config = {"experiment": "fig12", "method": method, "run_dir": str(folder), **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "provenance.json").write_text(json.dumps({"finished": finished}))
    told = {"title": f"Of {folder.name}", "claim": "A claim.", "caption": "", "found": ["It is."]}
    (folder / "findings.json").write_text(json.dumps(told))
    claim = {"experiment": "fig12", "model": "m", "id": "fig12.a", "source": "paper"}
    claim |= {"claim": f"that {folder.name}"}
    claim |= {"value": 0.9, "low": 0.8, "high": 1.0, "bound": 0.5, "side": ">", "n": 20}
    claim |= {"verdict": "holds"}
    pd.DataFrame([claim]).to_csv(folder / "claims.csv", index=False)
    line = {"method": "rollout", "order": "negative", "auc": auc, "ci_low": 1.0, "ci_high": 99.0}
    pd.DataFrame([line | {"n": 7}]).to_csv(folder / "summary.csv", index=False)


def gathered(root):
    return gather(find_runs(root)[0], root)


def perturb(folder, *kept, **settings):
    """A run of Figure 12: on each picture a method keeps the class for so many of two fractions."""
    store(folder, 10.0, **settings)
    methods = {name: {"_target_": f"attnguide.methods.{name}.explain"} for name, _ in kept}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= {"experiment": "fig12_perturbation", "method": methods, "guide": {"fraction": 0.5}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    rows = [
        {"image_id": name, "model": "m", "guide": "right", "fill": "zero", "measured": True,
         "method": method, "order": order, "fraction": fraction, "correct": fraction < share,
         "probability": 0.5}
        for method, share in [*kept, ("random", 0.5)]
        for name in IDS
        for order in ("negative", "positive")
        for fraction in (0.0, 0.5)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "results.parquet")
    summary = pd.read_csv(folder / "summary.csv")
    lines = [summary.assign(method=method) for method, _ in kept]
    noise = 1e-6 * len(folder.name)  # of another engine
    lines.append(summary.assign(method="random", auc=summary["auc"] + noise))
    pd.concat(lines).to_csv(folder / "summary.csv", index=False)


def test_jobs_are_compared_on_the_same_pictures(tmp_path):
    for name, share in (("complete", 1.0), ("gae", 0.5), ("tis", 0.5)):
        perturb(tmp_path / name, (name, share))
    runs, _ = find_runs(tmp_path)
    assert named(runs) == ["complete", "gae", "tis"]
    pairs = gathered(tmp_path).claims.set_index("id")
    prefix = "pairs.negative_test_accuracy_points_of_auc"
    first = pairs.loc[f"{prefix}.complete_minus_gae"]
    words = "negative test, accuracy, points of AUC: complete above GAE"
    assert first["claim"] == f"{words} (with the guide at the right)"
    assert (first["value"], first["n"], first["verdict"]) == (50.0, 12, "holds")
    assert first["p_holm"] >= first["p"]
    assert (first["experiment"], first["run"]) == ("fig12_perturbation", "complete minus gae")
    alike = pairs.loc[f"{prefix}.gae_minus_tis"]
    assert (alike["value"], alike["verdict"]) == (0.0, "inconclusive")
    assert not pairs.index.str.contains("random").any()
    assert len(pairs) == 3 * 4  # pairs; orders times quantities
    findings = gathered(tmp_path)
    assert findings.summary["method"].tolist() == ["complete", "random", "gae", "tis"]
    [axes] = findings.figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == ["GAE", "TIS", "complete", "random"]
    assert "nan" not in axes.get_title(loc="left")


def test_only_what_differs_in_one_choice_is_a_pair(tmp_path):
    same = {"seed": 4}
    perturb(tmp_path / "a", ("gae", 1.0), seed=0, data=same)
    perturb(tmp_path / "b", ("gae", 0.5), seed=1, data=same)
    perturb(tmp_path / "c", ("tis", 0.5), seed=1, data=same)
    perturb(tmp_path / "d", ("gae", 1.0), seed=0, data={"seed": 5})  # other pictures
    words = gathered(tmp_path).claims["claim"].str.extract(r": (.*) \(")[0]
    assert set(words) == {
        "GAE, seed 0, data.seed 4 above GAE, seed 1, data.seed 4",
        "GAE, seed 1, data.seed 4 above TIS, seed 1, data.seed 4",
    }


def test_a_rule_is_named_by_itself(tmp_path):
    for name in ("positive", "centred"):
        rule = {"_target_": f"attnguide.rules.{name}", "_partial_": True}
        store(tmp_path / name, 1.0, rule=rule)
    runs, _ = find_runs(tmp_path)
    assert named(runs) == ["centred", "gae"]
    assert set(table_of(runs, {})["methods"]) == {"centred", "gae"}


def test_a_job_that_failed_has_a_row_with_the_reason(tmp_path):
    store(tmp_path / "a", 10.0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / FAILED).write_text("no pictures\nat all")
    table = table_of(*find_runs(tmp_path))
    assert table["run"].tolist() == ["a", "b"]
    assert table["left out"].tolist()[1] == "failed: no pictures at all"


def test_runs_of_other_code_are_named(tmp_path):
    for name, commit in (("a", "1" * 40), ("b", "2" * 40), ("c", "1" * 40)):
        store(tmp_path / name, 10.0, seed=ord(name))
        inputs = {"settings": {}, "code": [{"attnguide": "1.0", "commit": commit}], "models": {}}
        (tmp_path / name / "inputs.json").write_text(json.dumps(inputs))
    [_, told] = gathered(tmp_path).found
    assert told.startswith("b comes from other code (attnguide 1.0, commit 222222222222) than most")


def test_runs_become_one_table_with_what_differs_as_columns(tmp_path, capsys):
    store(tmp_path / "a", 10.0, loss="logit", seed=0, batch_size=8)
    store(tmp_path / "b" / "c", 20.0, loss="ratio", seed=0, batch_size=16)
    store(tmp_path / "d", 30.0, loss="ratio", seed=0, start_layer=2)
    store(tmp_path / "e", 0.0, finished=None, seed=5)
    store(tmp_path / "a" / "wandb" / "files", 99.0, seed=9)  # what W&B keeps inside a run
    start(tmp_path, "stage=aggregate")
    table = pd.read_csv(tmp_path / "aggregate.csv")
    assert list(table)[:2] == ["loss", "method.rollout.start_layer"]
    assert table["loss"].tolist()[:3] == ["logit", "ratio", "ratio"]
    assert table["method.rollout.start_layer"].tolist()[:3] == [0, 0, 2]
    assert table["run"].tolist() == ["a", "b/c", "d", "e"]
    assert table["auc"].tolist()[:3] == [10.0, 20.0, 30.0]
    assert table["left out"].tolist()[3] == "not finished"
    assert not {"seed", "batch_size", "run_dir"} & set(table)
    assert "left out: e (not finished)" in capsys.readouterr().out
    assert "e (not finished)" in (tmp_path / "aggregate.html").read_text()
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert claims["claim"].tolist() == ["that a", "that c", "that d"]
    assert claims["run"].tolist() == ["a", "b/c", "d"]
    index = (tmp_path / "index.html").read_text()
    assert index.count("that c") == 1
    assert "Of d" in index
    assert "left out: not finished" in index
    assert {path.suffix for path in tmp_path.glob("aggregate.*")} == {
        ".csv", ".html", ".pdf", ".png",
    }  # fmt: skip


def test_classes_that_are_called_like_nothing_keep_their_names(tmp_path):
    store(tmp_path / "a", 10.0)
    names = ["NA", "None", "nan", "null"]
    summary = pd.DataFrame({"target_name": names, "method": "gae", "auc": [1.0, 2.0, 3.0, 4.0]})
    summary.to_csv(tmp_path / "a" / "summary.csv", index=False)
    ((run,), _) = find_runs(tmp_path)
    assert run.summary["target_name"].tolist() == names


def test_runs_inside_a_run_stand_for_it_and_tell_what_they_found(tmp_path):
    store(tmp_path / "all", 1.0, seed=7)
    store(tmp_path / "all" / "a", 10.0, seed=0)
    store(tmp_path / "all" / "b", 20.0, seed=1)
    runs, _ = find_runs(tmp_path)
    assert [run.name for run in runs] == ["all/a", "all/b"]
    assert [run.found for run in runs] == [("It is.",)] * 2


def test_the_figure_has_a_row_per_setting_and_drops_no_run(tmp_path):
    store(tmp_path / "a", 10.0, seed=0)
    store(tmp_path / "b", 20.0, seed=1)
    store(tmp_path / "again", 21.0, seed=1)
    [axes] = gathered(tmp_path).figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["seed 0", "seed 1 again", "seed 1 b"]
    drawn = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert drawn == [10.0, 21.0, 20.0]


def test_a_setting_called_like_a_column_keeps_its_own_column(tmp_path):
    store(tmp_path / "a", 10.0, order="x")
    store(tmp_path / "b", 20.0, order="y")
    table = table_of(*find_runs(tmp_path))
    assert table["order (setting)"].tolist() == ["x", "y"]
    assert set(table["order"]) == {"negative"}


def test_without_a_finished_run_what_is_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run below .*pass run_dir=FOLDER"):
        start(tmp_path, "stage=aggregate")
    store(tmp_path / "a", 10.0, finished=None)
    store(tmp_path / "b", 10.0)
    (tmp_path / "b" / "summary.csv").unlink()
    (tmp_path / "b" / "provenance.json").unlink()
    (tmp_path / "b" / "parts").mkdir()
    for shard, finished in enumerate(("now", None)):
        text = json.dumps({"finished": finished})
        (tmp_path / "b" / "parts" / f"{shard:04d}.json").write_text(text)
    with pytest.raises(
        FileNotFoundError, match=r"a \(not finished\); b \(1 shards finished, not merg"
    ):
        start(tmp_path, "stage=aggregate")
    assert not list(tmp_path.glob("aggregate*"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *product(("provenance.json", "findings.json", "config.yaml"), ("[]", "[[", "null")),
        *(("summary.csv", ""), ("claims.csv", "")),
    ],
)
def test_a_damaged_file_leaves_its_run_out_by_name(tmp_path, name, content):
    store(tmp_path / "a", 10.0)
    store(tmp_path / "b", 20.0)
    (tmp_path / "b" / name).write_text(content)
    runs, left_out = find_runs(tmp_path)
    assert [run.name for run in runs] == ["a"]
    assert list(left_out) == ["b"]
