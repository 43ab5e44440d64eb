"""A folder of one's own, without the classes that defaults name: nothing needs to be typed."""

import shutil

import pytest
from running import config

from attnguide.runs.objects import Problems, build_choices, build_experiment
from attnguide.runs.settings import read_settings

pytestmark = pytest.mark.usefixtures("small_models", "recognised")
KITE = "n01608432"  # the first class by name


@pytest.fixture
def selected(photographs):
    """`selected(name, *words)`: items and note of an experiment on a folder without a zebra."""
    shutil.rmtree(photographs / "n02391049")

    def select(name, *words):
        words = ["scale=sample", "model.checkpoint=weights", f"data.root={photographs}", *words]
        made = config(f"experiment={name}", *words)
        experiment = build_experiment(made)
        choices = build_choices(made, read_settings(made), experiment.uses, Problems())
        [vit] = experiment.models(choices, "cpu")
        found = experiment.to_study(choices.of(vit))
        return found.items, found.note

    return select


def names(items):
    return [item.id for item in items]


@pytest.mark.parametrize(("name", "guided"), [("fig08_guided", ""), ("localization", "guided")])
def test_the_default_guide_is_a_class_of_the_folder_and_is_left_out(name, guided, selected):
    items, note = selected(name, "method=[complete,gae]")
    beside = names(item for item in items if item.part == guided and item.measured)
    assert len(beside) == 6
    assert not any(image.startswith(KITE) for image in beside)
    assert "Pictures of the guide's class that were left out: 1." in note


def test_shown_pictures_are_those_that_are_left(selected, photographs):
    """The guide is of the first class that figures would show."""
    words = [f"guide.image={photographs / 'n01871265' / 'a.png'}", "runner.shown=3"]
    for more in ([], ["data.shown=[tusker]"]):
        items, _ = selected("fig08_guided", *words, *more)
        shown = names(item for item in items if item.shown is not None)
        assert len(shown) == 3
        assert not any(image.startswith("n01871265") for image in shown)


def test_no_class_is_left_unaudited(selected):
    items, _ = selected("label_audit")
    assert len(items) == 7
    assert len({item.label for item in items}) == 6
