"""Training of the creatures' ViT: views composed from drawn animals, the recipes, the loop.

Drawing a scene takes about ten milliseconds, too slow for training. Here sprites and backgrounds
are drawn once and batches are composed from them by `grid_sample`. A batch is a pure function of
(seed, step), so an interrupted training resumes with the very same batches.
"""

from __future__ import annotations

import io
import logging
import math
import signal
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from attnguide.data.creatures.scenes import (
    CLASS_NAMES,
    IMAGE_SIZE,
    NUM_CLASSES,
    Pose,
    animal,
    scenery,
    sibling,
)
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
_SPRITE, _GROUND = 10, 11  # random streams apart from those of the evaluation scenes
GRID = 4  # cells along each side, of which one may be masked
GREY = 0.5  # of a masked cell: what the model's normalisation turns into zero
SPRITE_SHARE = 0.92  # of the sprite's canvas that the animal's unit square takes


@dataclass(frozen=True)
class Stock:
    """What views are composed of, uint8.

    Attributes:
        sprites: (classes, n, 4, s, s), colour premultiplied by coverage, and coverage.
        grounds: (m, 3, s, s).
    """

    sprites: Tensor
    grounds: Tensor

    def resized(self, size: int) -> Stock:
        """The same pictures at another resolution, antialiased."""
        if size == self.grounds.shape[-1]:
            return self

        def shrink(x: Tensor) -> Tensor:
            small = functional.interpolate(
                x.flatten(0, -4).float(), size=(size, size), mode="bilinear", antialias=True
            )
            return small.round().to(torch.uint8).unflatten(0, x.shape[:-3])

        sprites = torch.stack([shrink(s) for s in self.sprites])
        return Stock(sprites, shrink(self.grounds))


def draw_stock(seed: int, sprites_per_class: int, grounds: int) -> Stock:
    """Draw upright sprites of every class, and backgrounds with clutter."""
    pose = Pose(0.5, 0.5, SPRITE_SHARE)

    def sprite(label: int, number: int) -> NDArray[np.float64]:
        return animal(np.random.default_rng([_SPRITE, seed, label, number]), label, pose).rgba

    drawn = [[sprite(label, i) for i in range(sprites_per_class)] for label in range(NUM_CLASSES)]
    backs = [scenery(np.random.default_rng([_GROUND, seed, i]), IMAGE_SIZE) for i in range(grounds)]
    return Stock(
        sprites=_to_bytes(np.array(drawn)).permute(0, 1, 4, 2, 3).contiguous(),
        grounds=_to_bytes(np.array(backs)).permute(0, 3, 1, 2).contiguous(),
    )


def _to_bytes(x: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.round(255 * x).astype(np.uint8))


@dataclass(frozen=True)
class Composer:
    """Composes random views of one resolution from a stock.

    Attributes:
        stock: Sprites and backgrounds of that resolution.
        impostor_class: Class whose pictures are contaminated; None for clean labels.
        impostor_share: Share of that class's pictures that in truth show its sibling.
        masked_share: Share of all pictures in which one of the `GRID` x `GRID` cells is grey.
    """

    stock: Stock
    impostor_class: int | None = None
    impostor_share: float = 0.0
    masked_share: float = 0.0

    @property
    def size(self) -> int:
        """Of the pictures' sides, in pixels."""
        return self.stock.grounds.shape[-1]

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Half singles, a quarter two-creature scenes, a quarter stitched halves.

        Returns:
            Images (size, 3, h, w) in [0, 1] and soft labels (size, classes), one half for each of
            two animals.
        """
        quarter, s = size // 4, self.size
        labels = self._labels(generator, size)
        singles = self._singles(generator, labels[: size - 2 * quarter, 0], (s, s))
        pairs = self._pairs(generator, labels[size - 2 * quarter : size - quarter])
        stitched = self._stitched(generator, labels[size - quarter :])
        images = torch.cat([singles, pairs, stitched])
        one_hot = functional.one_hot(labels, NUM_CLASSES).float()
        targets = one_hot.mean(1)
        targets[: len(singles)] = one_hot[: len(singles), 0]
        return self._masked(generator, self._exposed(generator, images)), targets

    def _labels(self, generator: torch.Generator, count: int) -> Tensor:
        """Two different random classes for each view, (count, 2)."""
        first = torch.randint(NUM_CLASSES, (count,), generator=generator)
        step = torch.randint(1, NUM_CLASSES, (count,), generator=generator)
        return torch.stack([first, (first + step) % NUM_CLASSES], dim=1)

    def _shown(self, generator: torch.Generator, labels: Tensor) -> Tensor:
        """The class really drawn for each label: with contamination, sometimes the sibling."""
        draw = torch.rand(labels.shape, generator=generator)
        if self.impostor_class is None:
            return labels
        swapped = (labels == self.impostor_class) & (draw < self.impostor_share)
        return torch.where(swapped, sibling(self.impostor_class), labels)

    def _ground(self, generator: torch.Generator, shape: tuple[int, int], count: int) -> Tensor:
        """Backgrounds, zoomed, mirrored and turned by quarters at random."""
        pick = torch.randint(len(self.stock.grounds), (count,), generator=generator)
        zoom = _uniform(generator, (count, 2), 0.6, 1.0)
        shift = _uniform(generator, (count, 2), -1, 1) * (1 - zoom)
        zoom = zoom * torch.where(torch.rand((count, 2), generator=generator) < 0.5, -1.0, 1.0)
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = zoom[:, 0], zoom[:, 1], shift
        turned = torch.rand((count, 1, 1), generator=generator) < 0.5
        theta = torch.where(turned, theta[:, :, [1, 0, 2]], theta)
        grid = functional.affine_grid(theta, [count, 3, *shape], align_corners=False)
        grounds = self.stock.grounds[pick].float() / 255
        return functional.grid_sample(grounds, grid, padding_mode="reflection", align_corners=False)

    def _paste(
        self,
        generator: torch.Generator,
        canvas: Tensor,
        labels: Tensor,
        centre: Tensor,
        size: Tensor,
    ) -> Tensor:
        """Put one animal per view at `centre` (n, 2) in [-1, 1], `size` (n,) as a share."""
        count = len(labels)
        angle = _uniform(generator, (count,), -0.25, 0.25)
        aspect = (0.18 * torch.randn(count, generator=generator)).clamp(-0.45, 0.45)
        mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
        width = mirror * size * torch.exp(aspect / 2) / SPRITE_SHARE
        height = size * torch.exp(-aspect / 2) / SPRITE_SHARE
        c, s = angle.cos(), angle.sin()
        rows = [torch.stack([c / width, s / width], 1), torch.stack([-s / height, c / height], 1)]
        linear = torch.stack(rows, dim=1)
        theta = torch.cat([linear, -linear @ centre[:, :, None]], dim=2)
        shown = self._shown(generator, labels)
        pick = torch.randint(self.stock.sprites.shape[1], (count,), generator=generator)
        sprites = self.stock.sprites[shown, pick].float() / 255
        grid = functional.affine_grid(theta, [count, 4, *canvas.shape[2:]], align_corners=False)
        layer = functional.grid_sample(sprites, grid, align_corners=False)
        return canvas * (1 - layer[:, 3:]) + layer[:, :3]

    def _singles(
        self, generator: torch.Generator, labels: Tensor, shape: tuple[int, int]
    ) -> Tensor:
        """One animal each; a shape that is not square squashes the scene."""
        size = _uniform(generator, (len(labels),), 0.5, 1.0)
        slack = (1 - size)[:, None] + 0.06
        centre = slack * _uniform(generator, (len(labels), 2), -1, 1)
        return self._paste(
            generator, self._ground(generator, shape, len(labels)), labels, centre, size
        )

    def _pairs(self, generator: torch.Generator, labels: Tensor) -> Tensor:
        """Two animals side by side on one background."""
        canvas = self._ground(generator, (self.size, self.size), len(labels))
        for column, x in ((0, -0.48), (1, 0.48)):
            centre = _uniform(generator, (len(labels), 2), -1, 1) * torch.tensor([0.06, 0.45])
            centre[:, 0] += x
            size = _uniform(generator, (len(labels),), 0.42, 0.58)
            canvas = self._paste(generator, canvas, labels[:, column], centre, size)
        return canvas

    def _stitched(self, generator: torch.Generator, labels: Tensor) -> Tensor:
        """Two pictures squashed to half, side by side or one above the other."""
        middle, s = len(labels) // 2, self.size
        halves = []
        parts = ((labels[:middle], (s, s // 2), 3), (labels[middle:], (s // 2, s), 2))
        for part, shape, dim in parts:
            views = [self._singles(generator, part[:, i], shape) for i in (0, 1)]
            halves.append(torch.cat(views, dim=dim))
        return torch.cat(halves)

    def _exposed(self, generator: torch.Generator, images: Tensor) -> Tensor:
        """Random exposure per colour, and noise."""
        count = len(images)
        gain = _uniform(generator, (count, 1, 1, 1), 0.85, 1.12)
        gain = gain * _uniform(generator, (count, 3, 1, 1), 0.95, 1.05)
        sigma = _uniform(generator, (count, 1, 1, 1), 0.0, 0.035)
        noise = torch.randn(images.shape, generator=generator)
        return (images * gain + sigma * noise).clamp(0, 1)

    def _masked(self, generator: torch.Generator, images: Tensor) -> Tensor:
        """A random cell of some pictures in the grey that the model reads as zero."""
        if not self.masked_share:
            return images
        count, cell = len(images), self.size // GRID
        is_masked = torch.rand((count,), generator=generator) < self.masked_share
        place = torch.randint(GRID * GRID, (count,), generator=generator)
        cells = functional.one_hot(place, GRID * GRID).bool() & is_masked[:, None]
        mask = cells.view(count, 1, GRID, GRID)
        mask = mask.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
        return images.masked_fill(mask, GREY)


def _uniform(generator: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


class CreatureViews(Dataset[tuple[Tensor, Tensor]]):
    """Batches for every training step, in stages of growing resolution.

    Args:
        stages: Composer and number of steps of each stage, in order.
        seed: Seed of the views.
        batch_size: Views per batch, a multiple of 8.
    """

    def __init__(self, stages: Sequence[tuple[Composer, int]], seed: int, batch_size: int) -> None:
        self.plan = [composer for composer, steps in stages for _ in range(steps)]
        self.seed = seed
        self.batch_size = batch_size
        self.first_step = 0  # a resumed training moves it

    def __len__(self) -> int:
        return len(self.plan)  # Lightning counts the steps before a resumption too

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        step = self.first_step + index
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return self.plan[step].batch(generator, self.batch_size)


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
        wrong = (self.impostor_class, self.impostor_share, self.masked_share)
        stages = [
            (Composer(stock.resized(size), *wrong), steps)
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
    # so that pictures with a cell removed are in its distribution
    "masked": Recipe(resolutions=(96,), steps=(300,), lr=3e-4, masked_share=0.5, start="creatures"),
}


class CreatureClassifier(pl.LightningModule):
    """The ViT with AdamW, warm-up and cosine decay, and soft-label cross entropy.

    Args:
        steps: Optimiser steps in all.
        lr: Peak learning rate.
    """

    warmup = 0.05  # share of the steps in which the rate rises
    weight_decay = 0.05  # of the weight matrices; biases, norms, positions, class token have none

    def __init__(self, steps: int, lr: float) -> None:
        super().__init__()
        # dynamic_img_size interpolates the positions while the pictures are small
        self.model = VisionTransformer(**ARCH, dynamic_img_size=True)
        self.steps, self.lr = steps, lr

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
        groups = [{"params": [], "weight_decay": decay} for decay in (self.weight_decay, 0.0)]
        for name, parameter in self.model.named_parameters():
            is_free = parameter.ndim <= 1 or name in ("pos_embed", "cls_token")
            groups[is_free]["params"].append(parameter)
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
        warnings.filterwarnings("ignore", "The dirpath has changed")  # a run may be moved
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
