"""Weights as trainers write them: read, or refused with the cause and the way."""

import argparse
import hashlib
import logging
import re

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
    "teacher": lambda s: {"student": zeros(s), "teacher": prefixed("backbone.", s)},
    "classifier beside the backbone": lambda s: {
        key if key.startswith("head.") else f"backbone.{key}": value for key, value in s.items()},
    "timm's training": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=1)},
    "average": lambda s: {"state_dict": zeros(s), "state_dict_ema": s},
    "no average": lambda s: {"state_dict": s, "state_dict_ema": None},
    "average of a model": lambda s: {"model": zeros(s), "model_ema": prefixed("module.", s)},
    "average in one dict": lambda s: prefixed("model.", zeros(s)) | prefixed("ema_model.", s),
    "parameters": lambda s: {key: nn.Parameter(value) for key, value in s.items()},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_trainer_is_read(form, net, tmp_path):
    torch.save(FORMS[form](net.state_dict()), tmp_path / "w.pth")
    vit = load_model(NAME, tmp_path / "w.pth")
    for key, value in net.state_dict().items():
        assert torch.equal(vit.module.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("average", "the average 'state_dict_ema' is taken, not 'state_dict'"),
        (
            "Lightning",
            r"the weights under 'model.' are taken; 1 other weights left out \(loss.weight\)",
        ),
        ("average in one dict", "the weights under 'ema_model.' are taken"),
    ],
)
def test_what_was_chosen_is_told_once(form, told, net, tmp_path, caplog):
    torch.save(FORMS[form](net.state_dict()), tmp_path / "w.pth")
    with caplog.at_level(logging.WARNING):
        read_weights(tmp_path / "w.pth")
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
    assert re.search(told, caplog.text)


def test_the_content_counts_and_not_the_ending(net, tmp_path):
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "renamed.pth").write_bytes((tmp_path / "model.safetensors").read_bytes())
    torch.save(net.state_dict(), tmp_path / "pickled.safetensors")
    for path in ("model.safetensors", "renamed.pth", "pickled.safetensors", "."):
        assert torch.equal(read_weights(tmp_path / path)["head.bias"], net.head.bias)


REFUSED = {
    "empty": (lambda p, _: p.write_bytes(b""), "empty"),
    "pointer": (
        lambda p, _: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "git lfs pull"),
    "a page": (lambda p, _: p.write_text("<!DOCTYPE html>"), "download failed"),
    "Keras": (lambda p, _: p.write_bytes(b"\x89HDF\r\n"), "HDF5"),
    "a list": (lambda p, s: torch.save([s], p), "holds a list, expected a state dict"),
    "a tensor": (lambda p, _: torch.save(torch.zeros(3), p), "holds a Tensor"),
    "no weights": (lambda p, _: torch.save({"epoch": 3, "lr": 0.1}, p), "it holds epoch, lr"),
    "a network": (
        lambda p, _: torch.save(timm.create_model(NAME), p), "never run.*state_dict"),
    "two networks": (
        lambda p, s: torch.save(prefixed("a.", s) | prefixed("b.", s), p), "several networks"),
    "features": (
        lambda p, s: torch.save({k: v for k, v in s.items() if "head" not in k}, p),
        "hold no classifier"),
    "HuggingFace's": (
        lambda p, _: torch.save(
            {"vit.embeddings.patch_embeddings.projection.weight": torch.ones(1)}, p),
        "names in 'w.pth' are HuggingFace's; pass the folder"),
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
