"""Attention flow: the most that can flow from the readout to a patch; blind to the class.

Abnar and Zuidema, ACL 2020, arXiv 2005.00928.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import igraph
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attnguide.methods._sampling import progress
from attnguide.tracing.trace import AttentionTrace

SIGNED = False
CLASS_SENSITIVE = False
COST = 120  # 1 forward, then up to 11 s on the processor

_KEPT = 16  # entries per row of the small graph; more only cost time
_PROVEN = 1e-12  # bounds this close are equal but for rounding

Array = npt.NDArray[np.float64]


def explain(trace: AttentionTrace) -> Tensor:
    """(B, rows, cols), in [0, 1], the same for every target.

    Tokens of all layers are nodes; token i reads token j of the layer below through an edge of
    capacity B[i, j], with B half identity, half head mean of attention. The source feeds the top
    tokens with their readout weights, which is the class token alone where there is one.

    Exact: the flow to patch j is at most min(1, sum over i of B_1[i, j]), since everything must
    leave the source and pass the lowest layer. A graph of the largest edges often carries that
    much already, which proves it for the full graph, since more edges never carry less; otherwise
    the full graph is solved.

    Raises:
        ValueError: a head that reads tokens in a way that has no readout weights.
    """
    return trace.cached("attention_flow", lambda: _all_images(trace))


def _all_images(trace: AttentionTrace) -> Tensor:
    readout = trace.readout.double().cpu().numpy()
    attention = torch.stack([layer.mean(1) for layer in trace.attention], 1).double().cpu().numpy()
    batch, _, tokens, _ = attention.shape
    prefix = trace.vit.num_prefix
    flow = np.zeros((batch, tokens))
    with progress("attention_flow", flow[:, prefix:].size) as bar:
        for image, matrices in enumerate(attention):
            capacity = matrices + np.eye(tokens)
            capacity /= capacity.sum(-1, keepdims=True)
            solve = _solver(capacity, readout, prefix)
            for patch in range(prefix, tokens):
                flow[image, patch] = solve(patch)
                bar.update()
    return trace.on_grid(torch.from_numpy(flow).to(trace.readout))


def _solver(capacity: Array, readout: Array, prefix: int) -> Callable[[int], float]:
    """The exact flow to a patch, in capacities (L, N, N), layer 0 first.

    The graph of the largest edges keeps all edges that leave a prefix token.
    """
    rank = max(capacity.shape[-1] - _KEPT, 0)
    large = capacity >= np.partition(capacity, rank, -1)[..., rank, None]
    large[:, :prefix] = True
    bound = np.minimum(readout.sum(), capacity[0].sum(0))
    small_graph = _graph(np.where(large, capacity, 0), readout)
    full_graph = cache(lambda: _graph(capacity, readout))

    def solve(patch: int) -> float:
        into = capacity[0][:, patch]
        value = small_graph(into)
        if value < bound[patch] - _PROVEN:
            value = full_graph()(into)
        return min(value, float(bound[patch]))

    return solve


def _graph(capacity: Array, readout: Array) -> Callable[[Array], float]:
    """Maximal flow as a function of the lowest layer's capacities (N,) into the patch.

    Nodes: token i of layer l (what it has read) at l N + i, then source and sink.
    """
    depth, tokens, _ = capacity.shape
    source, sink = depth * tokens, depth * tokens + 1
    layer, reader, read = np.nonzero(capacity[1:])
    (fed,) = np.nonzero(readout)
    last = np.arange(tokens)
    tails = [(layer + 1) * tokens + reader, np.full_like(fed, source), last]
    heads = [layer * tokens + read, fed + (depth - 1) * tokens, np.full_like(last, sink)]
    edges = np.stack([np.concatenate(tails), np.concatenate(heads)], 1)
    graph = igraph.Graph(n=sink + 1, edges=edges, directed=True)
    fixed = [*capacity[1:][layer, reader, read].tolist(), *readout[fed].tolist()]

    def flow(into: Array) -> float:
        return float(graph.maxflow_value(source, sink, fixed + into.tolist()))

    return flow
