"""What can be set on the command line: names, types, defaults and ranges.

Nothing here imports torch or Hydra, so that a wrong setting is answered at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from attnguide.names import unknown_name

MISSING = "???"


def _one_of(*choices: str, default: str) -> Any:
    return field(default=default, metadata={"choices": choices})


def _between(low: float, high: float | None, default: Any) -> Any:
    return field(default=default, metadata={"range": (low, high)})


@dataclass
class ModelConfig:
    """One model or several: names of `load_model`, and local weights for each or for none."""

    name: Any = "creatures"
    checkpoint: Any = None


@dataclass
class DataConfig:
    """Which images, how many of them, and this process's share."""

    name: str = "creatures"
    root: str | None = None
    on_error: str = _one_of("skip", "raise", default="skip")
    seed: int = 0
    num_images: int | None = _between(1, None, None)
    shard: int = _between(0, None, 0)
    num_shards: int = _between(1, None, 1)
    workers: int = _between(0, None, 0)


@dataclass
class RuleConfig:
    """A correction rule by its name in the paper, and the method that propagates it."""

    name: str = MISSING
    method: str = MISSING


@dataclass
class GuideConfig:
    """How the guide image is stitched; layout "none" leaves the pictures as they are."""

    layout: str = _one_of("right", "left", "top", "bottom", "none", default="right")
    fraction: float = 0.5
    fit: str = _one_of("squash", "crop", "pad", default="squash")
    image: str | None = None
    fill: float = 0.0


@dataclass
class LoggerConfig:
    """Who else is told about a run; the files are always written."""

    name: str = _one_of("files", "wandb", default="files")
    project: str = "attnguide"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    mode: str | None = field(default=None, metadata={"choices": ("online", "offline", "disabled")})


@dataclass
class Config:
    """Everything a run is told."""

    experiment: str = MISSING
    scale: str = _one_of("embedded", "sample", "paper", default="embedded")
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    method: dict[str, Any] = field(default_factory=dict)
    rule: RuleConfig | None = None
    loss: str = "logit"
    target: str = "label"
    reference: str | None = None
    guide: GuideConfig = field(default_factory=GuideConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    runner: dict[str, Any] = field(default_factory=dict)
    run_dir: str = MISSING
    stage: str = _one_of("run", "draw", "merge", default="run")
    seed: int = 0
    device: str = "auto"
    precision: str = _one_of("fp32", "tf32", "bf16", default="fp32")
    batch_size: int = _between(1, None, 16)
