"""Masked forward passes never wait for the device."""

import pytest
import torch
from tiny import pictures, tiny
from torch.utils._python_dispatch import TorchDispatchMode

from attnguide.evaluation.engines import Engine, prepare
from attnguide.evaluation.perturbation import unchecked_curves


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
        _, finite = unchecked_curves(
            vit, images, maps, torch.tensor([0, 1, 2]), fill=fill, engine=ready
        )
    assert counted.waits == []
    with Waiting() as counted:
        finite.any().item()
    assert counted.waits == ["_local_scalar_dense"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="counts CUDA synchronisations: no GPU")
@pytest.mark.parametrize("fill", ["zero", "black", "mean", "drop"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_waits_for_the_device(fill, precision):
    vit = tiny()
    vit.module.cuda()
    images, relevance = pictures(vit, 3).cuda(), torch.rand(3, *vit.grid).cuda()
    label = torch.tensor([0, 1, 2]).cuda()
    ready = prepare(vit, Engine(precision=precision))
    run = lambda: unchecked_curves(  # noqa: E731
        vit, images, {"r": relevance}, label, fill=fill, engine=ready
    )
    run()  # libraries are loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
