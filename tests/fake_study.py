"""A whole study in a second: twelve random images, a random model, one row per image."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from hydra.core.config_store import ConfigStore
from matplotlib.figure import Figure
from PIL import Image
from running import config, keys
from tiny import pictures, tiny

from attnguide import explain
from attnguide.data.pictures import Item, Sample, Selection
from attnguide.errors import InputError
from attnguide.figures.experiment import Experiment, Rows
from attnguide.findings import Findings
from attnguide.models.reader import UnreadableImage
from attnguide.runs import devices
from attnguide.runs.run import run

computed = []  # ids of all images that were explained, over all runs of a test
stop = {}  # image id to what happens when its turn comes


def load(name, broken):
    if broken:
        raise UnreadableImage(name, "not a picture")
    return Sample(name, Image.new("RGB", (8, 8)), (1,), ("class 1",))


@dataclass
class FakeStudy(Experiment):
    count: int = 12
    share: float = 0.5
    unreadable: list[int] | None = None

    title = "A fake study"
    claim = "Gradients reach the step."
    uses = frozenset({"method", "loss", "guide", "engine"})

    def check(self, choices):
        if self.count < 1:
            raise InputError(f"runner.count must be at least 1, got {self.count}")

    def models(self, choices, device):
        yield tiny()

    def kind(self, study, item):
        return item.number < 4

    def items(self, study):
        names = [f"image {index:02d}" for index in range(self.count)]
        broken = self.unreadable or []
        return Selection(
            tuple(
                Item(name, partial(load, name, index in broken), number=index)
                for index, name in enumerate(names)
            )
        )

    def inputs(self, study, item, sample):
        return pictures(study.vit, self.count)[item.number]

    def rows(self, study, batch):
        for item, _ in batch:
            if item.id in stop:
                raise stop.pop(item.id)
        computed.extend(item.id for item, _ in batch)
        x = torch.stack([image for _, image in batch])
        found = explain(study.vit, x, 1, method="complete").relevance.flatten(1).sum(1)
        ids = [item.id for item, _ in batch]
        return Rows(pd.DataFrame({"image_id": ids, "relevance": found.tolist()}))

    def draw(self, stored):
        rows = stored.all_rows
        summary = pd.DataFrame({"n": [len(rows)], "mean": [rows["relevance"].mean()]})
        return Findings(Figure(), summary, "Nothing to see.", (f"{len(rows)} images.",))


def install(setitem, setattr_):
    """Make this file the experiment `fake_study`."""
    setitem(sys.modules, "experiments.fake_study", sys.modules["fake_study"])
    setattr_(FakeStudy, "__module__", "experiments.fake_study")
    node = {"runner": {"_target_": "experiments.fake_study.FakeStudy"}}
    ConfigStore.instance().store("fake_study", node, group="experiment", package="_global_")


def fake_config(*words, **runner):
    """The config of the fake study, with settings of its own."""
    made = config("method=complete", "device=cpu", "batch_size=3", *words)
    made["experiment"] = "fake_study"
    made["runner"] = {"_target_": "experiments.fake_study.FakeStudy", **runner}
    return made


def start_fake(run_dir, *words, sweep=False, **runner):
    """Run the fake study in this process."""
    run(fake_config(*words, **runner), keys(words), Path(run_dir), sweep=sweep)


# What a command of the fixture `command` may be told to do


def start_installed(run_dir, **runner):
    """Run the fake study in a process that does not know it yet."""
    install(dict.__setitem__, setattr)
    start_fake(run_dir, **runner)


def start_together(run_dir, moment, *words):
    """Run the fake study, whose first look into its folder waits for that of others."""
    waits = [moment]

    def wait(event, args):
        looks = event in ("os.mkdir", "os.listdir", "os.scandir", "open")
        if waits and looks and os.fsdecode(str(args[0])).startswith(run_dir):
            waits.clear()
            while time.time() < moment:
                pass

    sys.addaudithook(wait)
    install(dict.__setitem__, setattr)
    start_fake(run_dir, *words)


def fork_devices():
    """The processes of several devices need no imports of their own."""
    devices.START = "fork"


def kill_at(moment):
    """Die by SIGKILL at the n-th moment before or after a step of writing a file."""
    left = moment

    def counted(step):
        def count_down():
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        def call(*args):
            count_down()
            result = step(*args)
            count_down()
            return result

        return call

    os.fsync, Path.replace = counted(os.fsync), counted(Path.replace)
