"""Models by config: each kind checked without weights, then loaded."""

import json
import sys
import traceback

import pytest
import timm
import torch
import transformers as hf
from foreign import huggingface, torchvision
from torch.testing import assert_close

from attnguide import load_model
from attnguide.models import HuggingFace, Python, Timm, Torchvision, checkpoint
from attnguide.models.checkpoint import sha256

MINE = """
import timm
from attnguide import wrap_model
def make(classes=5): return timm.create_model("test_vit", num_classes=classes)
def ready(): return wrap_model(make(), class_names=list("abcde"))
def number(): return 5
def fails(): return {}["deep inside"]
constant = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the user's module, names, and networks of HuggingFace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    (tmp_path / "my_models.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("import no_such_thing_at_all")
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\ndog\nelk\n")
    return tmp_path


def only(source):
    source.check()
    (vit,) = source.load("cpu")
    assert (vit.name,) == source.names
    assert len(vit.weights_sha256) == 64
    return vit


def test_embedded_models_one_after_the_other():
    source = Timm(name=["creatures", "creatures_contaminated"])
    source.check()
    models = source.load()
    assert next(models).name == "creatures"
    assert next(models).name == "creatures_contaminated"
    assert only(Timm()).class_names[0] == "bushy-tailed fox"
    darker = only(Timm(preprocess={"mean": [0, 0, 0]})).preprocess
    assert (darker.mean, darker.std) == ((0, 0, 0), (0.5, 0.5, 0.5))


def test_timm_with_weights_names_and_label(here):
    for number in "AB":
        torch.save(
            timm.create_model("test_vit", num_classes=5).state_dict(), here / f"{number}.pth"
        )
    files = [str(here / "A.pth"), str(here / "B.pth")]
    source = Timm(
        name=["timm/test_vit", "test_vit"], checkpoint=files, label=["A", "B"],
        class_names="names.txt",
    )  # fmt: skip
    source.check()
    first, second = source.load()
    assert [first.name, second.name] == ["A", "B"]
    assert first.class_names == ("ant", "bee", "cat", "dog", "elk")
    assert [first.weights_sha256, second.weights_sha256] == [sha256(file) for file in files]
    assert only(Timm(name="timm/test_vit", checkpoint=files[0])).name == "test_vit"


def test_huggingface_s_folder_brings_its_processor_and_names(here):
    net = huggingface("vit", torch.float32, id2label=dict(enumerate("vwxyz")))
    net.save_pretrained(here / "mine")
    hf.ViTImageProcessor(
        size={"height": 16, "width": 16}, image_mean=[0.1, 0.2, 0.3]
    ).save_pretrained(here / "mine")
    vit = only(HuggingFace(name=str(here / "mine")))
    assert (vit.name, vit.class_names[1]) == ("mine", "w")
    assert vit.preprocess.mean == (0.1, 0.2, 0.3)
    assert vit.weights_sha256 == sha256(here / "mine" / "model.safetensors")
    x = torch.randn(2, 3, 16, 16)
    assert_close(vit.module(x), net.eval()(x).logits)
    other = only(HuggingFace(name="mine", class_names="names.txt", preprocess={"std": [1, 1, 1]}))
    assert other.class_names[0] == "ant"
    assert (other.preprocess.mean, other.preprocess.std) == ((0.1, 0.2, 0.3), (1, 1, 1))


def test_weights_in_half_precision_are_used_in_float32(here):
    huggingface("vit", torch.bfloat16).save_pretrained(here / "half")
    assert only(HuggingFace(name="half")).dtype == torch.float32


@pytest.mark.filterwarnings("ignore")
def test_folders_that_hold_no_trained_classifier_are_refused(here):
    net = huggingface("vit", torch.float32)
    net.vit.save_pretrained(here / "features")
    source = HuggingFace(name="features")
    source.check()
    with pytest.raises(ValueError, match=r"lacks 2 weights.*classifier.bias"):
        list(source.load())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"architectures": 5}, "cannot read .*config.json"),
        ({"architectures": [5]}, "architectures must be names"),
        ({"patch_size": 0}, "holds no image classifier"),
        ({"num_attention_heads": 0}, "holds no image classifier"),
        ({"id2label": "abc"}, "holds no image classifier"),
        ({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Cfg"}}, "holds no image classif"),
        ("[" * 100_000, "cannot read .*config.json"),
        ("[]", "cannot read .*config.json"),
        (None, "holds no image classifier"),
    ],
)
def test_folders_of_wrong_types_and_cut_weights_are_one_line(config, told, here, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks on the terminal"))
    folder = here / "mine"
    huggingface("vit", torch.float32).save_pretrained(folder)
    (folder / "evil.py").write_text("open('ran', 'w')")
    stored = folder / ("config.json" if config else "model.safetensors")
    whole = stored.read_bytes()
    changed = json.dumps(json.loads(whole) | config) if isinstance(config, dict) else config
    stored.write_bytes(changed.encode() if config else whole[:5000])
    with pytest.raises(ValueError, match=told) as refused:
        only(HuggingFace(name="mine"))
    assert "\n" not in str(refused.value)
    assert not (here / "ran").exists()


@pytest.mark.filterwarnings("ignore")
def test_load_model_takes_a_folder_of_huggingface(here):
    net = huggingface("vit", torch.float32, id2label=dict(enumerate("vwxyz")))
    net.save_pretrained(here / "mine")
    for name in ("mine", here / "mine", "./mine"):
        vit = load_model(name, preprocess={"mean": [0.1, 0.2, 0.3]}, label="ours")
        assert (vit.name, vit.class_names, vit.preprocess.mean[0]) == ("ours", tuple("vwxyz"), 0.1)
    timm.models.save_for_hf(timm.create_model("test_vit"), here / "timm's")
    with pytest.raises(ValueError, match=r"is timm's; pass model\.name=local-dir:timm's"):
        load_model("timm's")
    with pytest.raises(ValueError, match=r"pass load_model\(NAME, checkpoint='mine/model\.safet"):
        load_model("mine/model.safetensors")


def test_torchvision_with_local_weights(here, monkeypatch):
    sizes = {"vit_b_32": {}, "vit_b_16": {"mlp_dim": 48}}  # its own are large
    monkeypatch.setattr(
        "torchvision.models.get_model", lambda name, **given: torchvision(**sizes[name], **given)
    )
    net = torchvision(num_classes=5)
    torch.save({"model": net.state_dict()}, here / "w.pth")
    vit = only(Torchvision(name="vit_b_32", checkpoint="w.pth", class_names="names.txt"))
    assert vit.class_names[4] == "elk"
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    assert_close(vit.module(x), net.eval()(x))
    with pytest.raises(ValueError, match="do not fit torchvision's vit_b_16: size mismatch"):
        list(Torchvision(name="vit_b_16", checkpoint="w.pth").load())


@pytest.mark.parametrize("target", ["my_models:make", "my_models.py:make"])
def test_a_function_of_one_s_own_makes_a_network(target, here):
    vit = only(Python(target=target, class_names="names.txt", preprocess={"std": [1, 1, 1]}))
    assert (vit.name, vit.class_names[0], vit.preprocess.std) == ("make", "ant", (1, 1, 1))
    assert len(only(Python(target=target, arguments={"classes": 3})).class_names) == 3
    assert (here / "my_models.py").is_file()


@pytest.mark.usefixtures("here")
def test_a_function_may_return_a_vit():
    vit = only(Python(target="my_models:ready", label="mine"))
    assert (vit.name, vit.class_names) == ("mine", tuple("abcde"))
    with pytest.raises(ValueError, match="returns a ViT, which has its class names"):
        only(Python(target="my_models:ready", class_names=["a"]))


@pytest.mark.usefixtures("here")
def test_errors_of_one_s_own_code_keep_their_frames():
    with pytest.raises(KeyError, match="deep inside") as raised:
        only(Python(target="my_models:fails"))
    assert traceback.extract_tb(raised.value.__traceback__)[-1].name == "fails"
    with pytest.raises(ModuleNotFoundError, match="no_such_thing_at_all"):
        only(Python(target="broken:make"))


REFUSED = {
    "no names": (Timm(name=[]), "model.name must be a name or a list of names"),
    "no name": (Timm(name=""), "model.name must be a name or a list of names, got ''"),
    "files": (
        Timm(name=["a", "b"], checkpoint=["c"]), r"one file per model \(2: a, b\), got 1"),
    "twice": (
        Timm(name=["creatures"] * 2),
        r"2 models are called 'creatures'; give names: model.label=\[A,B\]"),
    "labels": (Timm(label=["A", "B"]), r"model.label must name each model \(1: creatures\), got 2"),
    "unknown": (Timm(name="vit_tiny_patch16_225"), "did you mean vit_tiny_patch16_224"),
    "windowed": (Timm(name="timm/swin_tiny_patch4_window7_224"), "has no blocks; pass one, or"),
    "convolutional": (Timm(name="resnet18"), "ResNet"),
    "own weights": (Timm(checkpoint="w.pth"), "creatures brings its own weights"),
    "missing": (Timm(name="test_vit", checkpoint="w.pth"), "'w.pth' is not a file"),
    "no folder": (Timm(name="local-dir:nowhere"), "names no folder"),
    "no file of names": (Timm(class_names="nowhere.txt"), "no file of class names"),
    "field": (Timm(preprocess={"meen": 1}), "unknown field of preprocess .* did you mean mean"),
    "mean": (Timm(preprocess={"mean": 1}), "preprocess.mean: .*valid tuple; got {'mean': 1}"),
    "std": (Timm(preprocess={"std": [0, 1, 1]}), "preprocess.std: .*greater than 0"),
    "crop": (Timm(preprocess={"crop_pct": 87.5}), "preprocess.crop_pct: .*less than or equal to 1"),
    "filter": (Timm(preprocess={"interpolation": "cubic"}), "'bilinear', 'bicubic'"),
    "no such folder": (HuggingFace(name="./nowhere"), "no such folder"),
    "no config": (HuggingFace(name="."), "holds no config.json"),
    "torchvision": (Torchvision(name="resnet18"), "known: vit_b_16"),
    "published": (Torchvision(weights="V3"), "unknown model.weights 'V3'; known: DEFAULT"),
    "no target": (Python(), "must be module:function"),
    "no function": (Python(target="my_models"), "must be module:function"),
    "no module": (Python(target="nowhere.at.all:make"), "no module 'nowhere.at.all'"),
    "no python file": (Python(target="nowhere.py:make"), "there is no file nowhere.py"),
}  # fmt: skip


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_loaded_is_refused_without_loading(kind):
    source, told = REFUSED[kind]
    with pytest.raises(ValueError, match=told) as refused:
        source.check()
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("function", "told"),
    [("maker", "did you mean make"), ("number", "got int"), ("constant", "not a function but int")],
)
def test_a_target_must_be_a_function_of_a_network(function, told):
    with pytest.raises(ValueError, match=told):
        list(Python(target=f"my_models:{function}").load())


@pytest.mark.parametrize(
    "wrong", [{"name": None}, {"checkpoint": 5}, {"preprocess": "imagenet"}, {"a": 1}]
)
def test_settings_of_another_type_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Timm(**wrong)


def test_unknown_names_list_the_closest_that_can_be_explained():
    with pytest.raises(ValueError, match="did you mean creatures"):
        load_model("creature")
    with pytest.raises(ValueError, match="did you mean") as refused:
        Timm(name="swin_tiny_patch4").check()
    assert "swin" not in str(refused.value).partition("did you mean")[2]


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        (Timm(name="test_vit"), "model.checkpoint=FILE"),
        (Timm(name="hf-hub:someone/something"), "model.checkpoint=FILE"),
        (HuggingFace(name="someone/something"), "model.name=FOLDER"),
    ],
)
def test_without_network_one_question_and_one_line(source, remedy, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(checkpoint, "_answers", lambda host: asked.append(host))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source.check()
    with pytest.raises(ConnectionError, match=f"could not be .*out of reach.*{remedy}") as refused:
        list(source.load())
    assert asked == ["https://huggingface.co"]
    assert "\n" not in str(refused.value)


def test_a_host_that_cannot_be_reached_is_told_from_one_that_lacks_the_model():
    from huggingface_hub.errors import HFValidationError

    assert not checkpoint._answers("http://127.0.0.1:9")
    with (
        pytest.raises(ConnectionError, match=r"^a//b was not found on https.*check the name"),
        pytest.MonkeyPatch.context() as patch,
        checkpoint.fetching("a//b"),
    ):
        patch.setattr(checkpoint, "_answers", lambda _: True)
        raise HFValidationError("Repo id must be OWNER/NAME")
