"""Each setting that an experiment takes changes something, and each that it does not is refused.

What changes are its rows, or what is drawn of them. Experiments, choices and settings are found; a
new setting of an unknown kind must be named here.
"""

import dataclasses
import json
from functools import cache
from itertools import zip_longest

import pandas as pd
import pytest
import torch
import yaml
from conftest import PNG
from running import EXPERIMENTS, config, keys, start
from small_runs import SMALL

from attnguide.data.creatures.scenes import pair, single
from attnguide.figures.map_figure import MapFigure
from attnguide.runs.objects import Problems, build_choices, build_experiment, refuse_unused
from attnguide.runs.settings import read_settings

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
        (["guide=right"], ["guide=right", "guide.image=[spiral-shelled snail,fan-crested lizard]"]),
        (
            ["guide=right"],
            [
                "guide=right",
                "guide.image=auto",
                "guide.candidates=[fan-crested lizard,trunk-nosed tapir]",
            ],
        ),
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


SMALLER = ["data.num_images=9", "batch_size=2", "device=cpu"]
# Settings that say what is drawn, of rows that stay as they are.
DRAWN = {"explain": {"overview"}, "label_audit": {"shown"}}


@pytest.fixture
def pictures(tmp_path):
    """A picture of the user's own, of one creature and of two."""
    single(7, 3, 3).to_pil().save(tmp_path / "one.png")
    pair(7, 5, (3, 10)).to_pil().save(tmp_path / "two.png")
    return {"one": tmp_path / "one.png", "two": tmp_path / "two.png"}


class Commands:
    """Rows of one experiment by its settings, batch by batch and no further than asked."""

    def __init__(self, name):
        self.name, self.started = name, {}

    def settings(self, words):
        """What a command sets; choices come from one composed config, since composing is slow."""
        made = config(f"experiment={self.name}", *SMALL.get(self.name, ()), *SMALLER)
        for word in words:
            key, _, value = word.partition("=")
            *path, last = key.split(".")
            node = made
            for name in path:
                node = node.setdefault(name, {})
            group = not path and last in ("method", "loss", "guide", "rule")
            node[last] = config("experiment=explain", word)[key] if group else yaml.safe_load(value)
        return made

    def batches(self, words):
        """What is set up for a model, then the rows of each batch."""
        made = self.settings(words)
        settings, experiment = read_settings(made), build_experiment(made)
        refuse_unused(keys(words), experiment.uses, self.name)
        problems = Problems()
        choices = build_choices(made, settings, experiment.uses, problems)
        problems.raise_all()
        experiment.check(choices)
        for vit in experiment.models(choices, torch.device("cpu")):
            study = choices.of(vit)
            items = experiment.to_study(study).items
            yield pd.DataFrame([(item.id, item.part, item.measured, item.shown) for item in items])
            for first in range(0, len(items), settings.batch_size):
                batch = items[first : first + settings.batch_size]
                inputs = [(item, experiment.inputs(study, item, item.load())) for item in batch]
                yield experiment.rows(study, inputs).table
            yield pd.DataFrame([study.engine_used])

    def rows(self, words):
        """The same, each computed once for all who ask."""
        if words not in self.started:
            self.started[words] = [], self.batches(words)
        done, rest = self.started[words]
        yield from done
        try:
            for table in rest:
                done.append(table)
                yield table
        except ValueError:
            del self.started[words]  # is refused again when it is asked for again
            raise

    def differ(self, before, after):
        """Whether two commands give different rows."""
        both = zip_longest(self.rows(tuple(before)), self.rows(tuple(after)))
        return any(one is None or not one.equals(other) for one, other in both)


commands_of = cache(Commands)  # rows without further words are computed once for both tests


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


def experiment_of(name):
    return build_experiment(config(f"experiment={name}", *SMALL.get(name, ()), *SMALLER))


STUDIES = [name for name in EXPERIMENTS if name != "train_creatures"]  # has tests of its own


@pytest.mark.first_lane
@pytest.mark.parametrize("name", STUDIES)
def test_each_choice_that_is_taken_changes_the_rows_and_others_are_refused(name):
    experiment, commands, idle = experiment_of(name), commands_of(name), []
    assert experiment.uses <= set(CHOICES)
    for choice, pairs in CHOICES.items():
        accepted = 0
        for before, after in pairs:
            if choice not in experiment.uses:
                with pytest.raises(ValueError, match="does not take|precision"):
                    commands.differ([], after)
                continue
            try:
                changed = commands.differ(before, after)
            except ValueError:
                continue  # such as a reference that is for pairs alone
            accepted += 1
            if not changed:
                idle.append(f"{after} after {before}")
        assert accepted or choice not in experiment.uses, f"{name} refuses every {choice}"
    assert not idle, f"{name} takes choices that change nothing: {idle}"


@pytest.mark.first_lane
@pytest.mark.parametrize("name", STUDIES)
def test_each_setting_of_an_experiment_changes_its_rows(name, pictures):
    experiment, commands, idle = experiment_of(name), commands_of(name), []
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        word = f"runner.{field.name}={another(name, field.name, value, pictures, experiment)}"
        if commands.differ([], [word]) == (field.name in DRAWN.get(name, ())):
            idle.append(word)
    assert not idle, f"{name} takes settings that change nothing, or is wrong in DRAWN: {idle}"


@pytest.mark.parametrize(("name", "field"), [(name, f) for name in DRAWN for f in DRAWN[name]])
def test_settings_of_drawings_change_what_is_drawn(name, field, tmp_path, monkeypatch):
    """Sentences, summary, or how many panels the figures have."""
    experiment, found = experiment_of(name), []
    taken = getattr(experiment, field)
    for value in (taken, another(name, field, taken, {}, experiment)):
        panels = []

        def count(figure, *_, panels=panels):
            panels.append(len(figure.axes))
            return PNG

        for place in ("attnguide.runs.draw", "attnguide.report.page", "experiments.explain"):
            monkeypatch.setattr(f"{place}.render", count)
        words = [f"experiment={name}", *SMALL.get(name, ()), *SMALLER, f"runner.{field}={value}"]
        run_dir = start(tmp_path / str(value), *words)
        told = [(run_dir / file).read_text() for file in ("findings.json", "summary.csv")]
        found.append((*told, panels))
    assert found[0] != found[1]
