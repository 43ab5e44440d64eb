"""Attention flow is exact: augmenting paths, original code, graphs that defeat the short way."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles_flow import attention_flow
from published import arrays, cases, image, real
from tiny import SHAPES, pictures, tiny

from attnguide import explain
from attnguide.methods import attention_flow as method
from attnguide.tracing.capture import Pass, Recording
from attnguide.tracing.trace import AttentionTrace

METHOD = "attention_flow"


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_augmenting_paths(shape):
    vit = tiny(shape, dtype=torch.float64)
    images = pictures(vit, 2)
    got = explain(vit, images, 1, method=METHOD).relevance.flatten(1)
    attention = AttentionTrace(vit, images, torch.tensor([1, 1])).attention
    for index, patch in ((0, 0), (0, 5), (1, 7), (1, 15)):
        matrices = [layer[index].mean(0).numpy() for layer in attention]
        expected = attention_flow(matrices, vit.readout.numpy(), vit.num_prefix + patch)
        assert abs(float(got[index, patch]) - expected) <= 1e-12


def traced(vit, attention):
    """A trace of this attention, in the place of the network's."""
    recorded = Pass("model", Recording(attention=attention), torch.zeros(1, 5))
    shared = {("attention", "plain"): recorded}
    return AttentionTrace(vit, torch.zeros(1).double(), torch.tensor([0]), shared=shared)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), depth=st.integers(1, 4), sharpness=st.floats(0, 12))
def test_random_attention_flows_exactly(seed, depth, sharpness):
    """From even to nearly one-hot rows: the bound by the lowest layer is often out of reach."""
    vit = tiny("non_square", img_size=(16, 24))
    random = np.random.default_rng(seed)
    scores = torch.from_numpy(random.normal(size=(depth, 1, 1, 25, 25)) * sharpness)
    matrices = list(scores.softmax(-1).unbind())
    got = method.explain(traced(vit, matrices)).flatten()
    for patch in (0, 23):
        expected = attention_flow(
            [m[0, 0].numpy() for m in matrices], vit.readout.numpy(), patch + 1
        )
        assert abs(float(got[patch]) - expected) <= 1e-12


def test_a_blocked_upper_layer_lowers_the_flow():
    """The class token reads itself alone until layer 0, where it spreads evenly: 1 / 2N each.

    The lowest layer alone would let 1 through: its bound must not be taken for the answer.
    """
    vit = tiny()
    stay = torch.eye(17).double()
    spread = torch.full_like(stay, 1 / 17)
    flow = method.explain(traced(vit, [m[None, None] for m in (spread, stay, stay)]))
    torch.testing.assert_close(flow, torch.full_like(flow, 1 / 34), rtol=0, atol=1e-15)


def test_blind_to_the_class_and_computed_once(monkeypatch):
    vit, calls = tiny(), []
    solve = method._all_images
    monkeypatch.setattr(method, "_all_images", lambda trace: calls.append(1) or solve(trace))
    maps = explain(vit, pictures(vit), torch.tensor([[0, 1, 2]] * 3), method=METHOD).relevance
    assert len(calls) == 1
    assert torch.equal(maps[:, 0], maps[:, 2])


def test_equals_the_original_graph_in_time(shared):
    """Three 224-pixel images; the stored values come from float32 attention."""
    stored = arrays(shared, "chefer_dev")
    assert len(cases(stored, METHOD)) == 3
    for case in cases(stored, METHOD):
        begin = time.process_time()
        found = explain(real(shared), image(shared, case), 1, method=METHOD).relevance[0].numpy()
        assert abs(found - stored[f"{METHOD}|{case}|-1"]).max() <= 1e-5
        assert time.process_time() - begin < 30


@pytest.mark.slow
def test_short_way_equals_the_full_graph(shared):
    """All patches of a real image, once by the proven bound and once by the full graph."""
    vit = real(shared)
    trace = AttentionTrace(vit, image(shared, "el2.png"), torch.tensor([0]))
    capacity = np.stack([layer[0].mean(0).double().numpy() for layer in trace.attention])
    capacity += np.eye(197)
    capacity /= capacity.sum(-1, keepdims=True)
    flow = method._graph(capacity, vit.readout.double().numpy())
    full = np.array([flow(capacity[0][:, patch]) for patch in range(1, 197)])
    assert abs(method.explain(trace).flatten().numpy() - full).max() <= 1e-6  # float32 map
