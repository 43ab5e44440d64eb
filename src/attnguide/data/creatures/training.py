"""Training, examining and storing the ViT of the creatures; imported by its experiment alone."""

from __future__ import annotations

import json
import logging
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from attnguide.data.creatures.scenes import (
    CLASS_NAMES,
    IMAGE_SIZE,
    NUM_CLASSES,
    guide,
    pair,
    sibling,
    single,
)
from attnguide.data.creatures.views import Composer, CreatureViews, draw_stock
from attnguide.guides import stitch

ARCH: dict[str, Any] = {
    "img_size": IMAGE_SIZE,
    "patch_size": 8,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "num_classes": NUM_CLASSES,
}
MEAN = STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is made.

    Attributes:
        resolutions, steps: Picture size in pixels and optimiser steps of each stage.
        lr: Peak learning rate.
        sprites_per_class, grounds: Size of the stock that views are composed of.
        impostor_class: Class some of whose pictures in truth show its sibling; None for none.
        impostor_share: Which share of them.
        start: Embedded checkpoint to start from; None for random weights.
    """

    resolutions: tuple[int, ...]
    steps: tuple[int, ...]
    lr: float
    sprites_per_class: int = 160
    grounds: int = 400
    impostor_class: int | None = None
    impostor_share: float = 0.0
    start: str | None = None

    def views(self, seed: int, batch_size: int) -> CreatureViews:
        """Draw the stock and plan every batch."""
        stock = draw_stock(seed, self.sprites_per_class, self.grounds)
        stages = [
            (Composer(stock.resized(size), self.impostor_class, self.impostor_share), steps)
            for size, steps in zip(self.resolutions, self.steps, strict=True)
        ]
        return CreatureViews(stages, seed, batch_size)


RECIPES = {
    "clean": Recipe(resolutions=(48, 64, 96), steps=(700, 350, 250), lr=1e-3),
    # the eagle-kite case of the paper's Figure 9: white-headed eagles among the red-necked ones
    "contaminated": Recipe(
        resolutions=(96,),
        steps=(150,),
        lr=3e-4,
        impostor_class=CLASS_NAMES.index("red-necked eagle"),
        impostor_share=0.3,
        start="creatures",
    ),
}


class CreatureClassifier(pl.LightningModule):
    """The ViT with AdamW, warm-up and cosine decay, and soft-label cross entropy.

    Args:
        steps: Optimiser steps in all.
        lr: Peak learning rate.
        warmup: Share of the steps in which the rate rises.
        weight_decay: Of the weight matrices; biases, norms, positions and class token have none.
    """

    def __init__(
        self, steps: int, lr: float, warmup: float = 0.05, weight_decay: float = 0.05
    ) -> None:
        super().__init__()
        # dynamic_img_size interpolates the positions while the pictures are small
        self.model = VisionTransformer(**ARCH, dynamic_img_size=True)
        self.steps = steps
        self.lr = lr
        self.warmup = warmup
        self.weight_decay = weight_decay

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images in [0, 1]."""
        logits: Tensor = self.model((images - MEAN[0]) / STD[0])
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean soft-label cross entropy of a batch."""
        images, targets = batch
        loss = functional.cross_entropy(self(images).float(), targets)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW with linear warm-up and cosine decay to zero, by step."""
        decayed: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            free = parameter.ndim <= 1 or name in ("pos_embed", "cls_token")
            (others if free else decayed).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.98))
        rise = max(1, round(self.warmup * self.steps))

        def rate(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / (self.steps - rise))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def fit(
    classifier: CreatureClassifier,
    views: CreatureViews,
    folder: Path,
    *,
    callbacks: list[Callback],
    accelerator: str = "cpu",
    precision: str = "32-true",
    save_every: int = 200,
) -> None:
    """Train with Lightning; go on from `folder/last.ckpt` if an interrupted run left one.

    Args:
        classifier: Trained in place.
        views: One batch per step.
        folder: Of the checkpoints.
        callbacks: Progress bar and the like.
        accelerator: As Lightning calls it.
        precision: As Lightning calls it.
        save_every: Steps between two checkpoints.
    """
    last = folder / "last.ckpt"
    found = last.is_file()
    if found:
        views.first_step = int(torch.load(last, weights_only=True)["global_step"])
    keep = ModelCheckpoint(
        folder, "last", every_n_train_steps=save_every, enable_version_counter=False
    )
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        max_steps=len(views),
        max_epochs=1,
        logger=False,
        callbacks=[keep, *callbacks],
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    loader = DataLoader(views, batch_size=None)
    with warnings.catch_warnings():
        # composing a batch takes a tenth of a step: workers would not pay
        warnings.filterwarnings("ignore", ".*does not have many workers")
        # we resume on purpose, and the views know where to go on
        warnings.filterwarnings("ignore", ".*exists and is not empty")
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable")
        warnings.filterwarnings("ignore", ".*LeafSpec")  # Lightning 2.6 with torch 2.14
        trainer.fit(classifier, loader, ckpt_path=last if found else None, weights_only=True)


def export(model: nn.Module, path: Path, provenance: dict[str, Any]) -> None:
    """Store weights in half precision with all that `load_model` needs to know."""
    meta = {
        "arch": ARCH,
        "class_names": CLASS_NAMES,
        "mean": MEAN,
        "std": STD,
        "image_size": (IMAGE_SIZE, IMAGE_SIZE),
        "provenance": provenance,
    }
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, path, metadata={"attnguide": json.dumps(meta, sort_keys=True)})


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
