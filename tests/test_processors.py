"""Preprocessing of other libraries becomes the same steps, or is refused."""

import pytest
import torch
import transformers as hf
from foreign import huggingface, torchvision
from PIL import Image
from torchvision.transforms._presets import ImageClassification

from attnguide import wrap_model
from attnguide.models.adapters import as_preprocess
from attnguide.models.preprocess import Preprocess


def test_defaults_are_those_of_the_published_weights():
    assert wrap_model(huggingface("vit")).preprocess == Preprocess(
        (16, 16), interpolation="bilinear", crop_mode="squash"
    )
    for module in (huggingface("dinov2"), huggingface("deit"), torchvision()):
        assert wrap_model(module).preprocess.mean == (0.485, 0.456, 0.406)


PROCESSORS = {
    "squashed": hf.ViTImageProcessor(size={"height": 16, "width": 24}),
    "squashed and cropped": hf.DeiTImageProcessor(
        size={"height": 117, "width": 117}, crop_size={"height": 16, "width": 16}
    ),
    "shorter side": hf.BitImageProcessor(
        size={"shortest_edge": 96}, crop_size={"height": 16, "width": 16}
    ),
    "not normalised": hf.ViTImageProcessor(size={"height": 16, "width": 16}, do_normalize=False),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_image_processors_become_the_same_steps(kind):
    picture = Image.effect_noise((60, 40), 60).resize((150, 100)).convert("RGB")
    processor = PROCESSORS[kind]
    got = as_preprocess(processor)(picture)
    expected = processor(picture, return_tensors="pt")["pixel_values"]
    assert got.shape == expected.shape
    one_level = 1 / 255 / min(processor.image_std)  # they round resized pixels differently
    assert (got - expected).abs().max() <= 1.01 * one_level


def test_presets_of_torchvision_become_the_same_steps():
    preset = ImageClassification(crop_size=16, resize_size=93)
    picture = Image.effect_noise((150, 100), 60).convert("RGB")
    assert torch.equal(as_preprocess(preset)(picture)[0], preset(picture))
    assert wrap_model(torchvision(), preset).preprocess.crop_mode == "center"


def test_a_processor_sets_the_size_of_a_network_that_takes_any():
    processor = hf.BitImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
    )
    vit = wrap_model(huggingface("dinov2"), processor)
    assert vit.grid == (8, 8)
    assert vit.preprocess(Image.new("RGB", (50, 60))).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"do_resize": False}, "do_resize=False"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ({"size": {"shortest_edge": 20}}, "without a crop"),
        ({"size": {"longest_edge": 20}}, "longest_edge"),
    ],
)
def test_processors_with_other_steps_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        as_preprocess(hf.ViTImageProcessor(**settings))
    assert as_preprocess(None) is None
    assert as_preprocess(len) is len
