"""Methods as people ask for them: labels, partials, rules, callables."""

from functools import partial

import pytest
import torch
from tiny import pictures, tiny

from attnguide import explain, explain_many, losses, rules
from attnguide.methods import corrected_rollout, gae, get_method
from attnguide.tracing.trace import AttentionTrace


def own_rows(trace, factor):
    """A method of one's own."""
    return trace.on_grid(trace.attention[0][:, 0, 0]) * factor


SHAPES_OF_TARGETS = [torch.tensor([0, 1, 2]), torch.tensor([[0, 1], [2, 3], [4, 0]])]


@pytest.mark.parametrize("targets", SHAPES_OF_TARGETS, ids=["(B,)", "(B, T)"])
def test_labels_let_a_method_appear_several_times(targets):
    vit = tiny()
    images = pictures(vit)
    chosen = {
        "whole": "rollout",
        "late": ("rollout", {"start_layer": 1}),
        "rollout": {"normalize": True},
        "own": lambda trace: trace.on_grid(trace.attention[0].mean((1, 2))),
        "other": (own_rows, {"factor": 2.0}),
    }
    many = explain_many(vit, images, targets, methods=chosen)
    assert list(many) == list(chosen)
    assert {e.relevance.shape for e in many.values()} == {(*targets.shape, 4, 4)}
    assert [many[label].method for label in ("whole", "late", "rollout")] == ["rollout"] * 3
    for label, settings in (
        ("whole", {}),
        ("late", {"start_layer": 1}),
        ("rollout", {"normalize": True}),
    ):
        alone = explain(vit, images, targets, method="rollout", **settings)
        assert torch.equal(many[label].relevance, alone.relevance)
        assert many[label].settings == alone.settings
    maps = [many[label].relevance for label in chosen]
    assert not any(torch.equal(a, b) for i, a in enumerate(maps) for b in maps[:i])


@pytest.mark.parametrize(
    "methods",
    [
        ["rollout", ("rollout", {"normalize": True})],
        [lambda trace: trace.attention, lambda trace: trace.gradient],
        ["gae", ("corrected_rollout", {"rule": rules.positive, "gradient": "libra"})],
    ],
)
def test_two_methods_of_one_name_are_refused(methods):
    vit = tiny()
    with pytest.raises(ValueError, match=r"two methods called .*give them labels: methods=\{"):
        explain_many(vit, pictures(vit), 1, methods=methods)


def test_the_same_request_twice_is_one():
    vit = tiny()
    assert list(explain_many(vit, pictures(vit), 1, methods=["gae", ("gae", {})])) == ["gae"]


def square(attention, gradient):
    """A rule of one's own."""
    return (attention * gradient**2).mean(1)


def test_a_rule_is_a_setting_and_published_ones_have_names():
    vit = tiny(dtype=torch.float64)
    images = pictures(vit)
    assert set(corrected_rollout.PUBLISHED) == {
        name
        for name, rule in vars(rules).items()
        if getattr(rule, "__module__", "") == rules.__name__
    }
    for rule, name in corrected_rollout.PUBLISHED.items():
        chosen = partial(corrected_rollout.explain, rule=getattr(rules, rule))
        e, expected = explain(vit, images, 1, method=chosen), explain(vit, images, 1, method=name)
        assert (e.method, e.settings) == (name, expected.settings)
        torch.testing.assert_close(e.relevance, expected.relevance)
        named = explain(vit, images, 1, method="corrected_rollout", rule=rule)
        assert (named.method, named.settings) == (name, expected.settings)
        again = explain(vit, images, 1, method=e.method, **e.settings)
        assert torch.equal(again.relevance, e.relevance)
        raw = corrected_rollout.explain(
            AttentionTrace(vit, images, torch.tensor([1] * 3)), rule=getattr(rules, rule)
        )
        torch.testing.assert_close(raw, e.relevance)
    own = explain(vit, images, 1, method="corrected_rollout", rule=square)
    assert own.method == "square"
    assert own.settings["rule"] == "square"
    assert not torch.allclose(own.relevance, explain(vit, images, 1).relevance)


def test_a_partial_is_a_method_with_settings():
    vit = tiny()
    images = pictures(vit)
    late = partial(partial(get_method("rollout"), start_layer=1), normalize=True)
    many = explain_many(vit, images, 1, methods=[late, gae.explain])
    expected = explain(vit, images, 1, method="rollout", start_layer=1, normalize=True)
    assert list(many) == ["rollout", "gae"]
    assert many["rollout"].settings == expected.settings
    assert torch.equal(many["rollout"].relevance, expected.relevance)
    overridden = explain(vit, images, 1, method=late, start_layer=0)
    assert overridden.settings["start_layer"] == 0
    assert overridden.settings["normalize"] is True
    with pytest.raises(ValueError, match="did you mean normalize"):
        explain(vit, images, 1, method=partial(late, normalise=True))


def test_settings_of_a_callable():
    vit = tiny()
    images = pictures(vit)

    def scaled(trace, factor, **_):
        return own_rows(trace, factor)

    assert explain(vit, images, 1, method=scaled, factor=2, note="x").settings["note"] == "x"
    with pytest.raises(ValueError, match="setting factor of method scaled has no default"):
        explain(vit, images, 1, method=scaled)
    with pytest.raises(TypeError, match="a name of list_methods"):
        explain(vit, images, 1, method=3)


@pytest.mark.parametrize(
    "bad", [lambda _: None, lambda trace: trace.attention[0], lambda trace: trace.readout]
)
def test_what_a_callable_returns_is_checked(bad):
    vit = tiny()
    with pytest.raises(ValueError, match=r"must return a Tensor \(B, rows, cols\) of 3 maps"):
        explain(vit, pictures(vit), 1, method=bad)


@pytest.mark.parametrize("targets", [[1, 2, 3], [[0, 1], [2, 3], [4, 0]]])
def test_a_custom_method_may_turn_to_other_targets(targets):
    vit = tiny(dtype=torch.float64)
    images, targets = pictures(vit), torch.tensor(targets)

    def difference(trace):
        """Of the target's map and the map of the class after it."""
        other = trace.for_target((trace.target + 1) % 5)
        return trace.on_grid((trace.gradient[0] - other.gradient[0]).sum((1, 2)))

    methods = {"complete": "complete", "difference": difference, "after": "gae"}
    many = explain_many(vit, images, targets, methods=methods)
    alone = explain(vit, images, targets, method=difference)
    assert torch.equal(many["difference"].relevance, alone.relevance)
    assert torch.equal(
        many["after"].relevance, explain(vit, images, targets, method="gae").relevance
    )
    one, other = (
        AttentionTrace(vit, images, t).gradient[0].sum((1, 2))
        for t in (targets.reshape(3, -1)[:, 0], (targets.reshape(3, -1)[:, 0] + 1) % 5)
    )
    got = alone.relevance if targets.ndim == 1 else alone.relevance[:, 0]
    torch.testing.assert_close(got, (one - other)[:, 1:].unflatten(1, (4, 4)))


@pytest.mark.parametrize(
    "method", [("tis", {"n_masks": 16}), ("vit_cx", {}), ("tam", {"steps": 3})]
)
@pytest.mark.parametrize("loss", ["logit", "difference"])
def test_a_loss_by_name_is_the_loss_itself(method, loss):
    vit = tiny()
    images = pictures(vit, 2)
    by_name, itself = (
        explain_many(vit, images, 1, methods=[method], loss=given, reference=3)[method[0]]
        for given in (loss, getattr(losses, loss))
    )
    assert torch.equal(by_name.relevance, itself.relevance)
    assert by_name.settings == itself.settings
    if loss == "difference":
        with pytest.raises(ValueError, match="pass reference"):
            explain(vit, images, 1, loss=losses.difference)
