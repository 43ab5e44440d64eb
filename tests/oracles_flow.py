"""Maximal flow again: shortest augmenting paths (Edmonds and Karp 1972), written from the paper."""

from collections import deque


def maximal_flow(capacity, source, sink):
    """Capacity: node to {node: float}. Returns the value of the largest flow."""
    left = {}
    for i, row in capacity.items():
        for j, c in row.items():
            left.setdefault(i, {})[j] = left.get(i, {}).get(j, 0.0) + c
            left.setdefault(j, {}).setdefault(i, 0.0)
    total = 0.0
    while True:
        came = {source: None}
        queue = deque([source])
        while queue and sink not in came:
            i = queue.popleft()
            for j, c in left[i].items():
                if c > 1e-15 and j not in came:
                    came[j] = i
                    queue.append(j)
        if sink not in came:
            return total
        path, j = [], sink
        while came[j] is not None:
            path.append((came[j], j))
            j = came[j]
        step = min(left[i][j] for i, j in path)
        for i, j in path:
            left[i][j] -= step
            left[j][i] += step
        total += step


def attention_flow(attention, readout, patch):
    """Attention: L arrays (N, N), layer 0 first. Nodes are (layer, token), inputs at layer 0."""
    n = len(readout)
    capacity = {"source": {(len(attention), i): readout[i] for i in range(n) if readout[i] > 0}}
    for layer, a in enumerate(attention, start=1):
        for i in range(n):
            row = [a[i][j] + (1.0 if i == j else 0.0) for j in range(n)]
            total = sum(row)
            capacity[layer, i] = {(layer - 1, j): row[j] / total for j in range(n)}
    return maximal_flow(capacity, "source", (0, patch))
