"""Which methods a study compares, and on how many pictures: from what their files say."""

import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
from running import config

from attnguide import list_methods
from attnguide.runs.objects import build_experiment, build_methods

SENSITIVE = {*list_methods(), "complete_libra", "gae_libra"} - {
    *("absolute", "attention_flow", "raw_attention", "rollout", "corrected_rollout")
}
NEW = {"complete_libra", "gae_libra", "cp_lrp", "attn_lrp", "legrad", "attcat", "cdam",
       "input_x_gradient", "integrated_gradients", "smoothgrad"}  # fmt: skip
SLOW = ("dix", "integrated_gradients", "smoothgrad")
# What each study compares of all methods, and on how many pictures the slow ones are measured.
STUDIES = {
    "fig10_other_methods": (
        {*list_methods()} - NEW - {"corrected_rollout"},
        {"dix": 4, "tis": 4, "vit_cx": 0, "attention_flow": 0},
    ),
    "fig13_method_comparison": (SENSITIVE - {"gae_libra"}, {"vit_cx": 12, "tis": 12}),
    "sanity_checks": (
        SENSITIVE,
        {"dix": 2, "integrated_gradients": 4, "smoothgrad": 4, "vit_cx": 1, "tis": 1},
    ),
    "scorecard": (
        SENSITIVE | {"absolute", "attention_flow", "raw_attention", "rollout"},
        dict.fromkeys((*SLOW, "attention_flow"), 4) | {"vit_cx": 2, "tis": 2},
    ),
    **dict.fromkeys(
        ("in_domain_deletion", "localization", "parts"),
        (SENSITIVE, dict.fromkeys(SLOW, 8) | {"vit_cx": 4, "tis": 4}),
    ),
}


def compared(name, **more):
    """Methods of a study, and how many of 100 pictures each is measured on."""
    study = build_experiment(made := config(f"experiment={name}"))
    chosen = SimpleNamespace(methods=build_methods(made) | more)
    items = [SimpleNamespace(number=n, shown=None, part="", measured=True) for n in range(100)]
    measured = [label for item in items for label in study.kind(chosen, item)[1:-1]]
    return {label: measured.count(label) for label in study.compared(chosen)}


@pytest.mark.parametrize("name", STUDIES)
def test_all_methods_enter_but_those_that_cannot_be_compared(name):
    methods, limits = STUDIES[name]
    assert compared(name) == dict.fromkeys(methods, 100) | limits


def test_a_method_of_ones_own_enters_and_its_cost_limits_it(monkeypatch):
    for cost, count in ((2, 100), (50, 8), (500, 4)):
        module = ModuleType("attnguide.methods.mine")
        module.COST = cost
        monkeypatch.setitem(sys.modules, module.__name__, module)

        def explain(trace, *, steps=1):
            return trace.images.mean((1, 2)) * steps

        explain.__module__ = module.__name__
        assert compared("parts", mine=partial(explain, steps=2))["mine"] == count
