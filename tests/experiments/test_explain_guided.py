"""`experiment=explain guide=right`: own pictures beside a guide."""

import numpy as np
import pytest
import running
from conftest import WNIDS, small_model

from attnguide import explain
from attnguide.data.creatures import scenes
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.store.table import read

WORDS = ("experiment=explain", "method=[complete,gae]", "device=cpu", "guide=right")
SNAIL = CLASS_NAMES.index("spiral-shelled snail")
pytestmark = pytest.mark.usefixtures("small_models", "undrawn")


def test_maps_are_those_of_a_notebook_and_the_guides_own_class_is_left_out(tmp_path):
    start = running.start(tmp_path / "out", *WORDS, "data.num_images=4")
    rows, maps = read(start), running.load_maps(start)
    assert sorted(set(rows["image_id"])) == [f"creature_pairs-0-{n}" for n in range(3)]
    [note] = running.provenance(start)["notes"].values()
    assert note == "Pictures of the guide's class that were left out: 1."
    vit = small_model("creatures")
    for row in rows[rows["method"] == "complete"].itertuples():
        number = int(row.image_id.rpartition("-")[2])
        left = 2 * number % 16 + number // 8 % 2
        picture = scenes.pair(0, number, (left, (left + 6) % 16)).to_pil()
        guide = "spiral-shelled snail"
        expected = explain(vit, picture, left, guide=guide)
        found = maps[f"complete|{row.image_id}|{left}"]
        np.testing.assert_allclose(found, expected.relevance[0], rtol=1e-4, atol=1e-7)
        own = expected.own[0].numpy()
        assert row.positive_share == pytest.approx(own.clip(min=0).sum() / np.abs(own).sum())


def test_predicted_is_the_answer_to_the_picture_alone(tmp_path):
    words = ("data.num_images=4", "target=predicted", "method=gae")
    guided = read(running.start(tmp_path / "guided", *WORDS, *words)).set_index("image_id")
    alone = read(running.start(tmp_path / "alone", *WORDS[:3], *words)).set_index("image_id")
    assert guided["target"].equals(alone.loc[guided.index, "prediction"].rename("target"))
    told = (tmp_path / "guided" / "report.html").read_text()
    assert "Beside the guide, the model predicts the label in" in told
    assert "Beside the guide" not in (tmp_path / "alone" / "report.html").read_text()
    # neither what is labelled as the guide's class nor what the model takes for it
    wrong = alone["prediction"].eq(SNAIL) | alone["label"].eq(SNAIL)
    assert wrong.any()
    assert set(guided.index) == set(alone.index[~wrong])


@pytest.mark.parametrize("answered", [0, 3])
def test_an_answer_of_the_guides_class_is_left_out(tmp_path, monkeypatch, answered):
    monkeypatch.setattr(
        "experiments.explain.answers",
        lambda _, items: [(item, SNAIL if n == answered else 0) for n, item in enumerate(items)],
    )
    words = ("data.num_images=4", "target=predicted", "method=gae")
    rows = read(running.start(tmp_path / "run", *WORDS, *words))
    labelled = {3}  # shows the guide's class itself
    kept = {0, 1, 2, 3} - labelled - {answered}
    assert set(rows["image_id"]) == {f"creature_pairs-0-{n}" for n in kept}


def test_photographs_take_a_guide_by_class(photographs, tmp_path):
    words = ("scale=sample", f"data.root={photographs}", "model.checkpoint=none", "method=gae")
    rows = read(running.start(tmp_path / "out", *WORDS, *words, "guide.image=zebra"))
    assert len(rows) == len(WNIDS)  # eight pictures, one of a zebra
    with pytest.raises(ValueError, match="guide.image shows 'zebra', which is to be explained"):
        running.start(tmp_path / "bad", *WORDS, *words, "guide.image=zebra", "target=zebra")
