"""A whole study in a second: twelve random images, a random model, one row per image."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure
from tiny import pictures, tiny

from attnguide import explain
from attnguide.findings import Findings
from attnguide.runs.job import Job, Runner
from attnguide.runs.predict import predict
from attnguide.store.table import read

computed = []  # ids of all images that were explained, over all runs of a test
stop = {}  # image id to what happens when its turn comes


class Numbers:
    def __init__(self, indices, unreadable):
        self.indices, self.unreadable = list(indices), unreadable
        self.ids = [f"image {index:02d}" for index in self.indices]

    def __getitem__(self, number):
        index = self.indices[number]
        return None if index in self.unreadable else (self.ids[number], index)


@dataclass
class FakeStudy(Runner):
    count: int = 12
    share: float = 0.5
    unreadable: list[int] | None = None

    title: ClassVar[str] = "A fake study"
    claim: ClassVar[str] = "Gradients reach the step."

    def check(self, job: Job) -> None:
        if self.count < 1:
            raise ValueError(f"runner.count must be at least 1, got {self.count}")

    def compute(self, job: Job) -> None:
        vit = tiny()
        images = pictures(vit, self.count)
        part = range(self.count)[job.data.shard :: job.data.num_shards]

        def step(batch):
            for name, _ in batch:
                if name in stop:
                    raise stop.pop(name)
            computed.extend(name for name, _ in batch)
            x = images[torch.tensor([index for _, index in batch])]
            found = explain(vit, x, 1, method="complete").relevance.flatten(1).sum(1)
            return pd.DataFrame(
                {"image_id": [name for name, _ in batch], "relevance": found.tolist()}
            )

        with job.results("image_id", "model") as results:
            predict(job, vit, step, Numbers(part, self.unreadable or []), results)

    def draw(self, run_dir: Path, settings: dict) -> Findings:
        rows = read(run_dir)
        summary = pd.DataFrame({"n": [len(rows)], "mean": [rows["relevance"].mean()]})
        return Findings(Figure(), summary, "Nothing to see.", (f"{len(rows)} images.",))
