"""A fine-tuned network of HuggingFace with names of its own, in every kind of experiment."""

import numpy as np
import pytest
import running
from PIL import Image

from attnguide.store.table import read

NAMES = ("ash", "birch", "elm", "oak", "yew")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with the network as `save_pretrained` writes it, and one with a folder per class."""
    transformers = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("own")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        **sizes, intermediate_size=48, image_size=32, patch_size=8, id2label=dict(enumerate(NAMES))
    )
    transformers.ViTForImageClassification(config).save_pretrained(root / "network")
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(root / "network")
    rng = np.random.default_rng(0)
    for name in NAMES:
        for number in range(3):
            path = root / "trees" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return root


def words(own, experiment, *more):
    given = (f"model.name={own / 'network'}", f"data.root={own / 'trees'}", "device=cpu", *more)
    return (f"experiment={experiment}", "model=huggingface", "data=folder", *given)


RUNS = [
    ("explain", "guide=right", "class"),
    ("explain", "guide=right", "file"),
    ("fig03_gradient_corrections", "", ""),
    ("fig05_multi_class", "", ""),
    ("fig08_guided", "", "class"),
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
