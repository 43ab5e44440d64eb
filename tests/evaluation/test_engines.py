"""Every way to compute masked images against the plain one."""

import sys
from dataclasses import replace

import pytest
import torch
from tiny import SHAPES, pictures, tiny

from attnguide import perturb
from attnguide.evaluation import engines
from attnguide.evaluation.engines import Engine, prepare
from attnguide.evaluation.perturbation import perturb_many

FIELDS = ("logit", "probability", "correct", "prediction")


def study(vit, count=2, engine=None, fill="zero", **kwargs):
    relevance = torch.rand(count, *vit.grid, generator=torch.Generator().manual_seed(5))
    return perturb_many(
        vit, pictures(vit, count), {"r": relevance}, [0, 1, 2, 3][:count], engine=engine, fill=fill,
        **kwargs,
    )  # fmt: skip


def assert_same(ours, plain, **tolerance):
    assert ours.keys() == plain.keys()
    for key in plain:
        for name in FIELDS:
            torch.testing.assert_close(
                getattr(ours[key], name), getattr(plain[key], name), **tolerance
            )


@pytest.mark.parametrize("path", ["pixels", "tokens", "last block"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_path_gives_the_same(shape, path):
    vit = tiny(shape, dtype=torch.float64)
    if path not in engines.paths(vit):
        with pytest.raises(ValueError, match="is not exact for this model, which takes pixels"):
            prepare(vit, Engine(path=path))
        return
    assert prepare(vit, Engine(path=path)).description.endswith(path)
    assert_same(study(vit, engine=Engine(path=path)), study(vit, engine=Engine(path="pixels")))


def test_networks_with_parts_of_their_own_run_as_they_are():
    vit = tiny("qk_norm", dtype=torch.float64)
    assert prepare(vit).network.path == "pixels"
    vit = tiny(dtype=torch.float64)
    assert prepare(vit).network.path == "last block"
    plain = study(vit)["r", "positive"]
    block = vit.module.blocks[-1]
    block.forward = lambda x, f=block.forward: f(x) - x / 2
    changed = study(vit)["r", "positive"]
    assert prepare(vit).network.path == "pixels"
    assert not torch.isclose(changed.logit, plain.logit).any()


def test_the_engine_says_what_it_chose():
    vit = tiny()
    assert prepare(vit).description == "torch model's precision, last block"
    assert prepare(vit, Engine(precision="bf16")).description == "torch bf16, last block"
    model = lambda x: x.mean((-2, -1))  # noqa: E731
    assert prepare(model, Engine(precision="fp32")).description == "torch fp32, pixels"


def test_bf16_uses_weights_converted_once_and_leaves_the_model_alone():
    vit = tiny()
    before = {name: tensor.clone() for name, tensor in vit.module.state_dict().items()}
    ready = prepare(vit, Engine(precision="bf16"))
    half, full = study(vit, engine=ready), study(vit)
    assert ready.vit.dtype == torch.bfloat16
    assert vit.dtype == torch.float32
    for name, tensor in vit.module.state_dict().items():
        assert torch.equal(tensor, before[name])
    copy = replace(vit, module=ready.vit.module)
    relevance = torch.rand(2, *vit.grid, generator=torch.Generator().manual_seed(5))
    plain = perturb_many(copy, pictures(vit, 2), {"r": relevance}, [0, 1])
    assert_same(half, plain)
    curve = half["r", "positive"]
    assert curve.logit.dtype == torch.float32
    assert 0 < (curve.logit - full["r", "positive"].logit).abs().max() < 0.5


def test_a_stated_precision_is_not_changed_by_an_autocast_around_it():
    vit = tiny()
    plain = study(vit)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(study(vit, engine=Engine(precision="fp32")), plain, rtol=0, atol=0)
        rounded = study(vit)["r", "positive"].logit
    assert not torch.equal(rounded, plain["r", "positive"].logit)


def test_precision_of_products_is_given_back():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    inside = []

    def model(images):
        inside.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return images.mean((-2, -1))

    images, relevance = torch.rand(1, 3, 8, 8), torch.rand(1, 2, 2)
    for precision in ("fp32", "tf32"):
        perturb(model, images, relevance, 0, engine=Engine(precision=precision))
    assert set(inside) == {("highest", False), ("high", True)}
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize("shape", ["class_token", "registers", "average", "qk_norm", "distilled"])
def test_dropped_tokens_take_no_part(shape):
    vit = tiny(shape, dtype=torch.float64)
    fractions = [0, 0.25, 0.5, 0.9]
    curves = study(vit, fill="drop", fractions=fractions, engine=Engine(chunk=3))
    relevance = torch.rand(2, *vit.grid, generator=torch.Generator().manual_seed(5))
    module, images = vit.module, pictures(vit, 2)
    for order in ("positive", "negative"):
        for index in range(2):
            ranked = relevance[index].flatten().argsort(descending=order == "positive", stable=True)
            for step, count in enumerate([0, 4, 8, 14]):
                kept = sorted(ranked[count:].tolist())
                with torch.no_grad():
                    x = module._pos_embed(module.patch_embed(images[index : index + 1]))
                    x = torch.cat([x[:, : vit.num_prefix], x[:, vit.num_prefix :][:, kept]], 1)
                    logits = module.forward_head(module.norm(module.blocks(module.norm_pre(x))))
                got = curves["r", order]
                torch.testing.assert_close(got.logit[index, step], logits[0, index])
                assert got.prediction[index, step] == logits.argmax()


def test_drop_is_refused_where_it_is_not_defined():
    vit = tiny()
    with pytest.raises(ValueError, match="removes tokens of a ViT, got function"):
        perturb(lambda x: x.mean((-2, -1)), torch.rand(1, 3, 8, 8), torch.rand(1, 2, 2), 0,
                fill="drop")  # fmt: skip
    vit.module.blocks[1].attn.rel_pos = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"depends on their places.*use fill='zero'"):
        study(vit, fill="drop")
    with pytest.raises(ValueError, match="leaves nothing that the head of tiny average reads"):
        study(tiny("average"), fill="drop", fractions=[0, 1])
    alone = study(tiny(), fill="drop", fractions=[0, 1])["r", "positive"]
    assert torch.isfinite(alone.logit).all()


@pytest.mark.parametrize(
    ("shape", "fill"),
    [
        ("class_token", "linear"),
        ("registers", "drop"),
        ("qk_norm", "zero"),
    ],
)
@pytest.mark.usefixtures("openvino")
def test_openvino_gives_the_same(shape, fill):
    vit = tiny(shape)
    ready = prepare(vit, Engine(backend="openvino", chunk=5))
    assert ready.backend == "openvino"
    assert ready.description.startswith("openvino model's precision")
    telemetry = sys.modules["openvino.tools.ovc.telemetry_utils"].tm  # what sends nothing
    assert telemetry.__name__ == "openvino.tools.ovc.telemetry_stub"
    for count in (3, 1):
        ours, plain = (study(vit, count, fill=fill, engine=e) for e in (ready, None))
        assert_same(ours, plain, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("openvino")
def test_openvino_that_does_not_fit_is_said_once_and_torch_goes_on():
    vit = tiny(dtype=torch.float64)
    with pytest.warns(UserWarning, match="does not fit OpenVINO.*float64.*torch computes"):
        ready = prepare(vit, Engine(backend="openvino"))
    assert ready.backend == "torch"
    assert_same(study(vit, engine=ready), study(vit), rtol=0, atol=0)


def test_openvino_is_refused_where_it_is_not_installed_and_auto_takes_torch():
    with pytest.raises(ValueError, match=r"pip install 'attnguide\[openvino\]'"):
        Engine(backend="openvino")
    ready = prepare(tiny(), Engine(backend="auto"))
    study(ready.source, engine=ready)
    assert (ready.backend, ready.trial) == ("torch", {})
    with pytest.raises(ValueError, match="needs the package openvino"):
        ready.choose(torch.empty(0), {"torch": 2.0, "openvino": 1.0})  # another process's trial


@pytest.mark.parametrize(
    ("slow", "wrong", "chosen"),
    [("torch", False, "openvino"), ("openvino", False, "torch"), ("torch", True, "torch")],
)
def test_auto_takes_the_fastest_that_gives_the_same_answers(monkeypatch, slow, wrong, chosen):
    vit = tiny()
    monkeypatch.setattr(engines, "is_installed", lambda: True)
    ready = prepare(vit, Engine(backend="auto", chunk=3))
    plain, clock = ready.network.leave, [0.0]

    def taking(seconds, sign=1):
        return lambda x: clock.__setitem__(0, clock[0] + seconds) or sign * plain(x)

    ready.network = replace(ready.network, leave=taking(6 if slow == "torch" else 3))
    other = taking(6 if slow == "openvino" else 3, -1 if wrong else 1)
    monkeypatch.setattr(engines, "openvino_leave", lambda *_, **__: other)
    monkeypatch.setattr(engines.time, "perf_counter", lambda: clock[0])
    trial = ready.choose(pictures(vit, 2))
    assert ready.backend == chosen
    assert trial == {"torch": 6 / 3 if slow == "torch" else 1} | (
        {} if wrong else {"openvino": 2 if slow == "openvino" else 1}
    )
    assert ready.description.endswith("last block" if wrong else f"2.00 times as fast as {slow}")
    spent = clock[0]
    study(vit, engine=ready)  # chosen once
    assert ready.choose(pictures(vit, 2)) == trial
    again = prepare(vit, Engine(backend="auto", chunk=3))
    again.choose(pictures(vit, 2), trial)
    assert (again.backend, again.trial) == (chosen, trial)
    assert clock[0] > spent


@pytest.mark.slow
def test_compiled_gives_the_same():
    vit = tiny()
    ready = prepare(vit, Engine(compile=True, chunk=8))
    assert ready.description == "torch model's precision compiled, last block"
    for count in (1, 3):
        assert_same(study(vit, count, engine=ready), study(vit, count), rtol=0, atol=1e-4)
    drop = study(vit, engine=ready, fill="drop")
    assert_same(drop, study(vit, fill="drop"), rtol=0, atol=1e-4)


def test_one_shape_for_compilers_and_the_rest_cut_away(monkeypatch):
    seen = []

    def compile_(module, **_):
        return lambda x: seen.append(tuple(x.shape)) or module(x)

    monkeypatch.setattr(torch, "compile", compile_)
    vit = tiny()
    assert_same(study(vit, engine=Engine(compile=True, chunk=6)), study(vit), rtol=0, atol=1e-6)
    assert set(seen) == {(6, 17, 24)}


def test_compile_without_a_compiler_is_one_line(monkeypatch):
    def missing(module, **_):
        def run(x):
            raise RuntimeError("InvalidCxxCompiler:\n no working C++ compiler")

        return run

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(ValueError, match="compile=true did not work here") as error:
        prepare(tiny(), Engine(compile=True))
    assert "\n" not in str(error.value)


def test_out_of_memory_halves_the_chunk_once_and_then_says_what_to_do():
    sizes = []

    def model(images, limit):
        sizes.append(len(images))
        if len(images) > limit:
            raise torch.OutOfMemoryError("no memory")
        return images.mean((-2, -1))

    images, relevance = torch.rand(4, 3, 8, 8), torch.rand(4, 2, 2)
    run = lambda limit: perturb(  # noqa: E731
        lambda x: model(x, limit), images, relevance, 0, engine=Engine(chunk=8)
    )
    with pytest.warns(UserWarning, match="going on with 4 masked images at a time"):
        halved = run(4)
    assert max(sizes[1:]) == 4
    assert torch.equal(halved.logit, run(100).logit)
    with (
        pytest.warns(UserWarning, match="going on with 4"),
        pytest.raises(ValueError, match="out of memory with 4 masked images.*batch_size=2"),
    ):
        run(2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, "unknown precision 'fp16'.*fp32, tf32, bf16"),
        ({"backend": "onnx"}, "unknown backend 'onnx'"),
        ({"path": "patches"}, "unknown path 'patches'"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"compile": True, "backend": "openvino"}, "choose one"),
    ],
)
def test_engines_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Engine(**settings)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Engine(compile=True), "compile=true takes a ViT"),
        (Engine(precision="bf16"), "precision='bf16' takes a ViT"),
        (Engine(path="tokens"), "path='tokens' is not exact"),
    ],
)
def test_what_a_plain_callable_cannot_take(engine, message):
    with pytest.raises(ValueError, match=message):
        prepare(lambda x: x.mean((-2, -1)), engine)


def test_an_engine_belongs_to_its_model():
    ready = prepare(tiny())
    with pytest.raises(ValueError, match="prepared for another model"):
        study(tiny(), engine=ready)
