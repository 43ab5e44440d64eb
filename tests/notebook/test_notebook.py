"""Explanations and curves draw, keep and compare themselves."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import attnguide
from attnguide import (
    Explanation,
    PerturbationCurve,
    compare,
    compare_auc,
    explain,
    load_explanation,
    wrap_model,
)
from attnguide.evaluation.statistics import estimate
from attnguide.models.preprocess import Preprocess
from attnguide.viz.overlay import overlay

MAPS = torch.tensor([[[1.0, -2.0], [0.0, 0.5]], [[0.25, 0.0], [0.0, -0.25]]])
RED, BLUE = np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 3), np.float32)
RED[..., 0], BLUE[..., 2] = 1, 1


@pytest.fixture
def explanation():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    settings = {"loss": "logit", "layers": [1, 2], "noise": torch.tensor([0.5]), "start": None}
    return Explanation(MAPS, torch.tensor([0, 1]), logits, "complete", settings)


@pytest.fixture
def curve():
    generator = torch.Generator().manual_seed(0)
    correct = torch.rand(30, 4, generator=generator) < torch.tensor([0.9, 0.7, 0.5, 0.2])
    values = torch.rand(30, 4, generator=generator)
    fraction = torch.tensor([0.0, 0.3, 0.6, 0.9])
    return PerturbationCurve(fraction, correct, values, values, correct.long(), "positive")


def words(figure):
    return {text.get_text() for text in figure.findobj(Text)} - {""}


def images(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_a_plot_shows_every_map_over_its_picture(explanation):
    figure = explanation.plot([RED, BLUE], class_names=["snail, slug", "eagle", "fish"])
    assert isinstance(figure, Figure)
    assert {"complete", "snail", "eagle", "logit 2.00, p = 0.79", "logit −1.00, p = 0.16"} <= words(
        figure
    )
    shown = images(figure)
    assert len(shown) == 4
    np.testing.assert_array_equal(shown[0], RED)
    np.testing.assert_array_equal(shown[1], overlay(RED, MAPS[0]))
    np.testing.assert_array_equal(shown[3], overlay(BLUE, MAPS[1]))
    assert "−1" in words(figure)  # the colour bar


def test_a_plot_without_pictures_shows_the_maps_alone(explanation):
    figure = explanation.plot()
    expected = overlay(np.ones((32, 32, 3)), MAPS[0], weight=1)
    np.testing.assert_array_equal(images(figure)[0], expected)
    assert {"class 0", "class 1"} <= words(figure)


def test_one_map_is_drawn_into_axes_with_another_colour_map(explanation):
    axes = Figure().subplots()
    with pytest.raises(ValueError, match=r"ax takes one map, got 2; pass one as explanation\[0\]"):
        explanation.plot(ax=axes)
    assert explanation[1].plot([BLUE], ax=axes, cmap="viridis", alpha=0.5) is axes.figure
    expected = overlay(BLUE, MAPS[1], weight=0.5, cmap="viridis")
    np.testing.assert_array_equal(images(axes.figure)[0], expected)
    assert axes.get_xlabel() == "logit −1.00, p = 0.16"
    white = overlay(np.ones((2, 2, 3)), MAPS[1], cmap="viridis", weight=1)
    np.testing.assert_allclose(white[0, 0], colormaps["viridis"](1.0)[:3], atol=1e-6)
    with pytest.raises(ValueError, match="unknown cmap 'virdis'; did you mean viridis"):
        explanation.plot(cmap="virdis")


def test_an_explanation_is_a_sequence_of_images_and_a_table(explanation):
    given = replace(explanation, settings={"reference": [5, 6], "loss": "ratio"})
    assert [len(given), *map(len, given)] == [2, 1, 1]
    last = given[-1]
    assert torch.equal(last.relevance, MAPS[1:])
    assert (last.target.tolist(), last.settings["reference"]) == ([1], [6])
    assert torch.equal(given[:1].logits, given.logits[:1])
    with pytest.raises(IndexError):
        given[2]
    table = given.to_frame()
    assert table.loc[1].to_dict() == {
        "image": 0, "target": 0, "row": 0, "col": 1, "relevance": -2.0,
    }  # fmt: skip
    assert table["image"].tolist() == [0] * 4 + [1] * 4


def test_maps_that_are_all_zero_are_said(explanation):
    empty = replace(explanation, relevance=MAPS * torch.tensor([0.0, 1.0]).view(2, 1, 1))
    assert "1 of 2 maps all zero" in repr(empty)
    assert {"logit 2.00, p = 0.79\nall zero", "logit −1.00, p = 0.16"} <= words(empty.plot())


def test_several_targets_stand_side_by_side(explanation):
    maps = torch.stack([MAPS, -MAPS], 1)
    several = replace(explanation, relevance=maps, target=torch.tensor([[0, 2], [1, 2]]))
    figure = several.plot([RED, BLUE])
    assert len(images(figure)) == 6
    np.testing.assert_array_equal(images(figure)[5], overlay(BLUE, -MAPS[1]))
    mixed = several.overlay([RED, BLUE])
    expected = np.round(255 * overlay(RED, -MAPS[0])).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(mixed[0][1]), expected)


def test_overlays_are_pictures(explanation):
    tensor = torch.from_numpy(np.stack([RED, BLUE])).permute(0, 3, 1, 2)
    for pictures in ([RED, BLUE], tensor, [(255 * RED).astype("uint8"), BLUE]):
        first, second = explanation.overlay(pictures, weight=0.25, grey=True)
        assert first.size == (8, 8)
        expected = overlay(BLUE, MAPS[1], weight=0.25, grey=True)
        np.testing.assert_array_equal(np.asarray(second), np.round(255 * expected))


SMOOTH = Image.radial_gradient("L").convert("RGB")


def steps(size=(64, 64), **settings):
    return Preprocess(size, interpolation="bilinear", **settings)


@pytest.mark.parametrize("shape", [(256, 256), (330, 200), (150, 260)])
@pytest.mark.parametrize(
    "preprocess",
    [
        steps(crop_pct=0.5),
        steps(crop_pct=0.9),
        steps((64, 96), crop_pct=0.75),
        steps(crop_pct=0.875, crop_mode="squash"),
        steps((48, 64), crop_mode="border"),
    ],
    ids=repr,
)
def test_the_part_of_a_picture_that_the_model_saw(preprocess, shape):
    picture = SMOOTH.resize(shape)
    seen = preprocess.seen(picture).resize(preprocess.size[::-1], Image.Resampling.BILINEAR)
    made = preprocess.denormalize(preprocess([picture]))[0].permute(1, 2, 0).numpy()
    inside = abs(made - 0.502).max(-1) > 0.01  # around it is the mean, as timm fills it
    gap = np.abs(np.asarray(seen) / 255 - made)[inside]
    assert np.quantile(gap, 0.9 if preprocess.crop_mode == "border" else 1) < 0.05


def test_a_map_is_drawn_where_the_model_looked(tiny_vit, tmp_path):
    wide = Image.new("RGB", (80, 40), "red")
    wide.paste((0, 0, 255), (30, 10, 50, 30))
    vit = replace(tiny_vit, preprocess=Preprocess((16, 16), crop_pct=0.5))
    found = explain(vit, vit.preprocess([wide]), 1)
    for each in (found, load_explanation(found.save(tmp_path / "e")), found[0]):
        assert np.asarray(each.overlay(wide, weight=0)[0])[..., 2].tolist() == [[255] * 20] * 20
        assert np.asarray(images(each.plot([wide], alpha=0))[1]).shape == (20, 20, 3)
    cropped = explain(vit, vit.preprocess([wide]), 1, guide=torch.ones(3, 8, 8))
    assert cropped.overlay([wide])[0].size == (20, 20)
    assert explain(vit, wide, 1, guide=SMOOTH).overlay([wide])[0].size == (80, 40)

    def letterbox(picture):
        square = Image.new("RGB", (80, 80))
        square.paste(picture)
        return torch.from_numpy(np.array(square.resize((16, 16)))).permute(2, 0, 1) / 127.5 - 1

    own = explain(wrap_model(vit.module, letterbox), vit.preprocess([wide]), 1)
    drawn = np.asarray(own.overlay(wide, weight=0)[0])
    assert drawn[0, 0].tolist() == [255, 0, 0]
    assert not drawn[10:].any()
    with pytest.raises(ValueError, match="pictures were cropped is not known; pass what the model"):
        load_explanation(own.save(tmp_path / "own")).plot([wide])


def test_pictures_that_do_not_fit_are_refused(explanation):
    with pytest.raises(ValueError, match="one picture per image, 2, got 1"):
        explanation.plot(RED)
    with pytest.raises(ValueError, match=r"8 x 16 pixels; pass what the model saw"):
        explanation.overlay([RED, np.zeros((8, 16, 3))])
    for value, advice in ((-2.0, "denormalize"), (200.0, "divide pixels by 255")):
        with pytest.raises(ValueError, match=advice):
            explanation.plot(torch.full((2, 3, 8, 8), value))


def test_upsampling_keeps_signs_and_size(explanation):
    large = explanation.upsample((4, 8))
    assert large.shape == (2, 4, 8)
    assert large[0, 0, 0] == 1.0
    assert large[0, 0, -1] == -2.0
    # Pixel 3 of 8 lies at 1.25 of patch centres 0.5 and 1.5.
    assert large[0, 0, 3] == pytest.approx(1.0 + 0.375 * -3.0)
    assert explanation.upsample().shape == (2, 32, 32)
    with pytest.raises(ValueError, match="at least 1"):
        explanation.upsample((0, 5))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_an_explanation_comes_back_as_it_was(explanation, tmp_path, kind):
    kept = replace(explanation, relevance=MAPS.to(kind), logits=explanation.logits.to(kind))
    kept.settings["rule"] = overlay  # a function is kept by its name
    path = kept.save(tmp_path / "a.b")
    assert path == tmp_path / "a.b.npz"
    back = load_explanation(path)
    for name in ("relevance", "target", "logits"):
        before, after = getattr(kept, name), getattr(back, name)
        assert after.dtype == before.dtype
        assert torch.equal(after, before)
    assert back.method == "complete"
    assert torch.equal(back.settings["noise"], kept.settings["noise"])
    named = {"noise": 0, "rule": "attnguide.viz.overlay.overlay"}
    assert {**back.settings, "noise": 0} == {**kept.settings, **named}


def test_what_is_no_explanation_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_explanation(tmp_path / "no.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("text")
    for name in ("other.npz", "text.npz"):
        with pytest.raises(ValueError, match=rf"{name} holds no explanation"):
            load_explanation(tmp_path / name)


def test_compare_is_a_grid_of_methods(explanation):
    other = replace(explanation, relevance=-MAPS, method="gae")
    for given in ([explanation, other], {"complete": explanation, "gae": other}):
        figure = compare(given, [RED, BLUE], class_names=["snail", "eagle", "fish"])
        assert {"image", "complete", "GAE", "snail", "eagle"} <= words(figure)
        shown = images(figure)
        np.testing.assert_array_equal(shown[2], overlay(RED, -MAPS[0]))
        np.testing.assert_array_equal(shown[4], overlay(BLUE, MAPS[1]))


def test_compare_refuses_what_cannot_be_compared(explanation):
    with pytest.raises(ValueError, match="different names"):
        compare([explanation, explanation], [RED, BLUE])
    with pytest.raises(ValueError, match="different names"):
        compare([], [RED])
    elsewhere = replace(explanation, target=torch.tensor([0, 2]), method="gae")
    with pytest.raises(ValueError, match="'gae' explains other targets"):
        compare([explanation, elsewhere], [RED, BLUE])
    with pytest.raises(TypeError, match="must be an Explanation, got str"):
        compare({"gae": "map"}, [RED])


def test_records_say_themselves_in_one_line(explanation, curve):
    assert repr(explanation) == (
        "Explanation(complete: 2 images, 2 x 2 patches, target 0, 1, float32)"
    )
    assert repr(curve) == (
        "PerturbationCurve(positive order: 30 images, 4 fractions from 0 to 0.9, "
        f"AUC {curve.auc():.1f} %, lower is better)"
    )
    html = replace(explanation, method="<script>")._repr_html_()
    assert html.count("<img") == 2
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


def test_the_area_comes_with_its_interval(curve):
    found = curve.auc(interval=True)
    areas = pd.Series(curve.auc_per_image().numpy())
    assert found == estimate(areas, kind="mean")
    assert found.value == pytest.approx(curve.auc())
    assert found.low < found.value < found.high
    assert curve.auc("probability", interval=True).n == 30


def test_areas_are_compared_image_by_image(curve):
    lower = replace(curve, probability=curve.probability - 0.25)
    found = compare_auc(curve, lower, "probability")
    for number in (found.value, found.low, found.high):
        assert number == pytest.approx(25, abs=1e-4)  # the same gap for every image
    assert found.n == 30
    assert found.verdict(above=0) == "holds"


def test_curves_of_other_studies_are_refused(curve):
    short = replace(curve, correct=curve.correct[:3])
    others = {
        "one order": replace(curve, order="negative"),
        "30 and 3": short,
        "same fractions": replace(curve, fraction=curve.fraction / 2),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=message):
            compare_auc(curve, other)
    with pytest.raises(ValueError, match="accuracy, probability"):
        curve.plot("loss")


def test_a_curve_is_drawn_over_percent_with_its_band(curve):
    figure = curve.plot()
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0, 30, 60, 90], atol=1e-4)
    means = 100 * curve.correct.float().mean(0)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), means, atol=1e-4)
    assert {"positive order", "recognised (%)"} <= words(figure)
    assert any(f"{curve.auc():.1f}   [" in word for word in words(figure))
    assert any("lower is better" in word for word in words(figure))


def test_names_at_the_top_are_light_until_used():
    assert set(attnguide.__all__) >= {"ViT", "perturb_many", "compare", "load_explanation"}
    for name in attnguide.__all__:
        assert getattr(attnguide, name) is not None
    code = (
        "import sys, attnguide; attnguide.__version__; from attnguide.models import Timm; "
        "Timm(name=['a', 'b']).names; first = set(sys.modules); "
        "attnguide.Explanation; second = set(sys.modules); "
        "sys.exit(str([m for m in ('torch', 'timm', 'pandas', 'matplotlib') if m in first] "
        "+ [m for m in ('pandas', 'matplotlib', 'wandb') if m in second]).strip('[]') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
