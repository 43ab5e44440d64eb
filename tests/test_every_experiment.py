"""Every experiment gives the same in every way it may run: in shards, on devices, killed, resumed.

For each one two facts are checked of which that follows: its list of items is the same for every
shard, and the rows of a batch are those of its items one by one. That the machinery then divides,
stores and merges them is checked for one study here, and in the second lane for every experiment:
each way in one of the two worlds.
The experiments are found in `conf/experiment`; a new one is in these tests as it is.
"""

import multiprocessing
import os
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
from fake_study import FakeStudy, start_fake
from running import (
    EXPERIMENTS,
    assert_same_findings,
    assert_same_rows,
    assert_same_tables,
    config,
    load_maps,
    provenance,
    start,
    table_of,
)
from small_runs import SMALL, WORLDS, run_watched, words_of

from attnguide.data.pictures import share
from attnguide.figures.claims import MethodComparison
from attnguide.figures.experiment import Task
from attnguide.findings import CLAIM_COLUMNS
from attnguide.runs.objects import build_experiment
from attnguide.store.table import read

pytestmark = pytest.mark.usefixtures("small_models", "undrawn", "recognised")
CREATURES_ONLY = ("in_domain_deletion", "parts")
WAYS = ("shards", "devices", "resumed")


def shows_its_parts(name, world, rows):
    """Whether the parts of a study that a small run could miss have left rows."""
    if name == "fig12_perturbation":
        own = rows.groupby("guide")["image_id"].nunique()
        assert 1 < own["none"] < own["right"]
        assert rows["fill"].nunique() == 2
    if name == "fig08_guided":
        swept = rows[rows["view"] == "left 0.5 squash"]["image_id"].nunique()
        assert 1 < swept < rows["image_id"].nunique()
    if "runner.grids=2" in SMALL.get(name, ()):
        assert rows.loc[rows["part"] == "grids", "image_id"].nunique() == (
            2 if world == "creatures" else 1
        )
    if world == "photographs" and name[:5] in ("fig04", "fig05", "fig06"):
        assert "boxes" in set(rows["regions"])
    one_picture = name == "fig10_other_methods" and world == "photographs"
    if any("limits" in word for word in SMALL.get(name, ())) and not one_picture:
        counts = rows[rows["measured"]].groupby("method")["image_id"].nunique()
        assert counts.nunique() > 1


def judges_its_claims(experiment, run_dir):
    """Whether what is declared about methods that were run has a line of its own."""
    claims, rows = table_of(run_dir, "claims"), read(run_dir)
    assert list(claims) == ["experiment", *CLAIM_COLUMNS]
    assert not claims.duplicated(["model", "id"]).any()
    for claim in getattr(experiment, "claims", ()):
        if claim.id.startswith("label_audit.") and ("of_class" in claim.id or "maps" in claim.id):
            continue  # a small run has too few pictures of one class
        if claim.id in ("fig09.part", "fig09.like.ratio", "fig09.like.difference"):
            continue  # a random model has perhaps no two logits that are positive, as Eq. 8 needs
        methods = (claim.first,) if isinstance(claim, MethodComparison) else claim.methods
        asked = set(methods) <= set(rows.get("method", methods))
        assert claims["id"].str.startswith(claim.id).any() == asked, claim.id
    assert set(claims.loc[claims["n"] < 10, "verdict"]) <= {"inconclusive"}


def assert_rows_are_of_items(experiment, batches):
    """The rows and pictures of a batch are those of its items one by one."""
    for study, batch, found in batches:
        alone = [experiment.rows(study, [entry]) for entry in batch]
        together = pd.concat([rows.table for rows in alone])
        order = ["image_id", *(key for key in experiment.key if key in found.table)]
        one, other = (
            table.sort_values(list(dict.fromkeys(order)), kind="stable", ignore_index=True)
            for table in (found.table, together)
        )
        assert_same_tables(one, other[one.columns])
        pictures = {name: pixels for rows in alone for name, pixels in rows.pictures.items()}
        assert set(pictures) == set(found.pictures)
        for name, pixels in found.pictures.items():
            np.testing.assert_allclose(pixels, pictures[name], atol=1e-3, err_msg=name)


def refused(name, world, words, tmp_path):
    """Whether an experiment cannot run so, and says why."""
    if world != "creatures" and name in CREATURES_ONLY:
        with pytest.raises(ValueError, match="data=creatures"):
            start(tmp_path / "refused", *words)
    elif isinstance(build_experiment(config(*words)), Task):  # no loop over pictures
        for more in ("data.num_shards=3", "devices=2"):
            with pytest.raises(ValueError, match=f"{name} cannot be sharded"):
                start(tmp_path / "refused", *words, more)
    else:
        return False
    assert not (tmp_path / "refused").exists()
    return True


@pytest.mark.parametrize(
    "world",
    [
        pytest.param("creatures", marks=pytest.mark.first_lane),
        pytest.param("photographs", marks=pytest.mark.system),
    ],
)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_rows_are_of_items_whatever_the_batch_and_the_shard(
    name, world, small_run, boxed_photographs, tmp_path
):
    words = words_of(name, world, boxed_photographs)
    if refused(name, world, words, tmp_path):
        return
    plain = small_run(name, world)
    shows_its_parts(name, world, read(plain.run_dir))
    if world == "creatures":
        judges_its_claims(plain.experiment, plain.run_dir)
    batches = [entry for entry in plain.batches if len(entry[1]) > 1]
    assert_rows_are_of_items(plain.experiment, batches[:: max(1, len(batches) - 1)])

    mine = share(plain.items[0].items, 1, 3)
    words = [*plain.words, "data.num_shards=3", "data.shard=1"]
    shard = run_watched(tmp_path / "shard", words, stop_after_one=True)
    assert len(shard.batches) == bool(mine)
    for _, batch, _ in shard.batches:
        assert list(map(said_of, shard.items[0].items)) == list(map(said_of, plain.items[0].items))
        assert [item.id for item, _ in batch] == [item.id for item in mine[: len(batch)]]


def said_of(item):
    """What is said of an item and of its files, but not how they are read."""
    said = {name: value for name, value in vars(item).items() if not callable(value)}
    return said | {"sources": [source.path for source in item.sources]}


def test_a_figure_is_drawn_again_without_a_model(small_run, tmp_path, monkeypatch):
    run_dir = shutil.copytree(small_run("fig10_other_methods").run_dir, tmp_path / "run")
    monkeypatch.setattr("attnguide.models.load.load_model", lambda *_: pytest.fail("a model"))
    tables = [run_dir / "summary.csv", run_dir / "claims.csv"]
    before = [path.read_bytes() for path in tables]
    start(run_dir, "stage=draw")
    assert [path.read_bytes() for path in tables] == before
    assert len(load_maps(run_dir)) == read(run_dir)["relevance"].notna().sum()


def killed_after_the_first_batch(kind, run_dir, begin):
    """A process that SIGKILL ends once a batch is stored, though it were the only one."""
    rows, batches = kind.rows, []

    def rows_or_death(experiment, study, batch=None):
        if batches:
            os.kill(os.getpid(), signal.SIGKILL)
        batches.append(batch)
        return rows(experiment, study, batch)

    def live():
        kind.rows = kind.draw = rows_or_death
        begin(run_dir)

    process = multiprocessing.get_context("fork").Process(target=live)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list((run_dir / "parts").glob("*.parquet"))) == 1


def assert_every_way_gives_the_same(tmp_path, kind, begin, ways=WAYS):
    """Plain, three shards that know nothing of each other, two devices, killed and resumed.

    Args:
        kind: Class of the experiment.
        begin: Starts it in a folder, with further words.
        ways: Which of them.
    """
    plain = tmp_path / "plain"
    begin(plain)
    if "shards" in ways:
        for shard in range(3):
            begin(tmp_path / f"shard {shard}", "data.num_shards=3", f"data.shard={shard}")
            shutil.copytree(tmp_path / f"shard {shard}", tmp_path / "shards", dirs_exist_ok=True)
        begin(tmp_path / "shards", "stage=merge")
        assert provenance(tmp_path / "shards")["notes"] == provenance(plain)["notes"]
    if "devices" in ways:
        begin(tmp_path / "devices", "devices=2")
    if "resumed" in ways:
        killed_after_the_first_batch(kind, tmp_path / "resumed", begin)
        begin(tmp_path / "resumed")
        for name in ("results.parquet", "summary.csv", "claims.csv"):
            assert (plain / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes(), name
    for way in ways:
        parts = (tmp_path / way / "parts").glob("*.parquet")
        assert sum(len(pd.read_parquet(part)) for part in parts) == len(read(plain))  # none twice
        assert_same_rows(plain, tmp_path / way)
        assert_same_findings(plain, tmp_path / way)


@pytest.mark.first_lane  # all that shards, devices and stops promise
@pytest.mark.usefixtures("study")
def test_every_way_to_run_a_study_gives_the_same(tmp_path):
    assert_every_way_gives_the_same(tmp_path, FakeStudy, start_fake)


@pytest.mark.system
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_way_to_run_an_experiment_gives_the_same(name, world, boxed_photographs, tmp_path):
    words = words_of(name, world, boxed_photographs)
    if not refused(name, world, words, tmp_path):
        kind = type(build_experiment(config(*words)))
        one = {"creatures": ("devices", "resumed"), "photographs": ("shards",)}[world]
        ways = WAYS if name in ("fig12_perturbation", *CREATURES_ONLY) else one

        def begin(run_dir, *more):
            start(run_dir, *(more if more == ("stage=merge",) else (*words, *more)))

        assert_every_way_gives_the_same(tmp_path, kind, begin, ways)


def test_what_is_made_small_is_an_experiment():
    assert set(SMALL) <= set(EXPERIMENTS)
