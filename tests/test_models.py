"""Weights come with their preprocessing, or are refused with a reason."""

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny import tiny

from attnguide import load_model, wrap_model
from attnguide.models import hub, load
from attnguide.models.preprocess import Preprocess, to_rgb


def test_embedded_model_loads_offline():
    vit = load_model("creatures")
    assert vit.grid == (12, 12)
    assert len(vit.class_names) == 16
    assert len(vit.weights_sha256) == 64
    images = vit.preprocess([Image.new("RGB", (96, 96))])
    assert vit.module(images).shape == (1, 16)


def test_local_weights_of_any_number_of_classes(tmp_path):
    module = timm.create_model("vit_tiny_patch16_224", num_classes=7)
    save_file(module.state_dict(), tmp_path / "own.safetensors")
    vit = load_model("vit_tiny_patch16_224", checkpoint=tmp_path / "own.safetensors")
    assert vit.class_names == tuple(f"class {i}" for i in range(7))
    x = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(vit.module(x), module.eval()(x))
    torch.save(module.state_dict(), tmp_path / "own.pth")
    again = load_model("vit_tiny_patch16_224", checkpoint=tmp_path / "own.pth")
    torch.testing.assert_close(again.module(x), vit.module(x))


def test_weights_that_do_not_fit_are_refused_with_what_differs(tmp_path):
    module = timm.create_model("vit_tiny_patch16_224", num_classes=7)
    save_file(module.state_dict(), tmp_path / "tiny.safetensors")
    with pytest.raises(ValueError, match=r"do not fit vit_small_patch16_224: \d+ of another shape"):
        load_model("vit_small_patch16_224", checkpoint=tmp_path / "tiny.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="cannot read weights"):
        load_model("vit_tiny_patch16_224", checkpoint=tmp_path / "junk.safetensors")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_model("vit_tiny_patch16_224", checkpoint=tmp_path / "absent.safetensors")


def test_a_pickle_is_never_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"head.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="cannot read weights"):
        load_model("vit_tiny_patch16_224", checkpoint=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_unknown_names_list_the_closest():
    with pytest.raises(ValueError, match="did you mean creatures"):
        load_model("creature")
    with pytest.raises(ValueError, match="did you mean vit_base_patch16_224"):
        load_model("vit_base_patch16_24")


def test_without_hub_the_error_says_what_to_do(monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(load, "check_model", lambda *_: None)
    monkeypatch.setattr(hub, "_answers", lambda _: False)
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConnectionError, match=r"model\.checkpoint=FILE"):
        load_model("vit_base_patch16_224")


def test_readout_follows_the_pooling():
    assert tiny().readout.nonzero().tolist() == [[0]]
    assert tiny("registers").readout.nonzero().tolist() == [[0]]
    torch.testing.assert_close(tiny("average").readout, torch.full((16,), 1 / 16))
    assert tiny("average_with_class").readout[0] == 0
    assert tiny("distilled").readout[:2].tolist() == [0.5, 0.5]
    for shape in ("class_token", "registers", "average", "average_with_class", "distilled"):
        assert float(tiny(shape).readout.sum()) == pytest.approx(1)


def test_class_names_synonyms_and_wnids():
    vit = wrap_model(timm.create_model("vit_tiny_patch16_224"))
    assert vit.class_index("zebra") == 340
    assert vit.class_index("n02391049") == 340
    assert vit.class_index("African elephant") == 386
    assert vit.class_index("386") == 386
    with pytest.raises(ValueError, match=r"ambiguous; pass one of the indices 134 .* 517"):
        vit.class_index("crane")
    with pytest.raises(ValueError, match="did you mean zebra"):
        vit.class_index("zebrra")
    with pytest.raises(ValueError, match=r"\[0, 999\]"):
        vit.class_index(1000)


def test_wrap_checks_what_it_gets():
    with pytest.raises(TypeError, match="torch module"):
        wrap_model("vit_base")
    with pytest.raises(ValueError, match="5 classes, got 2 class names"):
        wrap_model(tiny().module, class_names=["a", "b"])


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


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "I;16"])
def test_every_picture_mode_becomes_rgb(mode):
    picture = Image.new("L", (4, 4), 128)
    given = Image.new("I;16", (4, 4), 32768) if mode == "I;16" else picture.convert(mode)
    rgb = to_rgb(given)
    assert rgb.mode == "RGB"
    if mode != "1":
        assert abs(rgb.getpixel((0, 0))[0] - 128) <= 2


def test_exif_orientation_is_applied():
    picture = Image.new("RGB", (4, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    import io

    file = io.BytesIO()
    picture.save(file, "jpeg", exif=exif)
    assert to_rgb(Image.open(file)).size == (2, 4)
