"""What can be set on the command line: names, types, defaults and ranges.

Nothing here imports torch or Hydra, so that a wrong setting is answered at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from attnguide.errors import InputError, unknown_name

MISSING = "???"


def _one_of(*choices: str, default: str | None) -> Any:
    return field(default=default, metadata={"choices": choices})


def _at_least(low: int, default: int | None) -> Any:
    return field(default=default, metadata={"low": low})


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
    num_images: int | None = _at_least(1, None)
    shard: int = _at_least(0, 0)
    num_shards: int = _at_least(1, 1)
    workers: int = _at_least(0, 0)


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
    mode: str | None = _one_of("online", "offline", "disabled", default=None)


@dataclass
class Config:
    """Everything a run is told."""

    experiment: str | None = None
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
    variant: str | None = None  # runner.variant, where the experiment has variants
    runner: dict[str, Any] = field(default_factory=dict)
    run_dir: str = MISSING
    stage: str = _one_of("run", "draw", "merge", "aggregate", "dashboard", default="run")
    seed: int = _at_least(0, 0)
    device: str = "auto"
    precision: str = _one_of("fp32", "tf32", "bf16", default="fp32")
    devices: int = _at_least(1, 1)
    batch_size: Any = 16  # a number, or "auto": what fits into memory

    @property
    def fit_batch(self) -> bool:
        """Whether the batch size is to be found from the free memory."""
        return self.batch_size in (None, "auto")

    @property
    def models(self) -> tuple[tuple[str, str | None], ...]:
        """(name, checkpoint or None) of each model.

        Raises:
            ValueError: not names, or not one checkpoint per model.
        """
        names = self.model.name if isinstance(self.model.name, list) else [self.model.name]
        given = self.model.checkpoint
        paths = given if isinstance(given, list) else [given] * (1 if given else len(names))
        if not names or not all(isinstance(name, str) and name for name in names):
            raise InputError(f"model.name must be a name or a list of names, got {self.model.name}")
        if len(paths) != len(names):
            raise InputError(
                f"model.checkpoint must name one file per model ({len(names)}: {', '.join(names)}),"
                f" got {len(paths)}; pass model.checkpoint=[FILE,FILE] or another model"
            )
        return tuple(
            (name, None if path is None else str(path))
            for name, path in zip(names, paths, strict=True)
        )


def check(config: Config) -> Config:
    """The config with `rule` turned into its method, when all values are possible.

    Raises:
        ValueError: the first setting that is not, what it may be, and what came.
    """
    _check_fields(config, "")
    for name in ("runner", "method"):
        _refuse_targets(getattr(config, name), name)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.device):
        raise unknown_name("device", config.device, ["auto", "cpu", "cuda", "cuda:0"])
    size = config.batch_size
    if not config.fit_batch and (not isinstance(size, int) or isinstance(size, bool)):
        raise InputError(f"batch_size must be a number of images or auto, got {size!r}")
    if not config.fit_batch and size < 1:
        raise InputError(f"batch_size must be at least 1, got {size}")
    if config.data.shard >= config.data.num_shards:
        raise InputError(
            f"data.shard must lie in [0, {config.data.num_shards - 1}] with data.num_shards="
            f"{config.data.num_shards}, got {config.data.shard}; shards count from 0"
        )
    if not 0 <= config.guide.fraction < 1:
        hint = f"; pass {config.guide.fraction / 100:g}" if 1 < config.guide.fraction < 100 else ""
        raise InputError(
            f"guide.fraction, the guide's share of the picture, must lie in [0, 1), got "
            f"{config.guide.fraction:g}{hint}"
        )
    if config.scale == "sample" and config.model.checkpoint is None:
        raise InputError("scale=sample needs local weights; pass model.checkpoint=FILE")
    if config.data.name == "folder" and config.data.root is None:
        raise InputError("data=folder needs a folder of pictures; pass data.root=DIR")
    if config.rule is not None:
        config.method = {config.rule.method: {}}
    if config.variant is not None:
        if "variant" not in config.runner:
            raise InputError(
                f"experiment={config.experiment} has no variants, got variant={config.variant}; "
                "only train_creatures has"
            )
        config.runner["variant"] = config.variant
    for name, settings in config.method.items():
        if not isinstance(settings, dict):
            raise InputError(f"method.{name} must hold settings by name, got {settings!r}")
    config.models  # noqa: B018  raises where names and checkpoints do not match
    return config


def _refuse_targets(node: Any, name: str) -> None:
    """Settings are names and numbers: nothing in a config is called."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if re.fullmatch(r"_\w+_", str(key)):
            raise InputError(
                f"{name}.{key}: `{key}` is not accepted; settings are names and numbers"
            )
        _refuse_targets(value, f"{name}.{key}")


def _check_fields(node: Any, prefix: str) -> None:
    for entry in fields(node):
        name, value = prefix + entry.name, getattr(node, entry.name)
        choices, low = entry.metadata.get("choices"), entry.metadata.get("low")
        if is_dataclass(value):
            _check_fields(value, f"{name}.")
        elif value is not None and choices and value not in choices:
            raise unknown_name(name, value, choices)
        elif value is not None and low is not None and value < low:
            raise InputError(f"{name} must be at least {low}, got {value}")
