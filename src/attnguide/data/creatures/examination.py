"""A model of the creatures before fresh pictures: one animal, two, and stitched with a guide."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attnguide.data.creatures.scenes import guide, pair, sibling, single
from attnguide.data.creatures.training import MEAN, STD
from attnguide.guides import stitch


@torch.no_grad()
def predict(model: nn.Module, images: list[Tensor], batch_size: int = 50) -> Tensor:
    """Probabilities (n, classes) of images (3, 96, 96) in [0, 1]."""
    model.eval()
    device = next(model.parameters()).device
    batches = ((torch.stack(images).to(device) - MEAN[0]) / STD[0]).split(batch_size)
    return torch.cat([model(batch).float().softmax(1).cpu() for batch in batches])


def examine(model: nn.Module, seed: int, singles: int, pairs: int) -> list[dict[str, Any]]:
    """Answers of a model on fresh scenes, one row per picture.

    Pairs are two-creature scenes; as many stitched pictures have the original squashed to the left
    half and a guide of another class to the right one.

    Returns:
        Rows with `image_id`, `kind` (single, pair, stitched), `classes` (one or two indices joined
        by "+"), `prediction`, `correct`: top-1 is (one of) the present class(es), and
        `sibling_probability`: what the sibling of the (first) class gets.
    """
    scenes = [single(seed, index) for index in range(singles)]
    asked = [("single", s.id, s.labels, s.image) for s in scenes]
    for index in range(pairs):
        scene = pair(seed, index)
        asked.append(("pair", scene.id, scene.labels, scene.image))
        # the labels of the pair serve again: one for the picture, one for its guide
        first, second = scene.labels
        alone, beside = single(seed + 1, index, first), guide(second, seed + 1 + index)
        views, _ = stitch(alone.image[None], beside.image, patch_size=8)
        asked.append(("stitched", f"{alone.id}|{beside.id}", scene.labels, views[0]))
    answers = predict(model, [image for *_, image in asked])
    return [
        {
            "image_id": name,
            "kind": kind,
            "classes": "+".join(map(str, labels)),
            "prediction": int(answer.argmax()),
            "correct": int(answer.argmax()) in labels,
            "sibling_probability": float(answer[sibling(labels[0])]),
        }
        for (kind, name, labels, _), answer in zip(asked, answers, strict=True)
    ]
