"""What complete correction is: identities and invariances of `docs/theory.md`, in float64."""

import pytest
import torch
from tiny import pictures, tiny

from attnguide import explain, explain_many, rules
from attnguide.losses import log_probability, logit
from attnguide.tracing.trace import AttentionTrace

TARGET = 2


def read_by_the_class_token(vit, images):
    """Per layer what the class token reads, its gradient, the values and theirs: of B images.

    (B, H, D), (B, H, D), (B, H, N, D), (B, H, N, D), by hooks on timm's own projections.
    """
    kept = []

    def keep(_, inputs, output):
        inputs[0].retain_grad()
        output.retain_grad()
        kept.append((inputs[0], output))

    attentions = [block.attn for block in vit.module.blocks]
    parts = [part for attn in attentions for part in (attn.qkv, attn.proj)]
    hooks = [part.register_forward_hook(keep) for part in parts]
    vit.module(images.requires_grad_())[:, TARGET].sum().backward()
    for hook in hooks:
        hook.remove()
    found, heads = [], attentions[0].num_heads
    for (_, qkv), (read, _) in zip(kept[::2], kept[1::2], strict=True):
        first = [x.detach()[:, 0].unflatten(-1, (heads, -1)) for x in (read, read.grad)]
        each = [x.detach().unflatten(-1, (3, heads, -1)) for x in (qkv, qkv.grad)]
        found.append((*first, *(x[:, :, 2].transpose(1, 2) for x in each)))
    return found


def shift_values(vit, size):
    """Add a vector to all values of every layer, and take what it adds off the projection."""
    generator = torch.Generator().manual_seed(3)
    for block in vit.module.blocks:
        qkv, proj = block.attn.qkv, block.attn.proj
        width = proj.weight.shape[1]
        u = size * torch.randn(width, generator=generator, dtype=torch.float64)
        qkv.bias.data[-width:] += u
        proj.bias.data -= proj.weight @ u


def test_the_first_order_is_input_x_gradient_of_what_the_class_token_reads():
    vit = tiny(dtype=torch.float64, depth=3)
    images = pictures(vit, 2)
    trace = AttentionTrace(vit, images, torch.tensor([TARGET] * 2))
    layers = read_by_the_class_token(vit, images.clone())
    for a, g, (read, gradient, _, _) in zip(trace.attention, trace.gradient, layers, strict=True):
        row = rules.complete(a, g)[:, 0]
        expected = (read * gradient).sum((1, 2)) / read.shape[1]
        torch.testing.assert_close(row.sum(-1), expected, rtol=1e-10, atol=1e-12)
    _, _, value, slope = layers[-1]  # read by the class token alone: value x gradient, by token
    torch.testing.assert_close(row, (value * slope).sum(-1).mean(1), rtol=1e-10, atol=1e-12)


def test_a_shift_of_the_values_changes_complete_and_gae_and_neither_logits_nor_centred():
    vit, methods = tiny(dtype=torch.float64), ["complete", "gae", "centred"]
    images = pictures(vit, 2)
    before = explain_many(vit, images, TARGET, methods=methods)
    trace = AttentionTrace(vit, images, torch.tensor([TARGET] * 2))
    products = [a * g for a, g in zip(trace.attention, trace.gradient, strict=True)]
    shift_values(vit, 1.0)
    after = explain_many(vit, images, TARGET, methods=methods)
    torch.testing.assert_close(after["gae"].logits, before["gae"].logits, rtol=0, atol=1e-10)
    size = before["centred"].relevance.abs().max()
    change = {m: float((after[m].relevance - before[m].relevance).abs().max()) for m in methods}
    assert change["centred"] < 1e-10 * size
    assert min(change["complete"], change["gae"]) > 0.1 * size
    shifted = AttentionTrace(vit, images, torch.tensor([TARGET] * 2))
    for old, a, g in zip(products, shifted.attention, shifted.gradient, strict=True):
        c = (a * g - old).sum(-1, keepdim=True)  # rows of A sum to 1
        torch.testing.assert_close(a * g - old, c * a, rtol=0, atol=1e-10)


def test_rows_of_centred_sum_to_zero():
    vit = tiny(dtype=torch.float64)
    trace = AttentionTrace(vit, pictures(vit), torch.tensor([TARGET] * 3))
    for a, g in zip(trace.attention, trace.gradient, strict=True):
        assert float(rules.centred(a, g).sum(-1).abs().max()) < 1e-12 * float(g.abs().max())


@pytest.mark.parametrize("loss", ["logit", "relative_contrast"])
@pytest.mark.filterwarnings("ignore:relative_contrast")
def test_the_other_classes_set_no_direction(loss):
    """Eq. 7 reads one row of the head, Eq. 8 two; the rows of all others can be lost."""
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, 2)
    before = explain(vit, images, TARGET, loss=loss, reference=4).relevance
    by_all = explain(vit, images, TARGET, loss="log_probability").relevance
    for row in (0, 1, 3):
        vit.module.head.weight.data[row] = 0
        vit.module.head.bias.data[row] = 0
    after = explain(vit, images, TARGET, loss=loss, reference=4).relevance
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    others = explain(vit, images, TARGET, loss="log_probability").relevance
    assert float((others - by_all).abs().max()) > 1e-3 * float(by_all.abs().max())


def test_log_probability_needs_two_logits_and_has_no_second_class():
    logits = torch.tensor([[1.0, 3.0, -2.0]])
    expected = logits.softmax(-1).log()[:, 1]
    torch.testing.assert_close(log_probability(logits, torch.tensor([1])), expected)
    assert logit(logits, torch.tensor([1])).item() == 3
    with pytest.raises(ValueError, match="a single logit"):
        log_probability(logits[:, :1], torch.tensor([0]))
