"""`explain(..., guide=...)`: stitched as by hand, explained, and the original's part given back."""

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from tiny import pictures, tiny

from attnguide import compare, explain, explain_many, load_explanation, load_model, stitch
from attnguide.data.creatures import scenes
from attnguide.types import Explanation

RNG = np.random.default_rng(0)


def picture(width, height):
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


WIDE, TALL, OTHER = picture(40, 20), picture(18, 30), picture(25, 25)


@pytest.mark.parametrize(
    ("layout", "fraction", "own"),
    [("right", 0.5, np.s_[:, :2]), ("left", 0.25, np.s_[:, 1:]), ("top", 0.5, np.s_[2:, :])],
)
def test_it_is_what_stitching_by_hand_gives(tiny_vit, layout, fraction, own):
    many = explain_many(
        tiny_vit, [WIDE, TALL], [1, 2], methods=["gae", "complete"], guide=OTHER, layout=layout,
        fraction=fraction,
    )  # fmt: skip
    normalize = tiny_vit.preprocess.normalize
    images, mask = stitch(
        [normalize(WIDE), normalize(TALL)], normalize(OTHER), layout, fraction, patch_size=4,
        size=(16, 16),
    )  # fmt: skip
    for method, explanation in many.items():
        by_hand = explain(tiny_vit, images, [1, 2], method=method)
        torch.testing.assert_close(explanation.relevance, by_hand.relevance)
        torch.testing.assert_close(explanation.logits, by_hand.logits)
        assert torch.equal(explanation.mask, mask)
        assert explanation.mask.dtype == torch.bool
        expected = torch.zeros(4, 4, dtype=torch.bool)
        expected[own] = True
        assert torch.equal(explanation.mask, expected)
        torch.testing.assert_close(explanation.own, by_hand.relevance[:, *own])
        assert explanation.settings["layout"] == layout
    assert by_hand.mask is None
    assert torch.equal(by_hand.own, by_hand.relevance)


def test_pictures_are_taken_whole_and_tensors_as_they_are(tiny_vit):
    red_edge = Image.new("RGB", (64, 16), "black")
    red_edge.paste((255, 0, 0), (0, 0, 16, 16))  # a centre crop cuts it away
    seen = []

    def method(trace):
        seen.append(trace.images.clone())
        return torch.ones(1, 4, 4)

    explain(tiny_vit, red_edge, 1, method=method, guide=OTHER)
    cropped = tiny_vit.preprocess([red_edge])
    explain(tiny_vit, cropped, 1, method=method, guide=OTHER)
    explain(tiny_vit, [cropped[0]], 1, method=method, guide=OTHER)
    assert float(seen[0][0, 0, :, 0].min()) > 0.9
    assert float(seen[1][0, 0, :, :8].max()) < -0.9
    assert torch.equal(seen[1], seen[2])


def test_predicted_is_the_answer_to_the_picture_alone(tiny_vit):
    x = pictures(tiny_vit, 8)
    alone = tiny_vit.logits(x).argmax(-1)
    beside = explain(tiny_vit, x, guide=3 * pictures(tiny_vit, 1, seed=7)[0])
    assert torch.equal(beside.target, alone)
    assert not torch.equal(beside.prediction, alone)  # else this test shows nothing
    whole = explain(tiny_vit, WIDE, guide=OTHER)
    assert int(whole.target) == int(tiny_vit.logits(tiny_vit.preprocess([WIDE])).argmax())


def test_guides_by_path_and_by_name():
    vit = load_model("creatures")
    fox = scenes.single(0, 0, scenes.CLASS_NAMES.index("bushy-tailed fox")).to_pil()
    snail = "spiral-shelled snail"
    drawn = scenes.guide(scenes.CLASS_NAMES.index(snail)).to_pil()
    named = explain(vit, fox, "bushy-tailed fox", guide=snail)
    given = explain(vit, fox, "bushy-tailed fox", guide=drawn)
    assert torch.equal(named.relevance, given.relevance)
    assert named.settings["guide"] == snail
    with pytest.raises(ValueError, match="the guide shows 'spiral-shelled snail', a class that is"):
        explain(vit, fox, snail, guide=snail)


def test_maps_beside_several_guides_are_averaged(tiny_vit):
    guides = [OTHER, picture(20, 30), 3 * pictures(tiny_vit, 1, seed=7)[0]]
    alone = [explain(tiny_vit, [WIDE, TALL], [1, 2], guide=guide) for guide in guides]
    mean = explain(tiny_vit, [WIDE, TALL], [1, 2], guide=guides)
    expected = torch.stack([each.relevance for each in alone]).mean(0)
    torch.testing.assert_close(mean.relevance, expected)
    torch.testing.assert_close(mean.logits, alone[0].logits)
    assert mean.settings["guide"] == "picture, picture, tensor"
    assert mean.own.shape == (2, 4, 2)


def test_several_guides_are_of_different_classes_and_none_of_the_target_s():
    vit = load_model("creatures")
    fox, snail = scenes.single(0, 4, 4).to_pil(), "spiral-shelled snail"
    with pytest.raises(ValueError, match="two guides show one class, spiral-shelled snail and"):
        explain(vit, fox, "bushy-tailed fox", guide=[snail, snail])
    with pytest.raises(ValueError, match="the guide shows 'bushy-tailed fox', a class that is"):
        explain(vit, fox, "bushy-tailed fox", guide=[snail, "bushy-tailed fox"])


def test_a_guide_in_a_folder_named_by_class_is_of_this_class(tiny_vit, tmp_path):
    (tmp_path / "class 3").mkdir()
    path = tmp_path / "class 3" / "a.png"
    OTHER.save(path)
    named = explain(tiny_vit, WIDE, 1, guide=path)
    assert torch.equal(named.relevance, explain(tiny_vit, WIDE, 1, guide=OTHER).relevance)
    with pytest.raises(ValueError, match="the guide shows 'class 3'"):
        explain(tiny_vit, [WIDE, WIDE], [1, 3], guide=str(path))


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (WIDE, {"guide": "class 1"}, r"guide 'class 1' is no file; pass a PIL picture"),
        (WIDE, {"guide": 3}, "guide must be a PIL picture, the path of one"),
        ([1, 2], {"guide": OTHER}, "images beside a guide must be uncropped PIL pictures"),
        ([], {"guide": OTHER}, "at least one picture"),
        (WIDE, {"guide": OTHER, "fraction": 0.3}, "nearest valid fraction is 0.25"),
        (WIDE, {"guide": OTHER, "layout": "beside"}, "unknown layout 'beside'"),
        (torch.zeros(1, 16, 16), {"guide": OTHER}, r"floating point numbers \(3, h, w\)"),
        (torch.zeros(1, 3, 16, 16), {"layout": "left"}, "layout and fraction are of a guide"),
    ],
)
def test_what_cannot_be_is_one_line(tiny_vit, images, settings, message):
    with pytest.raises(ValueError, match=message):
        explain(tiny_vit, images, 1, **settings)


def test_a_transform_of_ones_own_needs_tensors():
    from attnguide import wrap_model

    vit = tiny()
    own = wrap_model(vit.module, lambda image: torch.zeros(3, 16, 16), vit.class_names)
    with pytest.raises(ValueError, match="resize, crop and normalisation are not known"):
        explain(own, WIDE, 1, guide=OTHER)
    assert explain(own, torch.ones(3, 8, 8), 1, guide=torch.zeros(3, 9, 9)).mask.sum() == 8


def test_what_is_drawn_is_the_originals_part_over_the_original(tiny_vit, tmp_path):
    many = explain_many(tiny_vit, [WIDE, TALL], [1, 2], methods=["gae", "complete"], guide=OTHER)
    explanation = many["complete"]
    figure = explanation.plot([WIDE, TALL])
    shapes = {axes.images[0].get_array().shape[:2] for axes in figure.axes if axes.images}
    assert {(20, 40), (30, 18)} <= shapes
    assert [each.size for each in explanation.overlay([WIDE, TALL])] == [(40, 20), (18, 30)]
    large = explanation.upsample((30, 18))
    assert large.shape == (2, 30, 18)
    half = Explanation(explanation.own, explanation.target, explanation.logits, "complete")
    assert torch.equal(large, half.upsample((30, 18)))
    assert "2 images beside a guide (picture, right), 4 x 4 patches" in repr(explanation)
    grid = compare(many, [WIDE, TALL])
    assert "GAE" in {text.get_text() for text in grid.findobj(Text)}
    again = load_explanation(explanation.save(tmp_path / "kept"))
    assert torch.equal(again.mask, explanation.mask)
    assert again.settings == explanation.settings
