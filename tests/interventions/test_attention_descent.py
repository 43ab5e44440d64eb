"""The descent over attention maps is what a plain loop over a hand-written network gives."""

import numpy as np
import pytest
import torch
from method_checks import fingerprint
from oracles import WEIGHTS, rollout_map
from tiny import pictures, tiny

from attnguide import explain
from attnguide.interventions.attention_descent import descend


def forward(module, image, attention):
    """Logits of one image where `attention` (list of (H, N, N), None at first) is read as given.

    A timm block by hand: head after head, values from the input, no queries or keys once the
    attention is given. Returns the attention, too.
    """
    x = module._pos_embed(module.patch_embed(image[None]))[0]
    kept = []
    for layer, block in enumerate(module.blocks):
        y = block.norm1(x)
        query, key, value = block.attn.qkv(y).chunk(3, dim=-1)
        heads, width = block.attn.num_heads, block.attn.head_dim
        out = []
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            if attention is None:
                own = (query[:, part] @ key[:, part].T / width**0.5).softmax(-1)
                kept.append(own.detach())
                matrix = kept[-1]
            else:
                matrix = attention[layer][h]
            out.append(matrix @ value[:, part])
        x = x + block.attn.proj(torch.cat(out, -1))
        x = x + block.mlp(block.norm2(x))
    if attention is None:
        count = len(kept) // len(module.blocks)
        kept = [torch.stack(kept[i * count : (i + 1) * count]) for i in range(len(module.blocks))]
    return module.head(module.norm(x)[0]), kept


@pytest.mark.parametrize("lr", [4e-4, 0.05])
def test_every_step_is_that_of_a_plain_loop(lr):
    vit = tiny(dtype=torch.float64)
    images, target = pictures(vit, 2), torch.tensor([3, 1])
    other = torch.tensor([0, 4])
    got = descend(vit, images, target, other, lr=lr, steps=3)
    assert got.logits.shape == (4, 2, 5)
    assert got.other.shape == (2, 2, *vit.grid)
    for index in range(2):
        _, attention = forward(vit.module, images[index], None)
        for step in range(4):
            leaves = [a.clone().requires_grad_() for a in attention]
            logits, _ = forward(vit.module, images[index], leaves)
            slope, of_other = (
                torch.autograd.grad(logits[each[index]], leaves, retain_graph=True)
                for each in (target, other)
            )
            a, *gradients = ([t.detach().numpy() for t in ts] for ts in (leaves, slope, of_other))
            readout = vit.readout.double().numpy()
            want, wanted_of_other = (
                torch.from_numpy(
                    rollout_map(a, g, WEIGHTS["complete"], readout, vit.num_prefix, vit.grid)
                )
                for g in gradients
            )
            torch.testing.assert_close(got.logits[step, index], logits.detach())
            torch.testing.assert_close(got.relevance[step, index], want)
            if step in (0, 3):
                torch.testing.assert_close(got.other[step // 3, index], wanted_of_other)
            error = max(abs(row.sum() - 1) for m in a for head in m for row in head)
            assert got.row_error[step, index].item() == pytest.approx(error, abs=1e-12)
            below = np.mean([(m < 0).mean() for m in a])
            assert got.negative[step, index].item() == pytest.approx(below, abs=1e-12)
            attention = [x.detach() - lr * s for x, s in zip(leaves, slope, strict=True)]
    assert lr < 0.01 or got.negative[-1].min() > 0  # maps do leave the simplex: it is told


def test_start_is_the_model_itself_and_nothing_stays_changed():
    vit = tiny(dtype=torch.float64)
    images, target = pictures(vit, 3), torch.tensor([0, 1, 4])
    before = fingerprint(vit.module)
    got = descend(vit, images, target, steps=2)
    assert fingerprint(vit.module) == before
    own = explain(vit, images, target)
    torch.testing.assert_close(got.logits[0], own.logits)
    assert float(got.row_error[0].max()) < 1e-12
    assert float(got.negative[0].max()) == 0
    alone = descend(vit, images[1:2], target[1:2], steps=2)
    torch.testing.assert_close(alone.relevance[:, 0], got.relevance[:, 1])


def test_models_with_other_heads_and_bad_settings():
    vit = tiny("average")
    got = descend(vit, pictures(vit, 1), torch.tensor([1]), steps=1)
    assert float(got.logits[1, 0, 1]) < float(got.logits[0, 0, 1])
    for settings in ({"lr": 0.0}, {"lr": float("nan")}, {"steps": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            descend(vit, pictures(vit, 1), torch.tensor([1]), **settings)
