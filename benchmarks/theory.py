"""Numbers of docs/theory.md: `python -m benchmarks.theory WORLD [COUNT]`.

WORLD is creatures, photographs or contamination.

How much of complete is its first order; what a shift of the values that changes no logit does to
it; and whether the log-probability mends its weakness on pictures of one class. Photographs are
those of IMAGENET_DIR, seen by ViT-Tiny with the weights of VIT_TINY.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import sys

import numpy as np
import pandas as pd
import torch

from attnguide import explain_many, rules
from attnguide.data import Creatures, Photographs
from attnguide.data.pictures import class_indices
from attnguide.data.views import to_view
from attnguide.evaluation.localisation import correlation
from attnguide.evaluation.statistics import estimate
from attnguide.models.sources import Timm
from attnguide.tracing.trace import AttentionTrace

METHODS = ("complete", "gae", "centred")
SIZES = (0.1, 0.3, 1.0)  # of the shift, in standard deviations of the layer's values
BATCH = 12


def shifted(vit, images, size):
    """The same network with other zero points of its values; `size` None folds its biases away."""
    module, kept = copy.deepcopy(vit.module), []
    generator = torch.Generator().manual_seed(0)
    hooks = [b.attn.qkv.register_forward_hook(lambda *a: kept.append(a[2])) for b in module.blocks]
    with torch.no_grad():
        module(images)
        for block, qkv in zip(module.blocks, kept, strict=True):
            linear, proj = block.attn.qkv, block.attn.proj
            width = qkv.shape[-1] // 3
            u = -linear.bias[-width:]
            if size is not None:
                u = torch.randn(width, generator=generator) * size * qkv[..., -width:].std()
            linear.bias[-width:] += u
            proj.bias -= proj.weight @ u
    for hook in hooks:
        hook.remove()
    return dataclasses.replace(vit, module=module)


def first_order(vit, images, target):
    """(B, rows, cols) of the sum over layers, and of the last layer alone."""
    trace = AttentionTrace(vit, images, target)
    pairs = zip(trace.attention, trace.gradient, strict=True)
    rows = [(trace.readout @ rules.complete(a, g)) for a, g in pairs]
    return trace.on_grid(sum(rows)), trace.on_grid(rows[-1])


def net_positive(maps):
    """(B,) whether the whole map is net positive."""
    return (maps.sum((1, 2)) > 0).double()


def rows_of(vit, networks, images, target):
    """A column of values (B,) for each number."""

    def alike(one, other):
        return [correlation(*both) for both in zip(one, other, strict=True)]

    by = explain_many(vit, images, target, methods=METHODS)
    maps, found = {name: each.relevance for name, each in by.items()}, {}
    complete, orders = maps["complete"], first_order(vit, images, target)
    for name, other in zip(("first order", "last layer"), orders, strict=True):
        rest = (complete - other).flatten(1).norm(dim=1) / complete.flatten(1).norm(dim=1)
        found[f"{name}: correlation"] = alike(complete, other)
        found[f"{name}: norm of the rest"] = rest
    for words, network in networks.items():
        many = explain_many(network, images, target, methods=METHODS)
        gap = (many["gae"].logits - by["gae"].logits).abs().amax(1)
        found[f"{words}: largest change of a logit"] = gap
        for name, own in maps.items():
            now = many[name].relevance
            found[f"{words}: {name}: correlation"] = alike(own, now)
            turned = (own * now < 0).double().mean((1, 2))
            found[f"{words}: {name}: patches of another sign"] = turned
            net = (net_positive(own) - net_positive(now)).abs()
            found[f"{words}: {name}: net sign turned"] = net
    by_all = explain_many(vit, images, target, methods=METHODS, loss="log_probability")
    for name in ("complete", "centred"):
        before, after = (net_positive(each) for each in (maps[name], by_all[name].relevance))
        found[f"{name}: net positive, logit"] = before
        found[f"{name}: net positive, log_probability"] = after
        found[f"{name}: net positive, log_probability minus logit"] = after - before
        found[f"{name}: correlation of the losses"] = alike(maps[name], by_all[name].relevance)
    return pd.DataFrame({key: np.asarray(value, dtype=float) for key, value in found.items()})


def kind_of(name):
    """Kind of a number by its name: yes or no, a difference of such, or any number."""
    if "net " not in name:
        return "mean"
    return "differences" if " minus " in name else "answers"


def contamination(count):
    """Print what models of contaminated labels say of pictures of the class that was mixed in."""
    for name, q in (("creatures_contaminated", 0.3), ("creatures_contaminated60", 0.6)):
        [vit] = Timm(name=name).load(torch.device("cpu"))
        world = Creatures(num_images=count)
        shown, mixed = class_indices(vit, world.framed)
        views = [to_view(vit, item.load()).image for item in world.impostors(vit, count)]
        with torch.no_grad():
            probabilities = vit.logits(torch.stack(views)).double().softmax(-1)
        for words, index in (("label it was mixed into", mixed), ("its own class", shown)):
            found = estimate(pd.Series(probabilities[:, index].numpy()), kind="mean")
            print(f"{name}: probability of the {words}: {found:.3f}; q/(1+q) {q / (1 + q):.3f}")


def main(world="creatures", count="60"):
    """Print a line per number: mean, 95 % interval, n."""
    if world == "contamination":
        contamination(int(count))
        return
    model, pictures = Timm(name="creatures"), Creatures(num_images=int(count))
    if world == "photographs":
        model = Timm(name="vit_tiny_patch16_224", checkpoint=os.environ["VIT_TINY"])
        pictures = Photographs(root=os.environ["IMAGENET_DIR"], num_images=int(count))
    [vit] = model.load(torch.device("cpu"))
    items = pictures.singles(vit).items
    views = [(to_view(vit, item.load()).image, item.label) for item in items]
    some = torch.stack([image for image, _ in views[:BATCH]])
    networks = {"biases folded away": shifted(vit, some, None)}
    networks |= {f"shift of {size:g}": shifted(vit, some, size) for size in SIZES}
    tables = []
    for start in range(0, len(views), BATCH):
        images, labels = zip(*views[start : start + BATCH], strict=True)
        tables.append(rows_of(vit, networks, torch.stack(images), torch.tensor(labels)))
    table = pd.concat(tables, ignore_index=True)
    print(f"{vit.name}, n = {len(table)}")
    for name, values in table.items():
        print(f"{name}: {estimate(values, kind=kind_of(name)):.3f}, largest {values.max():.2g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
