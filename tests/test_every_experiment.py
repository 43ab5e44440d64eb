"""Every experiment gives the same in every way it may run: in shards, on devices, killed, resumed.

For each one two facts are checked of which that follows: its list of items is the same for every
shard, and the rows of a batch are those of its items one by one. That the machinery then divides,
stores and merges them is checked for one study here, and in the second lane for every experiment.
The experiments are found in `conf/experiment`; a new one is in these tests as it is.
"""

import shutil
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from conftest import PNG
from fake_study import FakeStudy, start_fake
from running import (
    EXPERIMENTS,
    assert_same_findings,
    assert_same_rows,
    assert_same_tables,
    config,
    provenance,
    start,
    table_of,
)

from attnguide.data.pictures import share
from attnguide.figures.claims import MethodComparison
from attnguide.figures.experiment import Task
from attnguide.runs.objects import build_experiment
from attnguide.store.table import read

pytestmark = pytest.mark.usefixtures("small_models", "undrawn", "recognised")
SLOW = "method=[complete,gae,tis]"
FEW = "method=[complete,gae]"
CREATURES_ONLY = ("in_domain_deletion", "parts")
TIS = ("method.tis.n_masks=4", "method.tis.batch_size=8")
# Small, and every part of the study at work; an experiment that is not named here runs as it is.
SMALL = {
    "fig03_gradient_corrections": ["runner.shown=2", "runner.limits.absolute=3"],
    "fig04_encoder_mechanism": ["runner.shown=2", "runner.limits.gae=3"],
    "fig05_multi_class": ["runner.shown=3", "runner.limits.gae=3"],
    "fig06_attention_transfer": ["runner.steps=2", "runner.shown=3"],
    "fig07_single_class": ["runner.shown=2", "runner.limits.gae=3"],
    "fig08_guided": ["runner.shown=2", "runner.sweep_images=3", "runner.limits.gae=4"],
    "fig09_detail": ["runner.impostors=4"],
    "fig10_other_methods": [SLOW, *TIS, "runner.limits={tis: 2}"],
    "fig11_rewrite": ["runner.max_steps=2"],
    "fig12_perturbation": ["runner.fractions=[0,0.5]", "runner.unguided_every=3",
                           "runner.fill=[zero,mean]"],
    "fig13_method_comparison": [SLOW, *TIS, "runner.limits={tis: 2}", "runner.shown=3"],
    "guide_controls": ["runner.fractions=[0,0.5]", "runner.sweep_images=1"],
    "in_domain_deletion": [FEW],
    "label_audit": ["runner.impostors=4", "runner.shown=2"],
    "localization": [FEW, "runner.limits={gae: 4}", "runner.grids=2"],
    "parts": [FEW, "runner.limits={gae: 4}", "runner.shown=1"],
    "sanity_checks": [FEW, "runner.limits={gae: 4}", "runner.precision_images=3", "runner.draws=2"],
    "scorecard": [FEW, "runner.limits={gae: 4}", "runner.fractions=[0,0.5]", "runner.grids=2"],
}  # fmt: skip
WORLDS = {
    "creatures": ["data.num_images=9"],
    "photographs": ["scale=sample", "model.checkpoint=weights", "data.num_images=7"],
}


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


@pytest.fixture
def words_of(boxed_photographs, monkeypatch):
    """The words of an experiment in a world."""
    monkeypatch.setattr("experiments.explain.render", lambda *_: PNG)

    def make(name, world, *more):
        words = [*WORLDS[world], *SMALL.get(name, ()), "batch_size=2", "device=cpu", *more]
        if world == "photographs":
            words.append(f"data.root={boxed_photographs}")
        if (name, world) == ("fig05_multi_class", "photographs"):
            words += ["model=paper", "model.checkpoint=[weights,weights]"]
        return [f"experiment={name}", *words]

    return make


@dataclass
class Watched:
    """What a run asked of its experiment."""

    items: list = field(default_factory=list)  # the selection of each model
    batches: list = field(default_factory=list)  # study, batch, rows
    stop_after_one: bool = False


class Stopped(Exception):
    """In place of a signal."""


@pytest.fixture
def watch(monkeypatch):
    """Note what the experiments of a class are asked for, from now on."""

    def begin(kind):
        seen = Watched()
        to_study, rows = kind.to_study, kind.rows

        def note_items(experiment, study):
            seen.items.append(to_study(experiment, study))
            return seen.items[-1]

        def note_rows(experiment, study, batch):
            seen.batches.append((study, batch, rows(experiment, study, batch)))
            if seen.stop_after_one:
                raise Stopped
            return seen.batches[-1][-1]

        monkeypatch.setattr(kind, "to_study", note_items)
        monkeypatch.setattr(kind, "rows", note_rows)
        return seen

    return begin


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


@pytest.mark.first_lane
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_rows_are_of_items_whatever_the_batch_and_the_shard(
    name, world, words_of, watch, tmp_path, monkeypatch
):
    words = words_of(name, world)
    if refused(name, world, words, tmp_path):
        return
    if world != "creatures":  # whose figures are the same but for the pictures
        monkeypatch.setattr("attnguide.runs.run.write_findings", lambda *_, **__: None)
    experiment = build_experiment(config(*words))
    seen = watch(type(experiment))
    plain = start(tmp_path / "plain", *words)
    shows_its_parts(name, world, read(plain))
    if world == "creatures":
        judges_its_claims(experiment, plain)
    selections, batches = seen.items.copy(), [entry for entry in seen.batches if len(entry[1]) > 1]
    assert_rows_are_of_items(experiment, batches[:: max(1, len(batches) - 1)])

    seen.items.clear(), seen.batches.clear()
    seen.stop_after_one = True
    mine = share(selections[0].items, 1, 3)
    with pytest.raises(Stopped) if mine else nullcontext():
        start(tmp_path / "shard", *words, "data.num_shards=3", "data.shard=1")
    if not mine:
        assert not seen.batches
        return
    (selection,), ((_, batch, _),) = seen.items, seen.batches
    assert list(map(said_of, selection.items)) == list(map(said_of, selections[0].items))
    assert [item.id for item, _ in batch] == [item.id for item in mine[: len(batch)]]


def said_of(item):
    """What is said of an item, but not how it is read."""
    return {name: value for name, value in vars(item).items() if not callable(value)}


def killed_after_the_first_batch(monkeypatch, kind, run_dir, begin):
    """A life of the run that ends by force once a batch is stored."""
    rows, batches = kind.rows, []

    def rows_or_death(experiment, study, batch):
        if batches:
            raise Stopped
        batches.append(batch)
        return rows(experiment, study, batch)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "rows", rows_or_death)
        with pytest.raises(Stopped):
            begin(run_dir)
    assert len(list((run_dir / "parts").glob("*.parquet"))) == 1


def assert_every_way_gives_the_same(tmp_path, monkeypatch, kind, begin):
    """Plain, three shards that know nothing of each other, two devices, killed and resumed.

    Args:
        kind: Class of the experiment.
        begin: Starts it in a folder, with further words.
    """
    plain = tmp_path / "plain"
    begin(plain)
    for shard in range(3):
        begin(tmp_path / f"shard {shard}", "data.num_shards=3", f"data.shard={shard}")
        shutil.copytree(tmp_path / f"shard {shard}", tmp_path / "shards", dirs_exist_ok=True)
    begin(tmp_path / "shards", "stage=merge")
    begin(tmp_path / "devices", "devices=2")
    killed_after_the_first_batch(monkeypatch, kind, tmp_path / "resumed", begin)
    begin(tmp_path / "resumed")

    tables = [tmp_path / way / "results.parquet" for way in ("plain", "resumed")]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    for way in ("shards", "devices", "resumed"):
        parts = (tmp_path / way / "parts").glob("*.parquet")
        assert sum(len(pd.read_parquet(part)) for part in parts) == len(read(plain))  # none twice
        assert_same_rows(plain, tmp_path / way)
        assert_same_findings(plain, tmp_path / way)
    assert provenance(tmp_path / "shards")["notes"] == provenance(plain)["notes"]


def test_every_way_to_run_a_study_gives_the_same(tmp_path, monkeypatch, study):
    assert_every_way_gives_the_same(tmp_path, monkeypatch, FakeStudy, start_fake)


@pytest.mark.system
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_way_to_run_an_experiment_gives_the_same(
    name, world, words_of, tmp_path, monkeypatch
):
    words = words_of(name, world)
    if not refused(name, world, words, tmp_path):
        kind = type(build_experiment(config(*words)))

        def begin(run_dir, *more):
            start(run_dir, *(more if more == ("stage=merge",) else (*words, *more)))

        assert_every_way_gives_the_same(tmp_path, monkeypatch, kind, begin)


def test_what_is_made_small_is_an_experiment():
    assert set(SMALL) <= set(EXPERIMENTS)
