"""A fine-tuned network of HuggingFace with names of its own, in every kind of experiment."""

import numpy as np
import pytest
import running
from conftest import paint
from foreign import save_fine_tuned

from attnguide.store.table import read

NAMES = ("ash", "birch", "elm", "oak", "yew")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with the network as `save_pretrained` writes it, and one with a folder per class."""
    root = tmp_path_factory.mktemp("own")
    save_fine_tuned(root / "network", NAMES)
    rng = np.random.default_rng(0)
    for name in NAMES:
        for number in range(3):
            paint(root / "trees" / name / f"{number}.png", rng)
    return root


def words(own, experiment, *more):
    given = (f"model.name={own / 'network'}", f"data.root={own / 'trees'}", "device=cpu", *more)
    return (f"experiment={experiment}", "model=huggingface", "data=folder", *given)


RUNS = [
    ("explain", "guide=right", "class"),
    ("fig03_gradient_corrections", "", ""),
    ("fig12_perturbation", "", "file"),
]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("experiment", "word", "by"), RUNS)
def test_a_fine_tuned_network_runs_on_a_folder_of_its_classes(own, experiment, word, by, tmp_path):
    guide = {"class": "yew", "file": own / "trees" / "yew" / "0.png", "": None}[by]
    more = [word] * bool(word) + [f"guide.image={guide}"] * bool(by)
    made = running.start(tmp_path / "run", *words(own, experiment, *more))
    rows = read(made)
    assert set(rows["model"]) == {"network"}
    if by:
        guided = rows[rows["guide"] != "none"] if "guide" in rows else rows
        assert len(guided)
        assert not guided["image_id"].str.startswith("yew/").any()
    if experiment == "explain":
        assert set(rows["target_name"]) == set(NAMES) - {"yew"}
        assert len(running.load_maps(made)) == 2 * 12  # methods, pictures
    if experiment == "fig03_gradient_corrections":
        assert {row.split("/")[0] for row in rows["image_id"]} == set(NAMES)


def test_a_guide_of_another_world_is_one_line(own, tmp_path):
    with pytest.raises(ValueError, match=r"guide.image 'zebra' is no picture file, and unknown"):
        running.start(tmp_path / "run", *words(own, "fig12_perturbation", "guide.image=zebra"))
