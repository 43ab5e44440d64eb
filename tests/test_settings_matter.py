"""Each setting that an experiment takes changes something: its rows, or what is drawn of them.

Experiments, choices and settings are found; a new setting of an unknown kind must be named here.
"""

import dataclasses
import json

import pytest
from conftest import PNG
from running import EXPERIMENTS, config, start
from test_every_experiment import SMALL

from attnguide.data.creatures.scenes import pair, single
from attnguide.evaluation.engines import prepare
from attnguide.figures.experiment import Task
from attnguide.figures.map_figure import MapFigure
from attnguide.runs.objects import build_experiment
from attnguide.store.table import read

pytestmark = pytest.mark.usefixtures("small_models", "recognised")
TWO_CLASSES = ["loss=difference", "reference=runner-up"]
# Words before, and words after, for every choice; the first ones that the experiment accepts.
CHOICES = {
    "method": [
        ([], ["method=[complete,grad_eclip]"]),
        ([], ["method.complete.gradient=libra"]),
    ],
    "loss": [([], TWO_CLASSES), ([], ["loss=ratio", "reference=stilt-legged ibis"])],
    "reference": [
        ([], TWO_CLASSES),
        (
            ["loss=ratio", "reference=stilt-legged ibis"],
            ["loss=ratio", "reference=band-marked fish"],
        ),
        (TWO_CLASSES, ["loss=difference", "reference=other"]),
        (TWO_CLASSES, ["loss=difference", "reference=stilt-legged ibis"]),
    ],
    "target": [([], ["target=stilt-legged ibis"])],
    "guide": [
        (["guide=right"], ["guide=left"]),
        (["guide=right"], ["guide=right", "guide.fraction=0.25"]),
        (["guide=right"], ["guide=right", "guide.image=fan-crested lizard"]),
        (["guide=right", "guide.fit=pad"], ["guide=right", "guide.fit=pad", "guide.fill=0.5"]),
    ],
    "engine": [([], ["precision=bf16"])],
}
# Other values of settings, where one more or half as much is none.
OTHER = {
    "fill": "mean",
    "fractions": [0.0, 0.25],
    "limits": {"complete": 1, "gae": 2, "tis": 1, "absolute": 1},
    "epsilon": 1,
    "losses": ["difference"],
    "overview": 2,
}


@pytest.fixture
def pictures(tmp_path):
    """A picture of the user's own, of one creature and of two."""
    single(7, 3, 3).to_pil().save(tmp_path / "one.png")
    pair(7, 5, (3, 10)).to_pil().save(tmp_path / "two.png")
    return {"one": tmp_path / "one.png", "two": tmp_path / "two.png"}


class Runs:
    """Runs of one experiment, each of its words once, drawn only where rows tell nothing apart."""

    def __init__(self, name, folder, monkeypatch):
        self.name, self.folder, self.monkeypatch = name, folder, monkeypatch
        self.done, self.drawn, self.engines = {}, {}, {}

    def run(self, *words):
        if words not in self.done:
            run_dir = self.folder / f"run {len(self.done)}"
            small = ["data.num_images=9", "batch_size=4", "device=cpu"]
            engines = self.engines[words] = set()
            with self.monkeypatch.context() as patch:
                patch.setattr("attnguide.runs.lifecycle.write_findings", lambda *_, **__: None)
                patch.setattr("attnguide.figures.experiment.prepare", watched(engines))
                named = [f"experiment={self.name}", *SMALL.get(self.name, ())]
                start(run_dir, *named, *small, *words)
            self.done[words] = run_dir
        return self.done[words]

    def differ(self, before, after):
        """Whether two commands leave different rows, or different findings."""
        before, after = tuple(before), tuple(after)
        one, other = self.run(*before), self.run(*after)
        if not read(one).equals(read(other)):
            return True
        return self.engines[before] != self.engines[after] or self.draw(one) != self.draw(other)

    def draw(self, run_dir):
        """Sentences, summary, and how many panels each figure has."""
        if run_dir not in self.drawn:
            panels = []

            def count(figure, *_):
                panels.append(len(figure.axes))
                return PNG

            with self.monkeypatch.context() as patch:
                for place in ("runs.write", "report.page"):
                    patch.setattr(f"attnguide.{place}.render", count)
                patch.setattr("experiments.explain.render", count)
                start(run_dir, "stage=draw")
            told = (run_dir / "findings.json").read_text(), (run_dir / "summary.csv").read_text()
            self.drawn[run_dir] = (*told, panels)
        return self.drawn[run_dir]


def watched(engines):
    """Make a model ready for masked passes as it is done, and note how."""

    def note(vit, engine):
        engines.add(engine)
        return prepare(vit, engine)

    return note


def another(name, field, value, pictures, experiment):
    """Another value of a setting, as a word."""
    if field == "pictures":
        two = getattr(experiment, "pairs", False) or not isinstance(experiment, MapFigure)
        file, classes = (pictures["two"], CLASSES[:2]) if two else (pictures["one"], CLASSES[:1])
        return f"[{{file: {file}, classes: [{', '.join(classes)}]}}]"
    if field in OTHER:
        return json.dumps(OTHER[field]).replace('"', "")
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return str(value - 1 if value > 1 else value + 1)
    if isinstance(value, float):
        return str(value / 2)
    return pytest.fail(f"say in OTHER what else {name}'s runner.{field}={value!r} may be")


CLASSES = ["trunk-nosed tapir", "fan-crested lizard"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_setting_that_is_taken_changes_something(name, tmp_path, monkeypatch, pictures):
    experiment = build_experiment(config(f"experiment={name}", *SMALL.get(name, ())))
    if isinstance(experiment, Task):
        pytest.skip("a training: its settings have tests of their own")
    runs, idle = Runs(name, tmp_path, monkeypatch), []
    for choice in sorted(experiment.takes):
        accepted = 0
        for before, after in CHOICES[choice]:
            try:
                changed = runs.differ(before, after)
            except ValueError:
                continue  # such as a reference that is for pairs alone
            accepted += 1
            if not changed:
                idle.append(f"{after} after {before}")
        assert accepted, f"{name} says that it takes {choice}, and refuses every one"
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        word = another(name, field.name, value, pictures, experiment)
        if not runs.differ([], [f"runner.{field.name}={word}"]):
            idle.append(f"runner.{field.name}={word}")
    assert not idle, f"{name} takes settings that change nothing: {idle}"
