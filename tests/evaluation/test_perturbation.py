"""Perturbation against plain loops and against models whose exact answer is known."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SHAPES, pictures, tiny
from torch.utils._python_dispatch import TorchDispatchMode

from attnguide import explain, perturb
from attnguide.evaluation.engines import Engine, paths, prepare
from attnguide.evaluation.fills import filled
from attnguide.evaluation.metrics import area_under_curve
from attnguide.evaluation.perturbation import FRACTIONS, perturb_many, rank_patches


def counting_model(weight):
    """Logit of class 0 = sum over patches of weight x (patch is not filled); class 1 = 0."""

    def model(images):
        kept = (torch.nn.functional.avg_pool2d(images[:, :1], 2).flatten(1) > 0.5).float()
        score = kept @ weight
        return torch.stack([score, torch.zeros_like(score)], 1)

    return model


def test_exact_area_on_a_model_with_a_known_answer():
    """Ten patches, one counts: correct until it is filled."""
    weight = torch.zeros(10)
    weight[3] = 1
    images = torch.ones(1, 3, 4, 10)
    relevance = weight.view(1, 2, 5)
    fractions = [i / 10 for i in range(11)]
    run = lambda order: perturb(  # noqa: E731
        counting_model(weight), images, relevance, 0, order=order, fractions=fractions
    )
    # class 0 wins at a score of 1, and by the lower index at a tie: count probabilities instead
    p1, p0 = 1 / (1 + torch.e**-1), 0.5
    first, last = run("positive"), run("negative")
    assert first.auc("probability") == pytest.approx(100 * (0.05 * (p1 + p0) + 0.9 * p0), abs=1e-4)
    assert last.auc("probability") == pytest.approx(100 * (0.9 * p1 + 0.05 * (p1 + p0)), abs=1e-4)
    assert first.probability[0].tolist() == pytest.approx([p1] + [p0] * 10)
    assert last.higher_is_better
    assert not first.higher_is_better


def test_positive_is_worst_negative_is_best_random_between():
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(36, generator=generator) - 0.3
    images = torch.ones(1, 3, 12, 12)
    model = counting_model(weight)
    best = perturb_many(model, images, {"w": weight.view(1, 6, 6)}, 0)
    random = [
        perturb(model, images, torch.rand(1, 6, 6, generator=generator), 0).auc("probability")
        for _ in range(50)
    ]
    assert best["w", "positive"].auc("probability") < min(random)
    assert best["w", "negative"].auc("probability") > max(random)


@pytest.mark.parametrize(
    ("shape", "fill"),
    [
        *((shape, "zero") for shape in SHAPES),
        *(("non_square", fill) for fill in ("black", "mean", "blur", 0.7)),
    ],
)
def test_equals_the_plain_loop_over_pixels(shape, fill):
    vit = tiny(shape, dtype=torch.float64)
    images = pictures(vit, 3)
    generator = torch.Generator().manual_seed(3)
    relevance = torch.rand(3, *vit.grid, generator=generator)
    curves = perturb_many(
        vit, images, {"r": relevance}, [0, 1, 2], fill=fill, engine=Engine(chunk=5)
    )
    replacement = filled(images, fill, vit.preprocess, 4)
    patches = vit.grid[0] * vit.grid[1]
    for order in ("positive", "negative"):
        for image in range(3):
            values = relevance[image].flatten().tolist()
            sign = -1 if order == "positive" else 1
            ranked = sorted(range(patches), key=lambda p: (sign * values[p], p))
            for step, fraction in enumerate(FRACTIONS):
                masked = images[image].clone()
                for patch in ranked[: int(fraction * patches + 0.5)]:
                    row, col = divmod(patch, vit.grid[1])
                    area = (slice(4 * row, 4 * row + 4), slice(4 * col, 4 * col + 4))
                    masked[:, area[0], area[1]] = replacement[image][:, area[0], area[1]]
                with torch.no_grad():
                    logits = vit.module(masked.unsqueeze(0))[0]
                curve = curves["r", order]
                torch.testing.assert_close(curve.logit[image, step], logits[image])
                assert curve.correct[image, step] == (logits.argmax() == image)
                assert curve.prediction[image, step] == logits.argmax()
                torch.testing.assert_close(
                    curve.probability[image, step], logits.softmax(-1)[image]
                )


def test_tokens_are_masked_where_it_is_exact_and_pixels_elsewhere():
    vit = tiny()
    assert paths(vit) == ("pixels", "tokens", "last block")
    vit.module.patch_embed.proj.stride = (2, 2)
    assert paths(vit) == ("pixels",)


def test_no_image_is_forwarded_twice():
    """9 distinct masks per order, and one clean image for both."""
    count = []

    def model(images):
        count.append(len(images))
        return torch.zeros(len(images), 2)

    relevance = torch.rand(2, 4, 4)
    perturb_many(model, torch.ones(2, 3, 16, 16), {"a": relevance}, 0)
    assert sum(count) == 2 * (1 + 9 + 9)


def test_ties_go_by_position():
    flat = torch.zeros(1, 6)
    assert rank_patches(flat, "positive").tolist() == [[0, 1, 2, 3, 4, 5]]
    assert rank_patches(flat, "negative").tolist() == [[0, 1, 2, 3, 4, 5]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30, unique=True))
def test_ranking_survives_rescaling_and_mirrors(values):
    relevance = torch.tensor(values, dtype=torch.float64)
    positive = rank_patches(relevance, "positive")
    assert positive.tolist() == rank_patches(relevance * 3 + 7, "positive").tolist()
    assert positive.tolist() == rank_patches(-relevance, "negative").tolist()
    assert positive.tolist() == sorted(range(len(values)), key=lambda i: -values[i])


@given(st.floats(0, 1), st.integers(2, 12))
def test_a_constant_curve_has_itself_as_area(value, steps):
    fraction = torch.linspace(0, 0.9, steps)
    assert float(area_under_curve(fraction, torch.full((steps,), value))) == pytest.approx(value)


def test_a_model_in_training_mode_is_evaluated_and_given_back():
    vit = tiny(proj_drop_rate=0.5, drop_path_rate=0.5, pos_drop_rate=0.5)
    vit.module.eval()
    images, relevance = pictures(vit, 2), torch.rand(2, *vit.grid)
    plain = perturb(vit, images, relevance, 0)
    vit.module.train()
    vit.module.blocks[0].eval()
    assert torch.equal(perturb(vit, images, relevance, 0).logit, plain.logit)
    assert vit.module.training
    assert not vit.module.blocks[0].training
    assert all(parameter.requires_grad for parameter in vit.module.parameters())
    dropping = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5))
    images, relevance = torch.rand(2, 3, 8, 8), torch.rand(2, 2, 2)
    first = perturb(dropping, images, relevance, 0)
    assert torch.equal(first.logit, perturb(dropping, images, relevance, 0).logit)
    assert dropping.training


def test_perturb_takes_what_explain_takes(capsys):
    vit = tiny()
    images = pictures(vit, 2)
    explanation = explain(vit, images, ["class 3", "class 1"])
    ours = perturb(vit, images, explanation, ["class 3", "class 1"])
    assert capsys.readouterr().err == ""
    plain = perturb(vit, images, explanation.relevance, torch.tensor([3, 1]), progress=True)
    assert "perturb: 100%" in capsys.readouterr().err
    assert torch.equal(ours.logit, plain.logit)
    one = perturb(vit, images[0], explain(vit, images[0], "class 3"), "class 3")
    torch.testing.assert_close(one.logit[0], ours.logit[0])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"images": torch.zeros(2, 3, 16, 16).byte()}, TypeError, "normalised .*, got torch.uint8"),
        ({"relevance": torch.zeros(2, 2, 2)}, ValueError, "are 4 x 4, the relevance is 2 x 2"),
        ({"relevance": torch.zeros(2, 3, 4, 4)}, ValueError, r"must be \(B, rows, cols\)"),
        ({"relevance": [[0.0]]}, TypeError, "a Tensor .* or an Explanation, got list"),
        ({"label": "zebra"}, ValueError, "unknown class 'zebra'"),
        ({"label": [1, 5]}, ValueError, r"must lie in \[0, 4\]"),
        ({"label": [1, 2, 3]}, ValueError, "one class or one per image"),
        ({"order": "up"}, ValueError, "unknown order"),
        ({"fill": "white"}, ValueError, "unknown fill"),
        ({"fractions": [0, 1.5]}, ValueError, r"within \[0, 1\]"),
        ({"fractions": [0.5, 0.1]}, ValueError, "must increase"),
        ({"relevance": torch.full((2, 4, 4), torch.nan)}, ValueError, "NaN"),
    ],
)
def test_what_perturb_does_not_take(change, kind, message):
    vit = tiny()
    given = {"images": pictures(vit, 2), "relevance": torch.zeros(2, 4, 4), "label": 0} | change
    with pytest.raises(kind, match=message):
        perturb(vit, **given)


def test_logits_that_are_not_finite_are_refused():
    model = lambda images: images.mean((-2, -1)) / 0  # noqa: E731
    with pytest.raises(ValueError, match="NaN or infinite logits"):
        perturb(model, torch.ones(1, 3, 8, 8), torch.rand(1, 2, 2), 0)
    with pytest.raises(ValueError, match="only a ViT knows"):
        perturb(model, torch.ones(1, 3, 8, 8), torch.rand(1, 2, 2), "zebra")


def record(images):
    """As networks of HuggingFace answer."""
    return {"logits": images.mean((-2, -1))}


@pytest.mark.parametrize("given", [None, "creatures", lambda images: images.mean(-1), record])
def test_what_gives_no_logits_is_told_where_to_go(given):
    """As `explain` says it."""
    for door in (explain, partial(perturb, relevance=torch.rand(1, 2, 2), label=0)):
        with pytest.raises(TypeError, match=r"expected a ViT, got .*; pass wrap_model\(network\)"):
            door(given, torch.ones(1, 3, 8, 8))


class Waiting(TorchDispatchMode):
    """Counts the operations that make the host wait for a device."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal")

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        boolean = name == "index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in self.NAMES or boolean:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("fill", ["zero", "black", "mean", "blur", "drop"])
@pytest.mark.parametrize("precision", [None, "bf16"])
def test_nothing_needs_the_value_of_a_tensor(fill, precision):
    """What would wait for a GPU, counted on any device."""
    vit = tiny()
    images, maps = pictures(vit, 3), {"a": torch.rand(3, *vit.grid), "b": torch.rand(3, *vit.grid)}
    ready = prepare(vit, Engine(precision=precision))
    with Waiting() as counted:
        settings = {"fill": fill, "engine": ready}
        perturb_many(vit, images, maps, torch.tensor([0, 1, 2]), **settings, check_finite=False)
    assert counted.waits == []
    with Waiting() as counted:
        perturb_many(vit, images, maps, torch.tensor([0, 1, 2]), **settings)
    assert "_local_scalar_dense" in counted.waits


def scaled(vit):
    for block in vit.module.blocks:
        block.attn.scale *= 3


def hooked(vit):
    vit.module.blocks[0].register_forward_hook(lambda *args: args[2] * 1.5)


def replaced(vit):
    vit.module.blocks[1].mlp.forward = lambda x: 3 * x


def compensated(vit):
    vit.module.forward = lambda x, own=vit.module.forward: 2 * own(x)


@pytest.mark.parametrize("change", [scaled, hooked, replaced, compensated])
def test_a_network_that_does_more_than_its_parts_say_is_its_own_or_refused(change):
    """Also where it was changed after a first explanation."""
    vit = tiny()
    images, relevance = pictures(vit), torch.rand(3, *vit.grid)
    explain(vit, images, 1)
    perturb(vit, images, relevance, 1, order="positive")
    change(vit)
    with torch.no_grad():
        own = vit.logits(images)
    for door in (
        lambda: (explain(vit, images, 1).logits, own),
        lambda: (
            perturb(vit, images, relevance, torch.arange(3), order="positive").logit[:, 0],
            own.diagonal(),
        ),
    ):
        if not refuses(door):
            got, expected = door()
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def refuses(door):
    """Whether it says that the logits are not the network's own."""
    try:
        door()
    except ValueError as error:
        return "other logits by itself" in str(error)
    return False


@pytest.mark.parametrize("label", [5, -1])
def test_a_label_that_is_no_class_is_one_line(label):
    vit = tiny()
    with pytest.raises(ValueError, match="from 0 to 4, got"):
        perturb(vit, pictures(vit), torch.rand(3, 4, 4), torch.tensor([label, 0, 1]),
                order="positive")  # fmt: skip
