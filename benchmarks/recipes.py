"""What a user has without us: the published recipes, written plainly."""

import torch
from torch import Tensor

WEIGHTS = {
    "gae": lambda g: g.clamp(min=0),
    "complete": lambda g: g,
    "absolute": lambda g: g.abs(),
}


def explain_as_published(module, image: Tensor, target: int, rule: str) -> Tensor:
    """One image (1, 3, H, W), one rule: hooks, a full backward with parameter gradients, N x N."""
    attention = []

    def keep(_module, _inputs, output):
        output.retain_grad()
        attention.append(output)

    hooks = [block.attn.attn_drop.register_forward_hook(keep) for block in module.blocks]
    for block in module.blocks:
        block.attn.fused_attn = False
    logits = module(image)
    one_hot = torch.zeros_like(logits)
    one_hot[0, target] = 1
    module.zero_grad()
    (one_hot * logits).sum().backward(retain_graph=True)
    tokens = attention[0].shape[-1]
    relevance = torch.eye(tokens)
    for matrix in attention:
        weighted = (WEIGHTS[rule](matrix.grad) * matrix)[0].mean(0)
        relevance = relevance + weighted.detach() @ relevance
    for hook in hooks:
        hook.remove()
    for block in module.blocks:
        block.attn.fused_attn = True
    return relevance[0, 1:]


def perturb_in_a_loop(module, images, relevance, label, order, fractions, patch=16):
    """Correct (B, S) and probability (B, S): pixels filled, timm's forward, batch by batch."""
    batch, (rows, cols) = len(images), relevance.shape[1:]
    ranks = relevance.flatten(1).argsort(dim=-1, descending=order == "positive", stable=True)
    correct, probability = [], []
    with torch.inference_mode():
        for fraction in fractions:
            gone = ranks[:, : int(fraction * rows * cols + 0.5)]
            keep = torch.ones(batch, rows * cols).scatter(1, gone, 0).view(batch, 1, rows, cols)
            keep = keep.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
            logits = module(images * keep)
            correct.append(logits.argmax(-1) == label)
            probability.append(logits.softmax(-1).gather(1, label.unsqueeze(1)).squeeze(1))
    return torch.stack(correct, 1), torch.stack(probability, 1)
