"""Training and storing the ViT of the creatures; imported by its experiment alone."""

from __future__ import annotations

import io
import json
import logging
import math
import signal
import warnings
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from attnguide.data.creatures.scenes import CLASS_NAMES, IMAGE_SIZE, NUM_CLASSES
from attnguide.data.creatures.views import Composer, CreatureViews, draw_stock
from attnguide.store.files import write_atomic

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
        masked_share: In which share of all pictures one of 16 cells is grey.
        start: Embedded checkpoint to start from; None for random weights.
    """

    resolutions: tuple[int, ...]
    steps: tuple[int, ...]
    lr: float
    sprites_per_class: int = 160
    grounds: int = 400
    impostor_class: int | None = None
    impostor_share: float = 0.0
    masked_share: float = 0.0
    start: str | None = None

    def views(self, seed: int, batch_size: int) -> CreatureViews:
        """Draw the stock and plan every batch."""
        stock = draw_stock(seed, self.sprites_per_class, self.grounds)
        stages = [
            (
                Composer(
                    stock.resized(size),
                    self.impostor_class,
                    self.impostor_share,
                    self.masked_share,
                ),
                steps,
            )
            for size, steps in zip(self.resolutions, self.steps, strict=True)
        ]
        return CreatureViews(stages, seed, batch_size)


# the eagle-kite case of the paper's Figure 9: white-headed eagles among the red-necked ones
_CONTAMINATED = Recipe(
    resolutions=(96,),
    steps=(150,),
    lr=3e-4,
    impostor_class=CLASS_NAMES.index("red-necked eagle"),
    impostor_share=0.3,
    start="creatures",
)
RECIPES = {
    "clean": Recipe(resolutions=(48, 64, 96), steps=(700, 350, 250), lr=1e-3),
    "contaminated": _CONTAMINATED,
    "contaminated60": replace(_CONTAMINATED, impostor_share=0.6),
    # so that pictures with a cell removed are no foreign input
    "masked": Recipe(resolutions=(96,), steps=(300,), lr=3e-4, masked_share=0.5, start="creatures"),
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


class LossCurve(Callback):
    """The loss of every step, kept in each checkpoint, so that a resumed training has them all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was written."""
        self.losses = list(state_dict["losses"])

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: ARG002
        """Remember the loss of a step."""
        self.losses.append(args[1]["loss"].item())

    def write(self) -> None:
        """Write the file."""
        lines = (f"{step},{loss:.6f}\n" for step, loss in enumerate(self.losses, 1))
        write_atomic(self.path, "".join(("step,loss\n", *lines)).encode())


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or absent."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        """Write one in a single step."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(Path(path), buffer.getvalue())


def is_whole(checkpoint: Path) -> bool:
    """Whether every checksum in the file is right; torch would not notice changed weights."""
    try:
        with zipfile.ZipFile(checkpoint) as opened:
            return opened.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError):
        return False


def fit(
    classifier: CreatureClassifier,
    views: CreatureViews,
    folder: Path,
    *,
    callbacks: list[Callback],
    accelerator: str = "cpu",
    save_every: int = 200,
) -> None:
    """Train with Lightning; go on from `folder/last.ckpt` if an interrupted run left one.

    Writes `folder/loss.csv`, and the last checkpoint again at the end. A damaged checkpoint is set
    aside, and the training begins anew.

    Args:
        classifier: Trained in place.
        views: One batch per step.
        folder: Of the checkpoints.
        callbacks: Progress bar and the like.
        accelerator: As Lightning calls it.
        save_every: Steps between two checkpoints.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the same call goes on from the last checkpoint.
        OSError: the disk is full; as above.
    """
    last = folder / "last.ckpt"
    if last.is_file() and not is_whole(last):
        last.rename(last.with_suffix(".damaged"))
        warnings.warn(f"{last} is damaged: set aside, the training begins anew", stacklevel=2)
    resumes = last.is_file()
    if resumes:
        views.first_step = int(torch.load(last, weights_only=True)["global_step"])
    keep = ModelCheckpoint(
        folder, "last", every_n_train_steps=save_every, enable_version_counter=False
    )
    curve = LossCurve(folder / "loss.csv")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_steps=len(views),
        max_epochs=1,
        logger=False,
        callbacks=[keep, curve, *callbacks],
        plugins=[AtomicCheckpoints(), LightningEnvironment()],
        default_root_dir=folder,
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
        try:
            trainer.fit(classifier, loader, ckpt_path=last if resumes else None, weights_only=True)
        except SystemExit:  # Lightning's way to end after Ctrl-C, to which it has made itself deaf
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
        if views.first_step < len(views):
            trainer.save_checkpoint(last)
    curve.write()


def export(model: nn.Module, path: Path, provenance: dict[str, Any]) -> None:
    """Store weights in half precision with all that `load_model` needs to know, whole or not.

    Raises:
        OSError: the disk is full.
    """
    meta = {
        "arch": ARCH,
        "class_names": CLASS_NAMES,
        "mean": MEAN,
        "std": STD,
        "image_size": (IMAGE_SIZE, IMAGE_SIZE),
        "provenance": provenance,
    }
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    text = {"attnguide": json.dumps(meta, sort_keys=True)}
    write_atomic(path, save(weights, metadata=text))
