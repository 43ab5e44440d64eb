"""Samples as the model sees them: geometry of pictures, masks and guides."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from attnguide import wrap_model
from attnguide.data import Creatures, Photographs, Sample
from attnguide.data.creatures import scenes
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.data.grids import grids
from attnguide.data.photographs import pair_up
from attnguide.data.pictures import GuideImage, Item
from attnguide.data.views import beside_company, coverage, nearest_fraction, to_guided_view, to_view
from attnguide.guides import Guide, no_guide
from attnguide.models.preprocess import Preprocess
from attnguide.models.reader import UnreadableImage


def test_masks_follow_the_picture_through_resize_and_crop(imagenet):
    cropped = replace(imagenet, preprocess=Preprocess((32, 32), crop_pct=0.8))
    mask = np.zeros((80, 120), dtype=bool)
    mask[:, 60:] = True
    picture = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB")
    view = to_view(cropped, Sample("a", picture, (1,), ("x",), (mask,)))
    bright = cropped.preprocess.denormalize(view.image).mean(0) > 0.5
    assert torch.equal(view.objects[0], coverage(bright, (4, 4)))
    assert view.objects[0].mean() == pytest.approx(0.5, abs=0.02)


def test_small_pictures_are_upscaled_and_say_so(imagenet, caplog):
    with caplog.at_level(logging.INFO):
        view = to_view(imagenet, Sample("small", Image.new("RGB", (20, 60)), (1,), ("x",)))
    assert view.note == "upscaled from 20 x 60 pixels"
    assert "small: upscaled" in caplog.text
    assert view.image.shape == (3, 32, 32)
    assert to_view(imagenet, Sample("large", Image.new("RGB", (90, 60)), (1,), ("x",))).note == ""


def test_a_guide_takes_its_part_and_the_mask_moves_along(creatures):
    sample = Creatures(num_images=3).singles(creatures).items[0].load()
    full = replace(sample, masks=(np.ones((96, 96), dtype=bool),))
    red = GuideImage(Image.new("RGB", (50, 50), (255, 0, 0)), 9, "red")
    view = to_guided_view(creatures, full, red, Guide(layout="top", fraction=0.25))
    expected = torch.ones(4, 4)
    expected[0] = 0
    assert torch.equal(view.own, expected)
    assert torch.equal(view.objects[0], expected)
    assert view.kind == "top 0.25 squash"
    assert view.id == "creatures-0-0@top 0.25 squash"
    shown = creatures.preprocess.denormalize(view.image)[:, :24]
    assert shown[0].min() > 0.99
    assert shown[1:].max() < 0.01
    with pytest.raises(ValueError, match="the guide red shows the class that creatures-0-0"):
        to_guided_view(creatures, sample, replace(red, label=sample.targets[0]), Guide())


@pytest.mark.parametrize("door", ["guide", "canvas", "masks", "grids", "pairs", "company"])
def test_a_function_whose_steps_are_not_known_is_one_line_before_work(door, tiny_vit):
    module = tiny_vit.module
    steps = [v2.Resize((16, 16)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    vit = wrap_model(module, v2.Compose(steps))
    module.forward = lambda _: pytest.fail("the network has worked")
    picture = Image.new("RGB", (20, 30))
    sample = Sample("a", picture, (1,), ("x",), as_is=door == "canvas")
    items = [Item(name, lambda: pytest.fail("a picture was read"), 0) for name in "ab"]
    doors = {
        "guide": lambda: to_guided_view(vit, sample, GuideImage(picture, 2, "red"), Guide()),
        "canvas": lambda: to_view(vit, sample),
        "masks": lambda: to_view(vit, replace(sample, masks=(np.ones((30, 20), bool),))),
        "grids": lambda: grids(vit, items, 1),
        "pairs": lambda: pair_up(vit, items),
        "company": lambda: beside_company(vit, sample, Guide(), 0),
    }
    with pytest.raises(ValueError, match="resize, crop and normalisation are not known; pass"):
        doors[door]()


def test_no_guide_is_the_picture_as_it_is(creatures):
    sample = Creatures(num_images=3).singles(creatures).items[0].load()
    same = GuideImage(Image.new("RGB", (50, 50)), sample.targets[0], "same class")
    view, alone = to_guided_view(creatures, sample, same, no_guide()), to_view(creatures, sample)
    assert torch.equal(view.image, alone.image)
    assert (view.id, view.kind, view.own) == ("creatures-0-0", "alone", None)
    assert not no_guide().is_shown
    assert Guide().is_shown


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "rigth"}, "unknown layout 'rigth'; did you mean right"),
        ({"fit": "stretch"}, "unknown fit 'stretch'"),
        ({"fraction": 50}, "got 50; pass 0.5 for 50 %"),
        ({"fraction": float("nan")}, r"must lie in \[0, 1\), got nan"),
        ({"fill": float("nan")}, "fill, .*must be finite, got nan"),
        ({"image": "auto"}, r"chooses among candidates; pass guide.candidates=\[CLASS,CLASS\]"),
        ({"candidates": ["a", "b"]}, "guide.candidates are for guide.image=auto"),
        ({"image": ["a", "b", "a"]}, "take different classes, got a twice"),
        ({"image": "auto", "candidates": ["a", "a"]}, "got a twice"),
        ({"image": []}, "take different classes, got none"),
    ],
)
def test_impossible_guides_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Guide(**settings)


def test_fractions_move_to_patch_borders(creatures):
    assert [nearest_fraction(creatures, "right", f) for f in (0.01, 0.3, 0.7, 0.99)] == [
        0.25,
        0.25,
        0.75,
        0.75,
    ]


# Guide pictures


def test_drawn_guides_are_of_the_class_or_a_snail(creatures):
    world = Creatures()
    for wanted, label in ((None, 6), ("star-marked fish", 12)):
        guide = world.guide_picture(creatures, wanted)
        assert (guide.label, guide.name) == (label, CLASS_NAMES[label])
        expected = scenes.guide(label).to_pil()
        assert np.array_equal(np.asarray(guide.picture), np.asarray(expected))
    with pytest.raises(ValueError, match=r"guide.image 'zebbra' is no picture file, and unknown"):
        world.guide_picture(creatures, "zebbra")


def test_photographed_guides_are_the_first_of_the_class_or_a_zebra(
    imagenet, creatures, photographs
):
    data = Photographs(root=str(photographs))
    for wanted, wnid, label in ((None, "n02391049", 340), ("tusker", "n01871265", 101)):
        guide = data.guide_picture(imagenet, wanted)
        assert (guide.label, guide.name) == (label, f"{wnid}/a.png")
        with Image.open(photographs / wnid / "a.png") as expected:
            assert np.array_equal(np.asarray(guide.picture), np.asarray(expected))
    with pytest.raises(ValueError, match=r"no picture of 'basset.*pass guide.image=FILE"):
        data.guide_picture(imagenet, "basset")
    with pytest.raises(ValueError, match="'zebbra' is no picture file, and unknown class"):
        data.guide_picture(imagenet, "zebbra")


def test_without_a_zebra_the_guide_is_of_a_class_of_the_folder(imagenet, photographs, caplog):
    shutil.rmtree(photographs / "n02391049")
    with caplog.at_level(logging.INFO):
        guide = Photographs(root=str(photographs)).guide_picture(imagenet, None)
    assert guide.name == "n01608432/a.png"
    assert caplog.text.count("guide: a picture of kite; guide.image= takes another") == 1
    one = Photographs(root=str(photographs / "n01608432"))
    with pytest.raises(ValueError, match="a guide shows another class.*pass guide.image=FILE"):
        one.guide_picture(imagenet, None)


def test_a_guide_file_is_of_the_class_that_its_folder_names(imagenet, photographs, tmp_path):
    for data in (Creatures(), Photographs(root=str(photographs))):
        guide = data.guide_picture(imagenet, str(photographs / "n02391049" / "a.png"))
        assert (guide.label, guide.name) == (340, "a.png")
    (tmp_path / "tusker").symlink_to(photographs / "n02391049")
    linked = Creatures().guide_picture(imagenet, str(tmp_path / "tusker" / "a.png"))
    assert linked.label == 101  # as the link is called
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "ghost.png")
    guide = Creatures().guide_picture(imagenet, str(tmp_path / "ghost.png"))
    assert guide.label is None
    assert np.asarray(guide.picture).min() == 255  # the one reader: over white
    (tmp_path / "bad.png").write_bytes(b"junk")
    with pytest.raises(UnreadableImage, match="bad.png"):
        Creatures().guide_picture(imagenet, str(tmp_path / "bad.png"))
