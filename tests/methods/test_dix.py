"""Deep integrated explanations."""

import pytest
import torch
from method_checks import counted
from tiny import SHAPES, pictures, tiny

from attnguide import explain

FEW = {"steps": 3, "layers": 2}


def definition(vit, image, target, steps, layers, own_attention):
    """Map of one image, step by step, with timm's unfused attention edited by hooks."""
    blocks = vit.module.blocks
    for block in blocks:
        block.attn.fused_attn = False

    def run(layer=None, attention=None):
        used = []

        def hook(at):
            def replace(_module, _inputs, output):
                used.append(output if at != layer else attention.clone().requires_grad_())
                return used[-1]

            return replace

        handles = [
            block.attn.attn_drop.register_forward_hook(hook(at)) for at, block in enumerate(blocks)
        ]
        logit = vit.module(image)[0, target]
        for handle in handles:
            handle.remove()
        return used, torch.autograd.grad(logit, used)

    plain = [a.detach() for a in run()[0]]
    total = 0
    for layer in range(len(blocks) - layers, len(blocks)):
        source = plain[layer] if own_attention else plain[-1]
        contributions = 0
        for step in range(steps + 1):
            used, gradients = run(layer, source * step / steps)
            terms = [(a * g).clamp(min=0)[0] for a, g in zip(used, gradients, strict=True)]
            contributions = contributions + torch.stack(terms).detach() / (steps + 1)
        product = torch.eye(vit.num_tokens).double()
        for matrix in contributions.mean(1):
            matrix = matrix + torch.eye(len(matrix))
            product = matrix / matrix.sum(-1, keepdim=True) @ product
        total = total + vit.readout.double() @ product
    return total[vit.num_prefix :].view(vit.grid)


@pytest.mark.parametrize("own_attention", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_its_definition_on_every_kind_of_model(shape, own_attention):
    vit = tiny(shape, dtype=torch.float64, depth=3)
    image = pictures(vit, 1)
    settings = {"steps": 3, "layers": 3, "own_attention": own_attention}
    got = explain(vit, image, 2, method="dix", **settings).relevance[0]
    torch.testing.assert_close(got, definition(vit, image, 2, **settings), rtol=1e-9, atol=1e-12)


def test_passes_are_chunked():
    vit = tiny(depth=3)
    with counted(vit) as calls:
        explain(vit, pictures(vit, 2), 1, method="dix")
    assert sum(calls) == 2 * (1 + 2 * 11) + 1  # one image is compared
    assert max(calls) == 8
