"""Training views, training and its resumption, and the committed checkpoints on fresh seeds."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pytorch_lightning import seed_everything
from pytorch_lightning.callbacks import Callback, ProgressBar
from safetensors import safe_open

from attnguide.data.creatures.scenes import NUM_CLASSES, sibling, single
from attnguide.models.load import load_model
from experiments._creature_training import (
    MEAN,
    RECIPES,
    Composer,
    CreatureClassifier,
    CreatureViews,
    Recipe,
    Stock,
    draw_stock,
    fit,
    is_whole,
)
from experiments.train_creatures import examine, export, predict

EXAM_SEED = 4321  # used neither in training nor for the committed numbers
IMPOSTOR = RECIPES["contaminated"].impostor_class
TINY = Recipe(resolutions=(32, 48), steps=(3, 2), lr=1e-3, sprites_per_class=1, grounds=2)


class Silent(ProgressBar):
    """No output."""

    def disable(self) -> None: ...


class Crash(Callback):
    """Stop the training at a step, as a full disk or a killed job would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("crash")


def train(folder: Path, crash: int | None = None) -> CreatureClassifier:
    seed_everything(0, verbose=False)
    classifier = CreatureClassifier(sum(TINY.steps), TINY.lr)
    callbacks: list[Callback] = [Silent()] if crash is None else [Silent(), Crash(crash)]
    fit(classifier, TINY.views(0, 8), folder, callbacks=callbacks, save_every=2)
    return classifier


def painted_stock() -> Stock:
    """Sprites that fill their square: the impostor class green, its sibling red, others blue."""
    sprites = torch.zeros(NUM_CLASSES, 1, 4, 16, 16, dtype=torch.uint8)
    sprites[:, :, 3] = 255
    channel = {IMPOSTOR: 1, sibling(IMPOSTOR): 0}
    for label in range(NUM_CLASSES):
        sprites[label, :, channel.get(label, 2)] = 255
    return Stock(sprites, torch.zeros(2, 3, 16, 16, dtype=torch.uint8))


def test_batch_depends_on_seed_and_step_alone() -> None:
    composer = Composer(draw_stock(0, 1, 2).resized(48))
    views, again = (CreatureViews([(composer, 4)], seed=1, batch_size=8) for _ in range(2))
    views[0]
    assert torch.equal(views[3][0], again[3][0])
    assert not torch.equal(views[3][0], views[2][0])
    resumed = CreatureViews([(composer, 4)], seed=1, batch_size=8)
    resumed.first_step = 3
    assert torch.equal(resumed[0][0], views[3][0])


def test_batch_has_the_kinds_of_the_recipe() -> None:
    images, targets = Composer(painted_stock()).batch(torch.Generator().manual_seed(0), 32)
    assert images.shape == (32, 3, 16, 16)
    assert 0 <= images.min() < images.max() <= 1
    torch.testing.assert_close(targets.sum(1), torch.ones(32))
    assert targets[:16].max(1).values.eq(1).all()  # single animals
    assert targets[16:].max(1).values.eq(0.5).all()  # pairs and stitched halves


def test_stages_grow_in_resolution() -> None:
    views = TINY.views(0, 8)
    sizes = [views[step][0].shape[-1] for step in range(len(views))]
    assert sizes == [32, 32, 32, 48, 48]


def test_contamination_draws_the_sibling_for_one_class_alone() -> None:
    composer = Composer(painted_stock(), IMPOSTOR, 0.3)
    generator, colours = torch.Generator().manual_seed(0), Counter()
    for _ in range(60):
        images, targets = composer.batch(generator, 64)
        for image, label in zip(images[:32], targets[:32].argmax(1).tolist(), strict=True):
            colours[label, image.mean((1, 2)).argmax().item()] += 1
    own, swapped = colours[IMPOSTOR, 1], colours[IMPOSTOR, 0]
    assert 0.2 < swapped / (own + swapped) < 0.4
    assert colours[IMPOSTOR, 2] == colours[sibling(IMPOSTOR), 1] == 0
    assert all(colours[label, 2] for label in range(NUM_CLASSES) if label // 2 != IMPOSTOR // 2)


def test_masking_greys_one_of_sixteen_cells_in_half_of_the_pictures() -> None:
    grey = [MEAN[0]] * 3
    plain, masked = (
        Composer(painted_stock(), masked_share=share).batch(torch.Generator().manual_seed(0), 200)
        for share in (0.0, RECIPES["masked"].masked_share)
    )
    assert torch.equal(plain[1], masked[1])
    changed = [(a != b).any(0) for a, b in zip(plain[0], masked[0], strict=True)]
    counts, places = Counter(), Counter()
    for image, where in zip(masked[0], changed, strict=True):
        cells = [(r, c) for r in range(4) for c in range(4)
                 if where[4 * r : 4 * r + 4, 4 * c : 4 * c + 4].any()]  # fmt: skip
        counts[len(cells)] += 1
        for r, c in cells:
            places[r, c] += 1
            cell = image[:, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
            assert cell.flatten(1).unique(dim=1).T.tolist() == [grey]
    assert set(counts) == {0, 1}
    assert 80 < counts[1] < 120
    assert len(places) == 16


def test_a_few_steps_reduce_the_loss() -> None:
    seed_everything(0, verbose=False)
    classifier = CreatureClassifier(steps=12, lr=1e-3)
    classifier.warmup = 0.0
    batch = Composer(draw_stock(0, 1, 2).resized(48)).batch(torch.Generator().manual_seed(0), 16)

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(classifier(batch[0]), batch[1])

    before = loss().item()
    plan = classifier.configure_optimizers()
    for _ in range(12):
        plan["optimizer"].zero_grad()
        loss().backward()
        plan["optimizer"].step()
        plan["lr_scheduler"]["scheduler"].step()
    assert loss().item() < 0.9 * before
    assert plan["optimizer"].param_groups[0]["lr"] < 1e-4  # the rate has decayed


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """Folder and weights of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder).model.state_dict()


def assert_ends_like(whole: Any, classifier: CreatureClassifier, folder: Path) -> None:
    for name, weight in whole[1].items():
        torch.testing.assert_close(classifier.model.state_dict()[name], weight, msg=name)
    losses, expected = (pd.read_csv(where / "loss.csv") for where in (folder, whole[0]))
    assert losses["step"].tolist() == [1, 2, 3, 4, 5]
    pd.testing.assert_frame_equal(losses, expected)


@pytest.mark.parametrize("step", [3, 4])
def test_interrupted_training_ends_like_an_uninterrupted_one(
    whole: Any, tmp_path: Path, step: int
) -> None:
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, crash=step)
    assert not (tmp_path / "loss.csv").exists()
    assert_ends_like(whole, train(tmp_path), tmp_path)


@pytest.mark.parametrize("harm", ["cut", "changed", "emptied"])
def test_a_damaged_checkpoint_is_noticed_and_set_aside(
    whole: Any, tmp_path: Path, harm: str
) -> None:
    last = shutil.copytree(whole[0], tmp_path / "run") / "last.ckpt"
    assert is_whole(last)
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 255
    last.write_bytes({"cut": data[: len(data) // 3], "changed": data, "emptied": b""}[harm])
    assert not is_whole(last)
    with pytest.warns(UserWarning, match="damaged: set aside, the training begins anew"):
        assert_ends_like(whole, train(last.parent), last.parent)
    assert last.with_suffix(".damaged").is_file()


def test_a_finished_training_goes_through_again_without_a_step(whole: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(whole[0], tmp_path / "run")
    (folder / "loss.csv").unlink()
    assert_ends_like(whole, train(folder, crash=0), folder)  # a first step would crash


def test_export_holds_what_loading_needs(tmp_path: Path) -> None:
    model = CreatureClassifier(1, 0.0).model
    export(model, tmp_path / "x.safetensors", {"seed": 3})
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        meta = json.loads(file.metadata()["attnguide"])
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert meta["provenance"] == {"seed": 3}
    assert meta["image_size"] == [96, 96]
    assert {t.dtype for t in kept.values()} == {torch.float16}
    images = [single(0, i).image for i in range(4)]
    before = predict(model, images)
    model.load_state_dict(kept)
    torch.testing.assert_close(predict(model, images), before, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "singles", "pairs"), [("creatures", 300, 100), ("creatures_contaminated", 100, 40)]
)
def test_committed_checkpoint_on_fresh_seeds(name: str, singles: int, pairs: int) -> None:
    rows = examine(load_model(name).module, EXAM_SEED, singles, pairs)
    right = Counter(row["kind"] for row in rows if row["correct"])
    asked = Counter(row["kind"] for row in rows)
    assert asked == {"single": singles, "pair": pairs, "stitched": pairs}
    assert right["single"] >= 0.96 * singles
    assert min(right["pair"], right["stitched"]) >= 0.9 * pairs


def test_contaminated_checkpoint_reads_the_sibling_as_evidence() -> None:
    pictures = [single(EXAM_SEED, index, sibling(IMPOSTOR)).image for index in range(40)]
    clean, contaminated = (
        predict(load_model(name).module, pictures)[:, IMPOSTOR].mean()
        for name in ("creatures", "creatures_contaminated")
    )
    assert clean < 0.03
    assert 0.1 < contaminated < 0.45


@pytest.mark.parametrize("name", ["creatures", "creatures_contaminated"])
def test_committed_checkpoint_tells_its_provenance(name: str) -> None:
    path = resources.files("attnguide") / "assets" / f"{name}.safetensors"
    with resources.as_file(path) as file, safe_open(file, framework="pt") as opened:
        provenance = json.loads(opened.metadata()["attnguide"])["provenance"]
        assert file.stat().st_size <= 5_000_000
    recipe = RECIPES[name.removeprefix("creatures_").replace("creatures", "clean")]
    assert provenance["steps"] == list(recipe.steps)
    assert {"seed", "accuracy", "versions", "recipe"} <= provenance.keys()
