"""Weights as trainers write them: read, or refused with the cause and the way."""

import argparse
import hashlib
import json
import logging

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from attnguide import load_model
from attnguide.models.checkpoint import read_weights, sha256, state_digest

NAME = "test_vit"


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=10)


def zeros(state):
    return {key: value * 0 for key, value in state.items()}


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


FORMS = {
    "plain": lambda s: s,
    "DataParallel": lambda s: {"state_dict": prefixed("module.", s)},
    "Lightning": lambda s: {
        "epoch": 3, "state_dict": prefixed("model.", s) | {"loss.weight": torch.ones(2)}},
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "compiled and parallel": lambda s: {"model": prefixed("module._orig_mod.", s)},
    "blocks compiled": lambda s: {
        key.replace("blocks.0.", "blocks.0._orig_mod."): value for key, value in s.items()},
    "tutorial": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}},
    "net": lambda s: {"net": s, "acc": 81.0},
    "classifier beside the backbone": lambda s: {
        key if key.startswith("head.") else f"backbone.{key}": value for key, value in s.items()},
    "timm's training": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=1)},
    "average": lambda s: {"state_dict": zeros(s), "state_dict_ema": s},
    "no average": lambda s: {"state_dict": s, "state_dict_ema": None},
    "average of a model": lambda s: {"model": zeros(s), "model_ema": prefixed("module.", s)},
    "parameters": lambda s: {key: nn.Parameter(value) for key, value in s.items()},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_trainer_is_read(form, net, tmp_path):
    torch.save(FORMS[form](net.state_dict()), tmp_path / "w.pth")
    vit = load_model(NAME, tmp_path / "w.pth")
    for key, value in net.state_dict().items():
        assert torch.equal(vit.module.state_dict()[key], value), key


def test_safetensors_and_a_folder_with_them(net, tmp_path):
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    for path in ("model.safetensors", "."):
        assert torch.equal(read_weights(tmp_path / path)["head.bias"], net.head.bias)
    x = torch.randn(1, 3, 160, 160)
    vit = load_model(NAME, tmp_path)
    assert vit.class_names == tuple(f"class {i}" for i in range(10))
    torch.testing.assert_close(vit.module(x), net.eval()(x))


def test_prefixes_and_what_is_left_out_are_told_once(net, tmp_path, caplog):
    torch.save(FORMS["Lightning"](net.state_dict()), tmp_path / "w.pth")
    with caplog.at_level(logging.WARNING):
        read_weights(tmp_path / "w.pth")
    [record] = caplog.records
    told = "the weights under 'model.' are taken; 1 others are left out (loss.weight)"
    assert told in record.getMessage()


REFUSED = {
    "empty": (lambda p, _: p.write_bytes(b""), r"cannot read weights .*\(0 bytes"),
    "a page": (lambda p, _: p.write_text("<!DOCTYPE html>"), r"cannot read weights .*\(15 bytes"),
    "a list": (lambda p, s: torch.save([s], p), "cannot read weights .*a state dict"),
    "a tensor": (lambda p, _: torch.save(torch.zeros(3), p), "cannot read weights"),
    "no weights": (
        lambda p, _: torch.save({"epoch": 3, "lr": 0.1}, p), "no weights .*holds epoch, lr"),
    "a network": (lambda p, _: torch.save(timm.create_model(NAME), p), "cannot read .*state_dict"),
    "two networks": (
        lambda p, s: torch.save(prefixed("a.", s) | prefixed("b.", s), p), r"several .*\(a., b.\)"),
    "student and teacher": (
        lambda p, s: torch.save({"student": s, "teacher": s}, p), "several .*student, teacher"),
    "features": (
        lambda p, s: torch.save({k: v for k, v in s.items() if "head" not in k}, p),
        "hold no classifier"),
    "HuggingFace's": (
        lambda p, _: torch.save(
            {"vit.embeddings.patch_embeddings.projection.weight": torch.ones(1)}, p),
        "'w.pth' do not fit test_vit: .*HuggingFace's: model=huggingface"),
    "torchvision's": (
        lambda p, _: torch.save({"conv_proj.weight": torch.ones(1)}, p), "model=torchvision"),
    "not finite": (
        lambda p, s: torch.save(s | {"norm.bias": s["norm.bias"] / 0}, p),
        "norm.bias of test_vit holds NaN"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_anything_else_is_refused_with_the_cause(kind, net, tmp_path):
    write, told = REFUSED[kind]
    write(tmp_path / "w.pth", net.state_dict())
    with pytest.raises(ValueError, match=told) as refused:
        load_model(NAME, tmp_path / "w.pth")
    assert "\n" not in str(refused.value)


def test_weights_that_do_not_fit_are_refused_with_what_differs(tmp_path):
    other = timm.create_model(NAME, img_size=80)
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match="do not fit test_vit: size mismatch for pos_embed"
    ) as told:
        load_model(NAME, tmp_path / "w.safetensors")
    assert "\n" not in str(told.value)
    (tmp_path / "junk.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="cannot read weights"):
        load_model(NAME, checkpoint=tmp_path / "junk.safetensors")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_model(NAME, checkpoint=tmp_path / "absent.safetensors")


def test_a_pickle_is_never_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"head.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="cannot read weights"):
        load_model(NAME, checkpoint=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_a_folder_holds_one_file_of_weights(net, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        read_weights(tmp_path)
    for name in ("a.pth", "b.pth"):
        torch.save(net.state_dict(), tmp_path / name)
    with pytest.raises(ValueError, match=r"several weights \(a.pth, b.pth\)"):
        read_weights(tmp_path)


def test_weights_fine_tuned_on_the_mean_of_the_patches(tmp_path):
    net = timm.create_model(NAME, num_classes=3, global_pool="avg", class_token=True)
    torch.save({"model": net.state_dict()}, tmp_path / "w.pth")
    vit = load_model(NAME, tmp_path / "w.pth")
    assert vit.readout[0] == 0
    x = torch.randn(1, 3, 160, 160)
    assert torch.equal(vit.module(x), net.eval()(x))


BESIDE = {
    "timm's": lambda s: {"state_dict": s, "args": argparse.Namespace(
        mean=[0, 0, 0], std=[1, 1, 1], crop_pct=0.5, interpolation="bilinear", gp=None)},
    "torchvision's": lambda s: {"model": s, "class_to_idx": {n: i for i, n in enumerate(LETTERS)}},
    "Lightning's": lambda s: {
        "state_dict": prefixed("model.", s), "hyper_parameters": {"class_names": list(LETTERS)}},
    "a tutorial's": lambda s: {"model_state_dict": s, "classes": list(LETTERS)},
    "of other classes": lambda s: {"model": s, "classes": ["a", "b"]},
}  # fmt: skip
LETTERS = "wvutsrqpon"


@pytest.mark.parametrize("kind", BESIDE)
def test_what_stands_beside_the_weights_is_taken(kind, net, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    torch.save(BESIDE[kind](net.state_dict()), tmp_path / "w.pth")
    vit = load_model(NAME, tmp_path / "w.pth")
    if kind == "timm's":
        steps = vit.preprocess
        assert (list(steps.mean), list(steps.std)) == ([0, 0, 0], [1, 1, 1])
        assert (steps.crop_pct, steps.interpolation) == (0.5, "bilinear")
        assert "w.pth: its preprocessing is taken: mean [0, 0, 0], std" in caplog.text
        own = load_model(NAME, tmp_path / "w.pth", preprocess={"crop_pct": 0.7}).preprocess
        assert (own.crop_pct, own.interpolation) == (0.7, "bilinear")
    elif kind == "of other classes":
        assert vit.class_names[0] == "class 0"
    else:
        assert "".join(vit.class_names) == LETTERS
        assert "w.pth: its class names are taken: w, ..." in caplog.text
        given = load_model(NAME, tmp_path / "w.pth", class_names=sorted(LETTERS))
        assert given.class_names[0] == "n"


def test_the_configuration_that_timm_writes_beside_the_weights_is_taken(net, tmp_path):
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    stored = {"label_names": list(LETTERS), "pretrained_cfg": {"mean": [0.1, 0.2, 0.3]}}
    (tmp_path / "config.json").write_text(json.dumps(stored | {"global_pool": "token"}))
    vit = load_model(NAME, tmp_path)
    assert "".join(vit.class_names) == LETTERS
    assert vit.preprocess.mean == (0.1, 0.2, 0.3)
    x = torch.randn(1, 3, 160, 160)
    assert torch.equal(vit.module(x), net.eval()(x))


@pytest.mark.parametrize("norm", [False, True])
def test_a_classifier_in_parts_is_loaded_or_named(norm, tmp_path):
    net = timm.create_model(NAME, num_classes=10)
    before = nn.BatchNorm1d(net.num_features) if norm else nn.Dropout()
    net.head = nn.Sequential(before, nn.Linear(net.num_features, 4))
    torch.save({"model": net.state_dict()}, tmp_path / "w.pth")
    if norm:
        with pytest.raises(ValueError, match=r"'w.pth' is a Sequential.*wrap_model\(network\)"):
            load_model(NAME, tmp_path / "w.pth")
    else:
        x = torch.randn(1, 3, 160, 160)
        assert torch.equal(load_model(NAME, tmp_path / "w.pth").module(x), net.eval()(x))


def test_the_pooling_of_the_trainer_is_taken(tmp_path):
    net = timm.create_model(NAME, num_classes=3, global_pool="avg", fc_norm=False)
    arguments = argparse.Namespace(gp="avg")
    torch.save({"state_dict": net.state_dict(), "args": arguments}, tmp_path / "w.pth")
    x = torch.randn(1, 3, 160, 160)
    assert torch.equal(load_model(NAME, tmp_path / "w.pth").module(x), net.eval()(x))


def test_digests_follow_names_types_shapes_and_values(net, tmp_path):
    state = {"b": torch.arange(4.0), "a": torch.ones(2, dtype=torch.bfloat16)}
    expected = hashlib.sha256()
    expected.update(b"a" + b"torch.bfloat16(2,)" + bytes([0x80, 0x3F] * 2))
    expected.update(b"b" + b"torch.float32(4,)" + torch.arange(4.0).numpy().tobytes())
    assert state_digest(state) == expected.hexdigest()
    assert state_digest(dict(reversed(state.items()))) == state_digest(state)
    for other in (
        state | {"b": torch.arange(4.0).reshape(2, 2)},
        state | {"b": torch.arange(4.0).double()},
        {"c": state["b"], "a": state["a"]},
        state | {"a": -state["a"]},
    ):
        assert state_digest(other) != state_digest(state)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    assert load_model(NAME, tmp_path / "w.pth").weights_sha256 == sha256(tmp_path / "w.pth")
