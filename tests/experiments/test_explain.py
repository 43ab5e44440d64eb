"""A folder of the user's own pictures becomes panels, raw maps and a table."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from running import load_maps, start

from attnguide import explain, load_model, stitch
from attnguide.data.creatures.scenes import CLASS_NAMES, guide, pair
from attnguide.evaluation.rows import explanation_rows
from attnguide.figures.explained import one_per_class
from attnguide.models.reader import UnreadableImage
from attnguide.store.maps import picture_file, relevance_of
from attnguide.store.table import read
from attnguide.types import Explanation
from experiments.explain import PANELS

FOX, SNAIL, EAGLE, FISH = 0, 6, 8, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two class-named folders, pictures of a size that is not the model's, and a broken one."""
    root = tmp_path_factory.mktemp("pictures")
    for number, label in enumerate((FOX, FOX, EAGLE)):
        path = root / CLASS_NAMES[label] / f"own {number}.png"
        path.parent.mkdir(exist_ok=True)
        pair(3, number, (label, FISH)).to_pil().resize((150, 120)).save(path)
    (root / CLASS_NAMES[EAGLE] / "broken.jpg").write_bytes(b"\xff\xd8 not much of a picture")
    return root


WORDS = ["experiment=explain", "device=cpu", "batch_size=2", "runner.overview=1"]


def words_of(root, *more):
    return [*WORDS, "data=folder", f"data.root='{root}'", *more]


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    return start(tmp_path_factory.mktemp("runs") / "whole", *words_of(folder))


def ids(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*.png"))


def test_raw_maps_are_those_of_the_library(finished, folder):
    vit = load_model("creatures")
    maps = load_maps(finished)
    assert len(maps) == 6
    for name in ids(folder):
        target = CLASS_NAMES.index(name.split("/")[0])
        images = vit.preprocess(Image.open(folder / name).convert("RGB"))
        for method in ("complete", "gae"):
            expected = explain(vit, images, target, method=method).relevance[0].numpy()
            np.testing.assert_allclose(
                maps[f"{method}|{name}|{target}"], expected, rtol=1e-4, atol=1e-7
            )


def test_summary_tells_target_prediction_and_probability(finished, folder):
    table = pd.read_csv(finished / "summary.csv")
    assert table["image_id"].tolist() == [name for name in ids(folder) for _ in range(2)]
    assert table["method"].tolist() == ["complete", "gae"] * 3
    assert table["label"].tolist() == table["target"].tolist()
    vit = load_model("creatures")
    for row in table.itertuples():
        images = vit.preprocess(Image.open(folder / row.image_id).convert("RGB"))
        logits = vit.module(images)[0].detach()
        assert row.probability == pytest.approx(float(logits.softmax(0)[row.target]), rel=1e-4)
        assert row.logit == pytest.approx(float(logits[row.target]), rel=1e-4)
        assert row.prediction == int(logits.argmax())
        assert row.prediction_name == CLASS_NAMES[row.prediction]
        assert row.target_name == CLASS_NAMES[row.target]
    assert (table.loc[table["method"] == "gae", "positive_share"] == 1).all()


def test_every_picture_has_a_panel_and_the_broken_one_is_named(finished, folder):
    panels = {picture_file(finished, name, PANELS) for name in ids(folder)}
    assert set((finished / "panels").iterdir()) == panels
    sizes = []
    for panel in panels:
        with Image.open(panel) as picture:
            sizes.append(picture.size)
            colours = np.asarray(picture.convert("RGB")).astype(int)
        assert ((colours[..., 0] - colours[..., 2]) > 100).any()  # red of a map
    assert min(width for width, _ in sizes) > 800
    broken = f"{CLASS_NAMES[EAGLE]}/broken.jpg"
    assert json.loads((finished / "provenance.json").read_text())["skipped"] == [broken]
    assert f"Skipped, because unreadable (1): {broken}." in (finished / "report.html").read_text()
    for name in ("config.yaml", "results.parquet", "figure.png", "figure.pdf", "maps.npz"):
        assert (finished / name).is_file()


def test_redrawn_without_model_and_pictures(finished, no_models, monkeypatch):
    monkeypatch.delattr("attnguide.data.photographs.find_photographs")
    before = {p.name: p.read_bytes() for p in finished.iterdir() if p.suffix in (".png", ".csv")}
    panel = next((finished / "panels").iterdir())
    expected = panel.read_bytes()
    for path in (panel, finished / "maps.npz", finished / "figure.png", finished / "summary.csv"):
        path.unlink()
    start(finished, "stage=draw")
    assert panel.read_bytes() == expected
    assert len(load_maps(finished)) == 6
    assert {name: (finished / name).read_bytes() for name in before} == before


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("target", ["star-marked fish", str(FISH)])
def test_target_by_name_or_index_needs_no_labels(folder, tmp_path, target):
    one = next((folder / CLASS_NAMES[FOX]).iterdir())
    start(tmp_path / "run", *words_of(one, f"target={target}", "method=complete"))
    assert list(load_maps(tmp_path / "run")) == [f"complete|{one.name}|{FISH}"]
    assert read(tmp_path / "run")["label"].isna().all()


@pytest.mark.usefixtures("undrawn")
def test_without_a_folder_scenes_of_creatures_are_explained(tmp_path):
    start(tmp_path / "run", *WORDS, "target=predicted", "method=complete", "data.num_images=1")
    rows = read(tmp_path / "run")
    assert rows["image_id"].tolist() == ["creature_pairs-0-0"]
    assert rows["target"].tolist() == rows["prediction"].tolist()
    start(tmp_path / "more", *WORDS, "method=complete")
    assert read(tmp_path / "more")["image_id"].nunique() == 8


@pytest.mark.usefixtures("undrawn")
def test_a_guide_beside_the_picture_is_explained_with_it(folder, tmp_path):
    one = next((folder / CLASS_NAMES[FOX]).iterdir())
    words = words_of(one, f"target={FISH}", "method=complete", "guide=right")
    start(tmp_path / "run", *words)
    [relevance] = load_maps(tmp_path / "run").values()
    vit = load_model("creatures")
    own, beside = (
        vit.preprocess.normalize(picture)
        for picture in (Image.open(one).convert("RGB"), guide(SNAIL).to_pil())
    )
    images, _ = stitch(own.unsqueeze(0), beside, patch_size=vit.patch_size, size=vit.image_size)
    expected = explain(vit, images, FISH).relevance[0].numpy()
    np.testing.assert_allclose(relevance, expected, rtol=1e-3, atol=1e-6)


def test_labels_that_are_missing_are_asked_for_before_weights_are_loaded(
    folder, tmp_path, no_models
):
    with pytest.raises(ValueError, match=r"no label, such as own 0.png .*target=predicted"):
        start(tmp_path / "run", *words_of(folder / CLASS_NAMES[FOX]))


def test_broken_picture_is_refused_if_asked_for(folder, tmp_path):
    words = words_of(folder, "data.on_error=raise", "data.workers=1")
    with pytest.raises(UnreadableImage, match=r"eagle/broken.jpg: not a picture"):
        start(tmp_path / "run", *words)


def test_nothing_readable_is_an_error(folder, tmp_path):
    broken = folder / CLASS_NAMES[EAGLE] / "broken.jpg"
    with pytest.raises(ValueError, match="no picture could be read; see the reasons above"):
        start(tmp_path / "run", *words_of(broken, "target=predicted"))


def test_rows_hold_the_map_and_its_signed_share(tiny_vit):
    relevance = torch.tensor([[[3.0, -1.0], [0.0, 0.0]]])
    logits = torch.tensor([[0.0, 2.0, 1.0, 0.0, 0.0]])

    given = Explanation(relevance, torch.tensor([2]), logits, "complete")
    zero = Explanation(0 * relevance, torch.tensor([2]), logits, "gae")
    rows = explanation_rows(tiny_vit, {"complete": given, "gae": zero}, ["a"], [None])
    first, second = rows.itertuples()
    assert relevance_of(first).tolist() == [[3.0, -1.0], [0.0, 0.0]]
    assert (first.positive_share, first.largest) == (0.75, 3.0)
    assert np.isnan(second.positive_share)
    assert (first.target_name, first.prediction_name) == ("class 2", "class 1")
    assert first.probability == pytest.approx(np.exp(1) / (np.exp([0, 2, 1, 0, 0]).sum()))


def test_the_overview_shows_one_picture_of_each_class_first():
    def rows(label, target="x"):
        return pd.DataFrame({"label_name": [label], "target_name": [target]})

    labelled = [("a1", rows("a")), ("a2", rows("a")), ("a3", rows("a")), ("b1", rows("b"))]
    for count, names in ((1, ["a1"]), (2, ["a1", "b1"]), (3, ["a1", "a2", "b1"]), (9, None)):
        shown = [name for name, _ in one_per_class(labelled, count)]
        assert shown == (names or ["a1", "a2", "a3", "b1"])
    bare = [("1", rows("", "fox")), ("2", rows("", "fox")), ("3", rows("", "hare"))]
    assert [name for name, _ in one_per_class(bare, 2)] == ["1", "3"]


def test_no_two_pictures_share_a_file(tmp_path):
    names = ["a/b.png", "a_b.png", "a b.png", "ä/b.png", "b.png", "a/b.png|1"]
    files = {picture_file(tmp_path, name, PANELS) for name in names}
    assert len(files) == len(names)
    assert all(file.parent == tmp_path / "panels" for file in files)
    assert picture_file(tmp_path, "../../x", PANELS).parent == tmp_path / "panels"
