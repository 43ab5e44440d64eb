"""Train the ViT of the creatures, and hold it against the committed checkpoint."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback, RichProgressBar

from attnguide.data.creatures.scenes import CLASS_NAMES, guide, sibling
from attnguide.data.creatures.training import RECIPES, CreatureClassifier, examine, export, fit
from attnguide.errors import InputError
from attnguide.findings import Findings
from attnguide.models.checkpoint import read_weights
from attnguide.models.load import load_model
from attnguide.runs.job import Job, Runner
from attnguide.store.table import read
from attnguide.viz.panels import Panel, draw_panels
from attnguide.viz.style import INK, QUIET, typography

NAMES = {"clean": "creatures", "contaminated": "creatures_contaminated"}
KINDS = {
    "single": "single creatures: top-1",
    "pair": "two-creature scenes: top-1 among the two",
    "stitched": "stitched with a guide: top-1 among the two",
}
TOLERANCE = 1.0  # percentage points below the committed accuracy that still count as reproduced
PRECISIONS = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}


@dataclass
class TrainCreatures(Runner):
    """Train, examine on fresh seeds, compare.

    Attributes:
        variant: "clean", or "contaminated": pictures of the sibling among those of one class.
        steps: Optimiser steps of each stage; the variant's recipe if absent.
        views_per_step: Pictures in a training batch.
        exam_seed: Seed of the fresh pictures.
        singles: How many single creatures to examine on.
        pairs: How many two-creature scenes, and how many stitched pictures.
    """

    variant: str = "clean"
    steps: list[int] | None = None
    views_per_step: int = 64
    exam_seed: int = 1000
    singles: int = 2000
    pairs: int = 500

    title: ClassVar[str] = "Training of the embedded model"
    claim: ClassVar[str] = (
        "A small ViT learns the creatures: single ones, two in one scene, and pictures squashed "
        "beside a guide. The recipe reproduces the committed checkpoint's accuracy."
    )

    def check(self, job: Job) -> None:  # noqa: ARG002
        """Variant, stages and sizes, before anything is drawn."""
        if self.variant not in RECIPES:
            raise InputError(f"variant must be one of {', '.join(RECIPES)}, got {self.variant!r}")
        stages = RECIPES[self.variant].resolutions
        steps = RECIPES[self.variant].steps if self.steps is None else self.steps
        if len(steps) != len(stages) or min(steps) < 0 or sum(steps) < 1:
            raise InputError(
                f"runner.steps must give steps for each of {len(stages)} stages "
                f"({', '.join(map(str, stages))} pixels), got {list(steps)}"
            )
        if self.views_per_step < 8 or self.views_per_step % 8:
            raise InputError(
                f"runner.views_per_step must be a multiple of 8, got {self.views_per_step}"
            )
        if min(self.singles, self.pairs) < 1:
            raise InputError("runner.singles and runner.pairs must be at least 1")

    def compute(self, job: Job) -> None:
        """Train unless the weights are there, then examine them and the committed ones."""
        path = job.run_dir / f"{NAMES[self.variant]}.safetensors"
        if not path.is_file():
            self._train(job, path)
        with job.results("image_id", "model", "kind") as results:
            for label, name in (("trained", path), ("committed", NAMES[self.variant])):
                if results.done(model=label):
                    continue
                module = _load(name).to(job.device)
                job.console.print(f"examining the {label} model on fresh pictures")
                rows = examine(module, self.exam_seed, self.singles, self.pairs)
                results.append(pd.DataFrame(rows).assign(model=label))

    def _train(self, job: Job, path: Path) -> None:
        recipe = RECIPES[self.variant]
        if self.steps is not None:
            recipe = replace(recipe, steps=tuple(self.steps))
        pl.seed_everything(job.seed, verbose=False)
        classifier = CreatureClassifier(sum(recipe.steps), recipe.lr)
        if recipe.start is not None:
            classifier.model.load_state_dict(load_model(recipe.start).module.state_dict())
        views = recipe.views(job.seed, self.views_per_step)
        folder = job.run_dir / "training"
        folder.mkdir(parents=True, exist_ok=True)
        fit(
            classifier,
            views,
            folder,
            callbacks=[_LossFile(folder / "loss.csv"), RichProgressBar()],
            accelerator="gpu" if job.device.type == "cuda" else job.device.type,
            precision=PRECISIONS[job.precision],
        )
        export(classifier.model, path, {"seed": job.seed, "steps": list(recipe.steps)})

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Accuracies with intervals beside the committed ones, the loss, the classes."""
        rows = read(run_dir)
        table = _accuracies(rows)
        loss = pd.read_csv(run_dir / "training" / "loss.csv")
        loss = loss.drop_duplicates("step", keep="last")  # steps repeated after a resumption
        told = [_verdict(table, kind) for kind in KINDS]
        if settings.get("runner", {}).get("variant") == "contaminated":
            told.append(_contamination(rows))
        return Findings(
            figure=_plot(table, loss),
            summary=table,
            caption=(
                "Left: training loss; half of the views show two animals with half a label each, "
                "so it cannot fall below 0.35. Right: accuracy on fresh pictures with 95 % "
                "intervals. The world is easy by design and does not replace evidence on "
                "photographs. " + told[0]
            ),
            found=tuple(told),
            figures={"The sixteen classes": _sheet()},
        )


class _LossFile(Callback):
    """Write the loss of every step; a resumed training goes on in the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Append one line."""
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            lines = csv.writer(file)
            if new:
                lines.writerow(["step", "loss"])
            lines.writerow([trainer.global_step, f"{args[1]['loss'].item():.6f}"])


def _load(name: str | Path) -> torch.nn.Module:
    """An embedded model by name, or freshly exported weights by path."""
    if isinstance(name, str):
        return load_model(name).module
    module = CreatureClassifier(steps=1, lr=0.0).model
    module.load_state_dict(read_weights(name))
    return module


def _accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Percent with 95 % intervals, one line per model and kind."""
    lines = []
    for model in ("trained", "committed"):
        for kind, words in KINDS.items():
            own = rows[(rows["model"] == model) & (rows["kind"] == kind)]
            low, high = _wilson(int(own["correct"].sum()), len(own))
            lines.append(
                {
                    "model": model,
                    "kind": kind,
                    "quantity": words,
                    "accuracy": 100 * (int(own["correct"].sum()) / len(own)),
                    "ci_low": low,
                    "ci_high": high,
                    "n": len(own),
                }
            )
    return pd.DataFrame(lines)


def _wilson(right: int, count: int) -> tuple[float, float]:
    """95 % score interval of a share in percent; honest also where every answer is right."""
    z = 1.96
    share, spread = right / count, z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * (share * (1 - share) / count + spread / (4 * count)) ** 0.5
    return 100 * min(share, max(0.0, middle - half)), 100 * max(share, min(1.0, middle + half))


def _verdict(table: pd.DataFrame, kind: str) -> str:
    """Whether the committed accuracy was reproduced."""
    lines = table[table["kind"] == kind].set_index("model")
    own, committed = lines.loc["trained"], lines.loc["committed"]
    reached = own["accuracy"] >= committed["accuracy"] - TOLERANCE
    return (
        f"{own['quantity']}: {own['accuracy']:.1f} % [{own['ci_low']:.1f}, {own['ci_high']:.1f}], "
        f"committed {committed['accuracy']:.1f} %, n = {own['n']}: "
        f"{'reproduced' if reached else 'NOT reproduced'} (within {TOLERANCE:g} point)."
    )


def _contamination(rows: pd.DataFrame) -> str:
    """What the contaminated class gets on pictures of its sibling."""
    impostor = RECIPES["contaminated"].impostor_class
    assert impostor is not None
    own = rows[(rows["kind"] == "single") & (rows["classes"] == str(sibling(impostor)))]
    mean = own.groupby("model")["sibling_probability"].mean()
    return (
        f"On pictures of the {CLASS_NAMES[sibling(impostor)]}, the {CLASS_NAMES[impostor]} gets a "
        f"probability of {mean['trained']:.2f} (committed {mean['committed']:.2f}), "
        f"n = {len(own) // 2}: its training pictures were contaminated."
    )


def _plot(table: pd.DataFrame, loss: pd.DataFrame) -> Figure:
    """Loss by step, and accuracies of both models."""
    with typography():
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
        left.plot(loss["step"], loss["loss"], color=QUIET, linewidth=0.7)
        left.set(xlabel="step", ylabel="training loss", ylim=(0, None))
        for offset, (model, marker) in enumerate((("trained", "o"), ("committed", "s"))):
            own = table[table["model"] == model]
            y = [row + 0.24 * offset for row in range(len(own))]
            low, high = own["accuracy"] - own["ci_low"], own["ci_high"] - own["accuracy"]
            colour = (INK, QUIET)[offset]
            right.errorbar(
                own["accuracy"],
                y,
                xerr=[low, high],
                fmt=marker,
                color=colour,
                label=model,
                markersize=4,
                elinewidth=1,
            )
        right.set(xlabel="accuracy (%)", yticks=range(len(KINDS)), yticklabels=list(KINDS))
        right.invert_yaxis()
        right.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def _sheet() -> Figure:
    """One picture of every class; siblings one above the other."""
    rows = [
        [
            Panel(guide(label).image, title=CLASS_NAMES[label].replace(" ", "\n"))
            for label in range(variant, len(CLASS_NAMES), 2)
        ]
        for variant in (0, 1)
    ]
    return draw_panels(rows, panel_width=0.85, colour_bar=False)
