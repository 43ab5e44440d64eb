"""Which pictures a figure shows, with their classes, masks and geometry."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny

from attnguide import wrap_model
from attnguide.config import DataConfig, GuideConfig
from attnguide.data import cases
from attnguide.data.case import Case
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.creatures.scenes import pair as scene_of_two
from attnguide.data.creatures.scenes import single as scene_of_one
from attnguide.data.guide_image import GuideImage
from attnguide.data.named_pictures import PAIRS, check_pictures, known_pairs, picture_cases
from attnguide.data.views import coverage, look, look_beside, nearest_fraction
from attnguide.models.preprocess import Preprocess

WNIDS = {"zebra": "n02391049", "snail": "n01944390", "tusker": "n01871265"}


@pytest.fixture(scope="module")
def creatures():
    """Knows the creatures; 4 x 4 patches of 24 pixels."""
    vit = tiny(num_classes=16, img_size=96, patch_size=24)
    return replace(vit, class_names=CLASS_NAMES)


@pytest.fixture(scope="module")
def imagenet():
    """Knows ImageNet's classes; 4 x 4 patches of 8 pixels."""
    vit = tiny(num_classes=1000, img_size=32, patch_size=8)
    return wrap_model(vit.module, Preprocess((32, 32)), name="tiny imagenet")


@pytest.fixture
def folder(tmp_path):
    """Two pictures of snails, one zebra, one tusker, each of one colour."""
    root = tmp_path / "data"
    for number, name in enumerate(("snail", "snail", "zebra", "tusker")):
        path = root / WNIDS[name] / f"{name}{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 40), (60 * number, 90, 10)).save(path)
    return DataConfig(name="folder", root=str(root))


def test_single_creatures_are_the_scenes_with_their_masks(creatures):
    found = cases.single_cases(creatures, DataConfig(seed=5, num_images=20))
    assert len(found) == 20
    scene, case = scene_of_one(5, 17, 1), found[17]
    assert case.names == ("thin-tailed fox",)
    assert case.targets == (1,)
    assert np.array_equal(np.asarray(case.picture), np.asarray(scene.to_pil()))
    assert np.array_equal(case.masks[0], scene.animal_masks[0].numpy())
    assert np.array_equal(case.parts[0], scene.part_masks[0].numpy())


def test_classes_are_left_out_and_counted(creatures, imagenet, folder):
    found = cases.single_cases(creatures, DataConfig(num_images=32), exclude=[6])
    assert len(found) == 30
    assert found.note == "Pictures of the guide's class that were left out: 2."
    assert 6 not in {found[n].targets[0] for n in range(30)}
    photographs = cases.single_cases(imagenet, folder, exclude=[imagenet.class_index("snail")])
    assert [photographs[n].names for n in range(2)] == [("tusker",), ("zebra",)]
    assert photographs.note.endswith("left out: 2.")


def test_shards_share_the_cases(creatures):
    for choose in (cases.single_cases, cases.pair_cases):
        parts = [
            choose(creatures, DataConfig(num_images=7, shard=n, num_shards=3)).ids for n in range(3)
        ]
        assert sum(parts, ()) == choose(creatures, DataConfig(num_images=7)).ids


def test_pairs_of_creatures_are_scenes_of_two(creatures):
    case = cases.pair_cases(creatures, DataConfig(seed=2, num_images=4))[3]
    scene = scene_of_two(2, 3)
    assert case.targets == scene.labels
    assert np.array_equal(case.masks[1], scene.animal_masks[1].numpy())


def test_photographs_without_a_folder_of_pairs_are_stitched(imagenet, folder, caplog):
    with caplog.at_level(logging.WARNING):
        shown = cases.shown_pairs(imagenet, folder, 2)
    assert "stitching" in caplog.text
    assert len(shown) == 2
    for case in shown:
        left, right = case.masks
        assert len(set(case.targets)) == 2
        assert (left.sum(1) == 16).all()
        assert np.array_equal(left, ~right)
        colours = np.asarray(case.picture)
        assert (
            len({tuple(c) for c in colours[left]}) == len({tuple(c) for c in colours[right]}) == 1
        )
    every = cases.pair_cases(imagenet, folder)
    assert all(len(set(every[n].names)) == 2 for n in range(len(every)))
    view = look(imagenet, shown[0])
    assert torch.equal(view.objects[0], torch.tensor([1.0, 1, 0, 0]).expand(4, 4))


def test_pictures_of_one_class_cannot_be_paired(imagenet, tmp_path):
    (tmp_path / WNIDS["snail"]).mkdir()
    for number in range(2):
        Image.new("RGB", (40, 40)).save(tmp_path / WNIDS["snail"] / f"{number}.png")
    with pytest.raises(ValueError, match="no two pictures of different classes"):
        cases.pair_cases(imagenet, DataConfig(name="folder", root=str(tmp_path)))


def test_known_pairs_bring_their_boxes(imagenet, folder, tmp_path):
    assert known_pairs(imagenet, folder) == []
    (tmp_path / "pairs").mkdir()
    Image.new("RGB", (100, 100)).save(tmp_path / "pairs" / "el2.png")
    (case,) = cases.shown_pairs(imagenet, folder, 3)
    assert case.targets == (386, 340)
    assert case.regions == "boxes"
    assert case.masks[1][42:90, 43:93].all()
    assert case.masks[1].sum() == 48 * 50


@pytest.mark.parametrize("name", PAIRS)
def test_boxes_of_known_pairs_do_not_overlap(name, imagenet, tmp_path):
    classes, boxes = PAIRS[name]
    Image.new("RGB", (100, 100)).save(tmp_path / name)
    entry = {"file": str(tmp_path / name), "classes": classes, "boxes": boxes}
    (case,) = picture_cases(imagenet, [entry])
    first, second = case.masks
    assert not (first & second).any()
    assert min(first.mean(), second.mean()) > 0.05


def test_classes_that_the_data_lack_are_named(imagenet, folder, caplog):
    with caplog.at_level(logging.WARNING):
        shown = cases.shown_singles(imagenet, folder, ["zebra", "bald eagle", "kite"])
    assert [case.names[0] for case in shown] == ["zebra"]
    assert "no picture of bald eagle, kite" in caplog.text
    others = cases.shown_singles(imagenet, folder, ["bald eagle", "kite"])
    assert len({case.targets for case in others}) == 2
    with pytest.raises(ValueError, match=r"'unicorn'.*'griffin'"):
        cases.shown_singles(imagenet, folder, ["unicorn", "zebra", "griffin"])


def test_the_users_pictures_are_refused_all_at_once(tmp_path):
    here = tmp_path / "here.png"
    Image.new("RGB", (9, 9)).save(here)

    def entry(file, *classes):
        return {"file": str(file), "classes": list(classes)}

    with pytest.raises(FileNotFoundError, match=r"2 of 3 .*one\.png, .*two\.png; mend"):
        check_pictures([entry("one.png", "a"), entry(here, "a"), entry("two.png", "b")])
    with pytest.raises(ValueError, match="must differ, got zebra, zebra"):
        check_pictures([entry(here, "zebra", "Zebra")], 2)
    with pytest.raises(ValueError, match="needs 2 classes"):
        check_pictures([entry(here, "zebra")], 2)
    with pytest.raises(ValueError, match="file: PATH"):
        check_pictures([{"path": "x", "classes": ["zebra"]}])


def test_one_class_by_two_names_is_refused(imagenet, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    entry = {"file": str(tmp_path / "a.png"), "classes": ["zebra", "340"]}
    with pytest.raises(ValueError, match=r"a\.png must differ"):
        picture_cases(imagenet, [entry])


def test_masks_follow_the_picture_through_resize_and_crop(imagenet):
    cropped = replace(imagenet, preprocess=Preprocess((32, 32), crop_pct=0.8))
    mask = np.zeros((80, 120), dtype=bool)
    mask[:, 60:] = True
    picture = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB")
    view = look(cropped, Case("a", picture, (1,), ("x",), (mask,)))
    bright = cropped.preprocess.denormalize(view.image).mean(0) > 0.5
    assert torch.equal(view.objects[0], coverage(bright, (4, 4)))
    assert view.objects[0].mean() == pytest.approx(0.5, abs=0.02)


def test_small_pictures_are_upscaled_and_say_so(imagenet, caplog):
    with caplog.at_level(logging.INFO):
        view = look(imagenet, Case("small", Image.new("RGB", (20, 60)), (1,), ("x",)))
    assert view.note == "upscaled from 20 x 60 pixels"
    assert "small: upscaled" in caplog.text
    assert view.image.shape == (3, 32, 32)
    assert look(imagenet, Case("large", Image.new("RGB", (90, 60)), (1,), ("x",))).note == ""


def test_a_guide_takes_its_part_and_the_mask_moves_along(creatures):
    case = cases.single_cases(creatures, DataConfig(num_images=3))[0]
    full = replace(case, masks=(np.ones((96, 96), dtype=bool),))
    guide = GuideImage(Image.new("RGB", (50, 50), (255, 0, 0)), 9, "red")
    view = look_beside(creatures, full, guide, GuideConfig(layout="top", fraction=0.25))
    expected = torch.ones(4, 4)
    expected[0] = 0
    assert torch.equal(view.own, expected)
    assert torch.equal(view.objects[0], expected)
    assert view.kind == "top 0.25 squash"
    red = creatures.preprocess.denormalize(view.image)[:, :24]
    assert red[0].min() > 0.99
    assert red[1:].max() < 0.01
    with pytest.raises(ValueError, match="shows the class"):
        look_beside(creatures, case, replace(guide, label=case.targets[0]), GuideConfig())


def test_a_composed_scene_has_the_case_and_the_other_class(creatures):
    data = DataConfig(num_images=3)
    case = cases.single_cases(creatures, data)[2]
    composed = cases.composed_case(creatures, data, case, 9)
    assert composed.id == f"{case.id}@composed"
    assert composed.targets == case.targets
    assert composed.names == (CLASS_NAMES[2], CLASS_NAMES[9])
    assert len(composed.masks) == 2


def test_fractions_move_to_patch_borders(creatures):
    assert [nearest_fraction(creatures, "right", f) for f in (0.01, 0.3, 0.7, 0.99)] == [
        0.25,
        0.25,
        0.75,
        0.75,
    ]
