"""Every experiment run once in small, for all tests that look at what it leaves."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from running import config, start

from attnguide.figures.experiment import Experiment
from attnguide.runs.objects import build_experiment

SLOW = "method=[complete,gae,tis]"
FEW = "method=[complete,gae]"
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
    "sanity_checks": ["method=[complete,gae,attn_lrp]", "runner.limits={gae: 4}",
                      "runner.precision_images=3", "runner.draws=2"],
    "scorecard": [FEW, "runner.limits={gae: 4}", "runner.fractions=[0,0.5]", "runner.grids=2"],
}  # fmt: skip
WORLDS = {
    "creatures": ["data.num_images=9"],
    "photographs": ["scale=sample", "model.checkpoint=weights", "data.num_images=7"],
}


def words_of(name, world, photographs):
    """The words of an experiment in a world."""
    words = [f"experiment={name}", *WORLDS[world], *SMALL.get(name, ())]
    if world == "photographs":
        words.append(f"data.root={photographs}")
    if (name, world) == ("fig05_multi_class", "photographs"):
        words += ["model=paper", "model.checkpoint=[weights,weights]"]
    return [*words, "batch_size=2", "device=cpu"]


class Stopped(Exception):
    """In place of a signal."""


@dataclass
class SmallRun:
    """A run, and what it asked of its experiment."""

    run_dir: Path
    words: list
    experiment: Experiment
    items: list = field(default_factory=list)  # the selection of each model
    batches: list = field(default_factory=list)  # study, batch, rows


def run_watched(run_dir, words, *, stop_after_one=False):
    """Run a command; note what its experiment is asked for."""
    experiment = build_experiment(config(*words))
    kind, seen = type(experiment), SmallRun(run_dir, words, experiment)
    to_study, rows = kind.to_study, kind.rows

    def note_items(experiment, study):
        seen.items.append(to_study(experiment, study))
        return seen.items[-1]

    def note_rows(experiment, study, batch):
        seen.batches.append((study, batch, rows(experiment, study, batch)))
        if stop_after_one:
            raise Stopped
        return seen.batches[-1][-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "to_study", note_items)
        patch.setattr(kind, "rows", note_rows)
        try:
            start(run_dir, *words)
        except Stopped:
            assert stop_after_one
    return seen
