"""Every experiment in every way it may run: plain, in shards, on two devices, killed and resumed.

The experiments are found in `conf/experiment`; a new one is in this test as it is.
"""

import shutil

import pandas as pd
import pytest
from conftest import PNG
from running import (
    EXPERIMENTS,
    assert_same_findings,
    assert_same_rows,
    config,
    provenance,
    start,
    table_of,
)

from attnguide.figures.claims import MethodComparison
from attnguide.figures.experiment import Task
from attnguide.runs.objects import build_experiment
from attnguide.runs.predict import TableWriter
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
    "in_domain_deletion": [FEW],
    "label_audit": ["runner.impostors=4", "runner.shown=2"],
    "localization": [FEW, "runner.limits={gae: 4}", "runner.grids=2"],
    "parts": [FEW, "runner.limits={gae: 4}", "runner.shown=1"],
    "sanity_checks": [FEW, "runner.limits={gae: 4}", "runner.precision_images=3"],
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


def judges_its_claims(experiment, world, run_dir):
    """Whether what is declared about methods that were run has a line of its own."""
    claims, rows = table_of(run_dir, "claims"), read(run_dir)
    assert not claims.duplicated(["model", "id"]).any()
    if world == "creatures":  # where all objects are known
        for claim in getattr(experiment, "claims", ()):
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


def killed_after_the_first_batch(monkeypatch, run_dir, words):
    """A life of the run that ends by force once a batch is stored."""
    with monkeypatch.context() as patch:
        write = TableWriter.write_on_batch_end

        def write_and_die(*args):
            write(*args)
            raise MemoryError("killed")

        patch.setattr(TableWriter, "write_on_batch_end", write_and_die)
        with pytest.raises(MemoryError, match="killed"):
            start(run_dir, *words)
    assert len(list((run_dir / "parts").glob("*.parquet"))) == 1


def in_shards(tmp_path, words):
    """Three shards that know nothing of each other, as if all ran at once, merged."""
    for shard in range(3):
        run_dir = tmp_path / f"shard {shard}"
        start(run_dir, *words, "data.num_shards=3", f"data.shard={shard}")
        shutil.copytree(run_dir, tmp_path / "shards", dirs_exist_ok=True)
    start(tmp_path / "shards", "stage=merge")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_way_to_run_gives_the_same(name, world, words_of, tmp_path, monkeypatch):
    if world != "creatures" and name in CREATURES_ONLY:
        with pytest.raises(ValueError, match="data=creatures"):
            start(tmp_path / "refused", *words_of(name, world))
        return
    words = words_of(name, world)
    experiment = build_experiment(config(*words))
    if isinstance(experiment, Task):
        for more in ("data.num_shards=3", "devices=2"):  # no loop over pictures
            with pytest.raises(
                ValueError, match=f"{name} is one piece of work and cannot be divided"
            ):
                start(tmp_path / "refused", *words, more)
        assert not (tmp_path / "refused").exists()
        return
    plain = start(tmp_path / "plain", *words)
    rows = read(plain)
    shows_its_parts(name, world, rows)
    judges_its_claims(experiment, world, plain)

    in_shards(tmp_path, words)
    start(tmp_path / "devices", *words, "devices=2", "trainer.strategy=ddp_fork")
    killed_after_the_first_batch(monkeypatch, tmp_path / "resumed", words)
    start(tmp_path / "resumed", *words)

    tables = [tmp_path / way / "results.parquet" for way in ("plain", "resumed")]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    for way in ("shards", "devices", "resumed"):
        parts = (tmp_path / way / "parts").glob("*.parquet")
        assert sum(len(pd.read_parquet(part)) for part in parts) == len(rows)  # nothing twice
        assert_same_rows(plain, tmp_path / way)
        assert_same_findings(plain, tmp_path / way)
    assert provenance(tmp_path / "shards")["notes"] == provenance(plain)["notes"]


def test_what_is_made_small_is_an_experiment():
    assert set(SMALL) <= set(EXPERIMENTS)
