"""What must hold for every method, asked of one method at a time on small models."""

import numpy as np
import pytest
import torch
from tiny import pictures, tiny

from attnguide import explain

DEPTH = 3


def fingerprint(module):
    """Everything about a module that a visit could have changed, down to which tensors are held."""
    parts = list(module.modules())
    held = [
        (id(tensor), tensor.requires_grad, tensor.grad is None)
        for part in parts
        for table in (part._parameters, part._buffers)
        for tensor in table.values()
        if tensor is not None
    ]
    versions = [p._version for p in module.parameters() if not p.is_inference()]
    hooks = [
        (len(p._forward_hooks), len(p._forward_pre_hooks), len(p._backward_hooks)) for p in parts
    ]
    names = ("training", "grad_checkpointing", "fused_attn")
    flags = [tuple(vars(part).get(name) for name in names) for part in parts]
    compiled = [id(vars(part).get("_compiled_call_impl")) for part in parts]
    return held, versions, hooks, flags, compiled, [sorted(vars(part)) for part in parts]


def check_batch_and_precision(method, shape, size, *, precise=True, **settings):
    """A batch of mixed images and targets equals one by one; float32 is close to float64.

    Methods that are ill-conditioned are compared relative to the largest value, in float64 alone.
    """
    vit = tiny(shape, dtype=torch.float64, depth=DEPTH, **size)
    images, targets = pictures(vit), [1, 4, 0]
    together = explain(vit, images, targets, method=method, **settings).relevance
    largest = together.abs().max()
    assert largest > 0
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if precise else {"rtol": 0, "atol": 1e-10 * largest}
    for index, target in enumerate(targets):
        alone = explain(vit, images[index : index + 1], target, method=method, **settings).relevance
        torch.testing.assert_close(together[index : index + 1], alone, **tolerance)
    single = tiny(shape, depth=DEPTH, **size)
    close = explain(single, images.float(), targets, method=method, **settings).relevance
    assert close.dtype == torch.float32
    assert not precise or (close - together).abs().max() <= 1e-3 * largest


def check_many_targets(method, **settings):
    """Several targets at once equal one after the other, and differ from each other."""
    vit = tiny(dtype=torch.float64, depth=DEPTH)
    images = pictures(vit)
    table = torch.tensor([[0, 3], [1, 4], [2, 0]])
    many = explain(vit, images, table, method=method, **settings).relevance
    for column in (0, 1):
        one = explain(vit, images, table[:, column], method=method, **settings).relevance
        torch.testing.assert_close(many[:, column], one, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(many[:, 0], many[:, 1])


def check_head_order(method, **settings):
    """Heads permuted, map unchanged."""
    vit = tiny(dtype=torch.float64, depth=DEPTH, num_heads=3)
    images = pictures(vit)
    before = explain(vit, images, 1, method=method, **settings).relevance
    order = torch.tensor([2, 0, 1])
    for block in vit.module.blocks:
        attn = block.attn
        qkv, proj = attn.qkv, attn.proj
        qkv.weight.data = qkv.weight.data.unflatten(0, (3, 3, 8))[:, order].flatten(0, 2)
        qkv.bias.data = qkv.bias.data.unflatten(0, (3, 3, 8))[:, order].flatten()
        proj.weight.data = proj.weight.data.unflatten(1, (3, 8))[:, order].flatten(1)
    torch.testing.assert_close(
        explain(vit, images, 1, method=method, **settings).relevance, before, rtol=1e-8, atol=1e-11
    )


def check_untouched(method, **settings):
    """Model, images and the global random states are as before, with gradients on and off."""
    vit = tiny(depth=DEPTH)
    vit.module.train()
    images = pictures(vit)
    before, copy = fingerprint(vit.module), images.clone()
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = explain(vit, images, 1, method=method, **settings).relevance
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            again = explain(vit, images, 1, method=method, **settings).relevance
            assert not torch.is_grad_enabled()
            torch.testing.assert_close(first, again)
    assert not first.requires_grad
    assert torch.is_grad_enabled()
    assert fingerprint(vit.module) == before
    assert torch.equal(images, copy)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()


def check_refused(method, match, vit=None, **settings):
    """A setting is refused before the first forward pass."""
    vit = vit or tiny(depth=DEPTH)
    with counted(vit) as calls, pytest.raises(ValueError, match=match):
        explain(vit, pictures(vit), 1, method=method, **settings)
    assert not calls


class counted:
    """Collects the batch size of every forward pass made inside."""

    def __init__(self, vit):
        self.module, self.calls = vit.module, []

    def __enter__(self):
        self.handle = self.module.register_forward_pre_hook(
            lambda _, args: self.calls.append(len(args[0]))
        )
        return self.calls

    def __exit__(self, *_):
        self.handle.remove()
