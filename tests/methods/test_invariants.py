"""What must hold for every method, whatever it is: a new file in `methods` is checked by itself."""

import pytest
import torch
from method_checks import (
    check_batch_and_precision,
    check_head_order,
    check_many_targets,
    check_refused,
    check_untouched,
    counted,
)
from timm.models.vision_transformer import ParallelScalingBlock
from tiny import pictures, tiny

from attnguide import describe_methods, explain, list_methods
from attnguide.methods import class_blind_methods

# Fewer samples than published, and layers that a network of three has.
FAST = {
    "bi_head": {"start_layer": 2, "steps": 4},
    "bi_token": {"start_layer": 2, "steps": 4},
    "dix": {"steps": 3},
    "integrated_gradients": {"steps": 3},
    "smoothgrad": {"samples": 3},
    "tam": {"start_layer": 1, "steps": 4},
    "tis": {"n_masks": 12},
}
FORMS = [(name, FAST.get(name, {})) for name in list_methods()]
FORMS += [
    ("attcat", {"attention": False}),
    ("complete", {"gradient": "libra"}),
    ("cp_lrp", {"gamma": 0.05}),
    ("grad_eclip", {"heads": "multi"}),
    ("legrad", {"layers": None}),
    ("rollout", {"normalize": True}),
    ("smoothgrad", {"samples": 3, "times_input": True}),
]
# They differ in what the head reads and in the grid; definitions are tested on all `SHAPES`.
KINDS = {"distilled": {}, "average": {"img_size": (16, 32)}}
ILL_CONDITIONED = ("lrp", "t_attr")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*found no positive evidence"),
    pytest.mark.filterwarnings("ignore:.*ill-conditioned in float32"),
]


@pytest.mark.parametrize(("method", "settings"), FORMS)
def test_a_batch_equals_one_by_one_on_every_kind_of_model(method, settings):
    for shape, size in KINDS.items():
        if (method, shape) != ("grad_eclip", "average"):
            precise = method not in ILL_CONDITIONED
            check_batch_and_precision(method, shape, size, precise=precise, **settings)


@pytest.mark.parametrize(("method", "settings"), FORMS)
def test_targets_heads_and_what_is_left_behind(method, settings):
    if method not in class_blind_methods():
        check_many_targets(method, **settings)
    check_head_order(method, **settings)
    check_untouched(method, **settings)


@pytest.mark.parametrize("method", ["absolute", "bi_head", "bi_token", "complete", "gae", "tam"])
def test_zero_gradient_gives_zero_relevance(method):
    vit = tiny(dtype=torch.float64, depth=3)
    vit.module.head.weight.data.zero_()
    settings = FAST.get(method, {})
    assert explain(vit, pictures(vit), 0, method=method, **settings).relevance.abs().max() == 0


@pytest.mark.parametrize(
    ("method", "settings", "forwards", "further"),
    [
        ("input_x_gradient", {}, 1, 0),
        ("attcat", {}, 1, 0),
        ("cdam", {}, 2, 0),
        ("legrad", {}, 2, 0),
        ("cp_lrp", {}, 3, 0),  # two recorded passes, each compared
        ("cp_lrp", {"gamma": 0.1}, 2, 0),
        ("attn_lrp", {}, 2, 0),
        *((name, {}, 2, 0) for name in ("gradcam", "layercam", "t_attr", "lrp", "partial_lrp")),
        ("grad_eclip", {"heads": "single"}, 2, 0),
        ("grad_eclip", {"heads": "multi"}, 1, 0),
        ("vit_cx", {}, 4, 0),  # masks, two per chunk, the image itself
        ("integrated_gradients", {"steps": 9}, 1 + 2, 2),  # 8 images in a pass at most
        ("smoothgrad", {"samples": 3}, 1 + 1, 1),
    ],
)
def test_forward_passes_of_one_target_and_of_each_further_one(method, settings, forwards, further):
    vit = tiny(depth=3)
    for targets in ([[1]], [[0, 1, 2]]):
        with counted(vit) as calls:
            explain(vit, pictures(vit, 1), torch.tensor(targets), method=method, **settings)
        compared = 1  # one image, by the network itself
        assert len(calls) == compared + forwards + further * (len(targets[0]) - 1)


NAN = float("nan")
BAD_SETTINGS = [
    ("bi_head", {"start_layer": 0}, r"start_layer of bi_head must lie in \[1, 3\].*got 0"),
    ("tam", {"start_layer": 3}, r"start_layer of tam must lie in \[0, 2\].*got 3"),
    ("tam", {"start_layer": 0, "steps": 1}, "steps of tam must be an integer, at least 2, got 1"),
    ("dix", {"layers": 4}, r"layers of dix must lie in \[1, 3\].*got 4"),
    ("dix", {"steps": 0}, "steps of dix must be an integer, at least 1, got 0"),
    ("lrp", {"start_layer": 3}, r"start_layer must lie in \[0, 2\].*got 3"),
    ("lrp", {"pixels": True, "start_layer": 1}, "pixels=True needs start_layer=0, got 1"),
    ("grad_eclip", {"heads": "both"}, "unknown heads of grad_eclip 'both'.*known: single, multi"),
    *(
        (method, {"layer": layer}, rf"layer must be an integer in \[-3, 2\], got {layer}")
        for method in ("gradcam", "layercam")
        for layer in (3, -4, 0.5)
    ),
    ("tis", {"n_masks": 73}, r"n_masks of tis must lie in \[1, 72\].*3 layers x 24.*got 73"),
    *(
        ("tis", {"n_masks": 9, "tokens_ratio": ratio}, rf"tokens_ratio of tis.*got {ratio}")
        for ratio in (0, 1.01, 0.05)
    ),
    ("tis", {"seed": -1}, "seed of tis.*got -1"),
    ("tis", {"batch_size": 0}, "batch_size of tis.*got 0"),
    ("vit_cx", {"noise": NAN}, "noise of vit_cx.*got nan"),
    ("vit_cx", {"distance_threshold": 1.5}, r"must lie in \[0, 1\].*got 1.5"),
    ("vit_cx", {"seed": 1.5}, "seed of vit_cx.*got 1.5"),
    ("vit_cx", {"batch_size": 0}, "batch_size of vit_cx.*got 0"),
    ("integrated_gradients", {"steps": 0}, "steps of integrated_gradients must be an integer, at"),
    ("integrated_gradients", {"quadrature": "midpiont"}, "did you mean midpoint"),
    ("integrated_gradients", {"baseline": torch.zeros(4, 4)}, r"\(3, 16, 16\).*got \(4, 4\)"),
    ("integrated_gradients", {"baseline": "grey"}, "must be a finite number or Tensor.*'grey'"),
    ("integrated_gradients", {"baseline": NAN}, "must be a finite number.*got nan"),
    ("smoothgrad", {"samples": 0}, "samples of smoothgrad must be an integer, at least 1"),
    ("smoothgrad", {"noise": -0.1}, "zero or more, got -0.1"),
    ("smoothgrad", {"seed": -1}, "seed of smoothgrad"),
    (
        "smoothgrad",
        {"noise_tensor": torch.zeros(2, 3, 16, 16)},
        r"\(16, 3, 16, 16\), got \(2, 3, 16, 16\)",
    ),
    ("smoothgrad", {"noise_tensor": [1.0]}, "must be a Tensor.*got list"),
    ("cp_lrp", {"gamma": -0.1}, "gamma of cp_lrp must be zero or more, got -0.1"),
    ("cp_lrp", {"gamma": 0.1, "gamma_conv": -1}, "gamma_conv of cp_lrp must be zero or more"),
    ("legrad", {"layers": 0}, r"layers of legrad must be an integer in \[1, 3\].*got 0"),
    ("legrad", {"layers": 4}, "or None for all, got 4"),
    ("attcat", {"gradient": "libre"}, "unknown gradient 'libre'; did you mean libra"),
    ("input_x_gradient", {"gradient": "raw"}, "known: plain, libra"),
]


@pytest.mark.parametrize(("method", "settings", "message"), BAD_SETTINGS)
def test_bad_settings_are_refused_before_the_forward_pass(method, settings, message):
    check_refused(method, message, **settings)


@pytest.mark.parametrize(
    ("method", "shape", "changes", "message"),
    [
        ("grad_eclip", "average", {}, "tiny average reads the mean.*global_pool"),
        ("grad_eclip", "average_with_class", {}, "average_with_class reads the mean.*global_pool"),
        *(
            (method, "class_token", {"block_fn": ParallelScalingBlock}, message)
            for method, message in (
                ("cdam", "cdam.*ParallelScalingBlock"),
                ("gradcam", "gradcam.*tiny class_token is a ParallelScalingBlock"),
                ("layercam", "layercam.*tiny class_token is a ParallelScalingBlock"),
            )
        ),
        *(
            (method, shape, changes, message)
            for method in ("t_attr", "lrp", "partial_lrp")
            for shape, changes, message in (
                ("qk_norm", {}, f"{method}.*tiny qk_norm.*qk-norm.*gradcam"),
                (
                    "class_token",
                    {"block_fn": ParallelScalingBlock},
                    "block 0 has type ParallelScalingBlock",
                ),
                ("class_token", {"scale_mlp_norm": True}, "a norm inside the MLP"),
            )
        ),
    ],
)
def test_networks_without_what_a_method_needs_are_refused(method, shape, changes, message):
    check_refused(method, message, tiny(shape, **changes))


# What is said of every method beside its function

SHARP = {"tis": {"n_masks": 16}, "vit_cx": {"noise": 3.0}}
FACTS = describe_methods().set_index("name")


def test_a_row_per_method():
    assert list(FACTS.index) == list_methods()
    assert list(FACTS.columns) == ["signed", "class_sensitive", "cost", "settings", "source"]
    assert FACTS.loc["legrad", "settings"] == "layers=2"
    assert FACTS.loc["attcat", "settings"] == "attention=True, gradient='plain'"
    assert FACTS.loc["rollout", "source"].startswith("Abnar and Zuidema, ACL 2020")
    assert not FACTS.isna().any().any()
    assert FACTS["cost"].between(1, 1000).all()
    assert FACTS["cost"].idxmin() in ("raw_attention", "rollout")


@pytest.mark.parametrize("name", list_methods())
def test_signs_and_class_are_as_stated(name):
    """Measured on a random network: signed means that maps have both signs."""
    vit = tiny(dtype=torch.float64, depth=3)
    targets = torch.arange(5).expand(3, 5)
    maps = explain(vit, pictures(vit), targets, method=name, **SHARP.get(name, {})).relevance
    assert bool((maps > 0).any())
    assert bool((maps < 0).any()) == FACTS.loc[name, "signed"]
    blind = torch.allclose(maps, maps[:, :1].expand_as(maps), rtol=1e-9, atol=0)
    assert blind != FACTS.loc[name, "class_sensitive"]
