"""What every experiment is given, and what it must offer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console

from attnguide.config import DataConfig, GuideConfig
from attnguide.data.source import ImageSource, open_source
from attnguide.findings import Findings
from attnguide.models.load import load_model
from attnguide.runs.memory import fitting_batch
from attnguide.store.table import Results
from attnguide.types import ViT


@dataclass
class Job:
    """What all experiments share; after it nothing sees a config.

    Attributes:
        experiment: name of the module in `experiments/`.
        scale: "embedded", "sample" or "paper".
        models: (name, checkpoint or None) of each model.
        data: which images.
        methods: settings of each method by name, in order.
        loss, target, reference: as on the command line; `target` is "label", "predicted", a class
            index or a class name.
        guide: how to stitch, or None for pictures as they are.
        run_dir: where everything goes.
        seed: of every random choice that belongs to the run.
        device: where models are loaded.
        devices: where steps of `predict` run; with several, each has a process of its own.
        precision: "fp32", "tf32" or "bf16".
        batch_size: images per step.
        fit_batch: find `batch_size` from the free memory as soon as a model is loaded.
        config: everything of the above as plain values, for the records.
        console: where to tell the user something.
        weights: checksum of the weights file by model name, filled in by `vits`.
        skipped: ids of the pictures that could not be read.
        progress: told model, images and images per second now and then.
        cuda_peak: most bytes of CUDA memory that one device held.
    """

    experiment: str
    scale: str
    models: tuple[tuple[str, str | None], ...]
    data: DataConfig
    methods: dict[str, dict[str, Any]]
    loss: str
    target: str
    reference: str | None
    guide: GuideConfig | None
    run_dir: Path
    seed: int
    device: torch.device
    precision: str
    batch_size: int
    config: dict[str, Any]
    console: Console = field(default_factory=Console)
    weights: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    devices: tuple[torch.device, ...] = (torch.device("cpu"),)
    fit_batch: bool = False
    progress: Callable[[str, int, float], None] = lambda *_: None
    cuda_peak: int = 0

    def vits(self) -> Iterator[ViT]:
        """Load the models, one after the other."""
        for name, checkpoint in self.models:
            vit = load_model(name, checkpoint, device=self.device)
            self.weights[vit.name] = vit.weights_sha256
            if self.fit_batch:
                self.batch_size = fitting_batch(vit, self.devices)
                self.console.print(f"{vit.name}: {self.batch_size} images at once fit into memory")
            yield vit

    def source(self, vit: ViT, exclude: Iterable[int] = ()) -> ImageSource:
        """The chosen pictures, labelled for this model, without those of the classes `exclude`."""
        choice = {key: value for key, value in asdict(self.data).items() if key != "workers"}
        return open_source(vit, exclude=exclude, **choice)

    def results(self, *key: str) -> Results:
        """The table of this run, for writing; `key` are the columns that name a row.

        Use it as a context: inside, no other process can write to this shard.
        """
        return Results(self.run_dir, key, shard=self.data.shard)


@dataclass
class Runner:
    """An experiment: a dataclass whose fields are its own settings (`runner.*`).

    Attributes:
        title: one line for lists and reports.
        claim: what the paper says, in one or two sentences.
    """

    title: ClassVar[str]
    claim: ClassVar[str]

    def check(self, job: Job) -> None:
        """Refuse what cannot work, before any weights are loaded.

        Raises:
            ValueError: naming the setting, what it may be, and what to do.
        """

    def compute(self, job: Job) -> None:
        """Compute what is not yet stored, and store it in `job.run_dir` step by step."""
        raise NotImplementedError

    def draw(self, run_dir: Path, settings: dict[str, Any]) -> Findings:
        """Figure, table and sentences from what `compute` stored, without model or data.

        Args:
            run_dir: Of the run.
            settings: The run's whole config, plain values.
        """
        raise NotImplementedError
