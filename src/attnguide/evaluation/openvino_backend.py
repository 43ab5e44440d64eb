"""A network's masked forward pass on the CPU through OpenVINO (extra `openvino`)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from attnguide.evaluation.masking import Network

TRIAL_S = 0.5
TOLERANCE = 1e-3  # of logits, relative to the largest: a wrong conversion is off by far more


def is_installed() -> bool:
    """Whether `import openvino` works."""
    return find_spec("openvino") is not None


def compile_for_cpu(network: Network, example: Tensor, *, bf16: bool) -> Callable[[Tensor], Tensor]:
    """`network.leave`, converted from torch and compiled for as many threads as torch has.

    Batches and, in tokens, sequences of any length up to the example's are taken.

    Args:
        network: A cut model in evaluation mode.
        example: What enters it.
        bf16: Compute in bfloat16; otherwise float32 throughout (OpenVINO's own choice is the
            fastest that the processor has).

    Raises:
        Exception: what the converter raises where it cannot take the model.
        ValueError: converted, it gives other logits.
    """
    import openvino
    from torch.export import Dim, export

    leave: Any = network.leave
    if example.dtype == torch.float64:
        raise ValueError("it computes in float64, which OpenVINO does not")
    free = {0: Dim("images", min=1, max=4096)}
    if network.in_tokens:
        free[1] = Dim("tokens", min=network.num_prefix + 1, max=example.shape[1])
    with torch.inference_mode(False), torch.no_grad():
        pair = torch.cat([example[:1]] * 2).float()  # a normal tensor, whatever the caller's mode
        module = leave if example.dtype == torch.float32 else copy.deepcopy(leave).float()
        exported = export(module, (pair,), dynamic_shapes=(free,))
        expected = module(pair)
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(openvino.convert_model(exported), "CPU", settings)

    def run(inputs: Tensor) -> Tensor:
        given = inputs.float().contiguous().numpy()
        return torch.from_numpy(compiled([given], share_inputs=True)[0])

    gap = float((run(pair) - expected).abs().max() / expected.abs().max())
    if not gap < (0.1 if bf16 else TOLERANCE):
        raise ValueError(f"converted, it gives other logits (relative difference {gap:.1e})")
    return run


def is_faster(
    one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], example: Tensor
) -> bool:
    """Whether the best of `one`'s calls beats the best of `other`'s, within half a second."""
    calls = {one: float("inf"), other: float("inf")}
    for call in calls:
        call(example)
    end = time.perf_counter() + TRIAL_S
    while time.perf_counter() < end:
        for call in calls:
            start = time.perf_counter()
            call(example)
            calls[call] = min(calls[call], time.perf_counter() - start)
    return calls[one] < calls[other]
