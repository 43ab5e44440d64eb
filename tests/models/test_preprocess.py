"""Preprocessing travels with the weights; that of other libraries becomes the same steps."""

import pytest
import timm
import torch
import transformers as hf
from foreign import huggingface, torchvision
from PIL import Image
from tiny import tiny
from torchvision import transforms as T
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification

from attnguide import wrap_model
from attnguide.models.preprocess import Preprocess, as_preprocess, steps_of


def test_preprocess_equals_timm_s_own_transform(shared):
    vit = wrap_model(timm.create_model("vit_tiny_patch16_224"))
    picture = Image.open(shared / "assets/pairs/catdog.png").convert("RGB")
    config = timm.data.resolve_data_config({}, model=vit.module)
    expected = timm.data.create_transform(**config)(picture)
    assert torch.equal(vit.preprocess(picture)[0], expected)


def test_normalize_moves_nothing_and_denormalize_undoes_it():
    pre = Preprocess((8, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))
    picture = Image.effect_noise((5, 7), 50).convert("RGB")
    x = pre.normalize(picture)
    assert x.shape == (3, 7, 5)
    back = pre.denormalize(x)
    assert (back * 255).round().byte()[0].tolist()[0] == [
        picture.getpixel((i, 0))[0] for i in range(5)
    ]


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


FUNCTIONS = {
    "torchvision": T.Compose([T.Resize((16, 16)), T.ToTensor(), T.Lambda(lambda x: x**2)]),
    "second version": v2.Compose(
        [v2.Resize((16, 16)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), torch.square]
    ),
    "of a list": lambda pictures: torch.stack(
        [T.functional.to_tensor(p.convert("RGB").resize((16, 16))) ** 2 for p in pictures]
    ),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_is_accepted_as_it_is(kind):
    picture = Image.new("RGBA", (40, 30), (200, 100, 50, 255))
    vit = wrap_model(tiny().module, FUNCTIONS[kind])
    pixels = vit.preprocess([picture, picture])
    assert pixels.shape == (2, 3, 16, 16)
    torch.testing.assert_close(pixels[1, :, 3, 3], (torch.tensor([200, 100, 50]) / 255) ** 2)
    with pytest.raises(
        ValueError, match=r"preprocess of VisionTransformer is a function.*pass prep"
    ):
        steps_of(vit)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (T.Compose([T.RandomResizedCrop(16), T.ToTensor()]), "RandomResizedCrop.*at random"),
        (T.Compose([T.Resize(16), T.ColorJitter(), T.ToTensor()]), "ColorJitter.*at random"),
        (
            T.Compose([T.Resize(16)]),
            r"returned Image, expected a floating-point Tensor \(3, H, W\)",
        ),
        (T.Compose([T.Resize((16, 16)), T.PILToTensor()]), "a tensor of torch.uint8"),
        (ord, "builtin_function_or_method.* fails on a PIL image"),
        (lambda _: {}["x"], "KeyError"),
        (5, "got int"),
    ],
)
def test_transforms_that_give_no_pixels_are_refused(steps, told):
    with pytest.raises(ValueError, match=told):
        wrap_model(tiny().module, steps)


@pytest.mark.parametrize(
    "steps",
    [
        T.Compose([T.Resize(16), T.ToTensor()]),
        lambda picture: T.functional.to_tensor(picture.resize((24, 24))),
        lambda pictures: torch.zeros(len(pictures), 3, 16, 24),
    ],
)
def test_transforms_to_another_size_are_refused_when_they_are_given(steps):
    with pytest.raises(ValueError, match=r"images of \(16, 16\), the preprocessing makes \("):
        wrap_model(tiny().module, steps)


def test_fields_replace_those_of_the_model():
    vit = wrap_model(tiny().module, {"mean": [0, 0, 0], "size": [16, 16]})
    assert (vit.preprocess.mean, vit.preprocess.size) == ((0, 0, 0), (16, 16))
    with pytest.raises(ValueError, match=r"takes images of \(16, 16\), the preprocessing makes"):
        wrap_model(tiny().module, {"size": [32, 32]})
    with pytest.raises(ValueError, match="no pictures given"):
        vit.preprocess([])


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
