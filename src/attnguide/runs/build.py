"""From a config to real objects: everything that can be checked without weights is checked here."""

from __future__ import annotations

import os
import random
import re
from dataclasses import asdict, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from attnguide.config import Config
from attnguide.errors import InputError, unknown_name
from attnguide.losses import get_loss
from attnguide.methods import check_settings
from attnguide.models.load import check_model
from attnguide.runs.job import Job, Runner

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD")


def build_runner(config: Config) -> Runner:
    """The experiment's own object with its settings.

    Raises:
        ValueError: an experiment without code, an unknown setting, or one of the wrong type.
    """
    name = f"experiments.{config.experiment}"
    if config.experiment is None or find_spec(name) is None:
        raise InputError(f"experiment {config.experiment!r} has no module {name}")
    found = [
        kind
        for kind in vars(import_module(name)).values()
        if isinstance(kind, type) and issubclass(kind, Runner) and kind.__module__ == name
    ]
    if len(found) != 1:
        raise InputError(f"{name} must define one Runner, it defines {len(found)}")
    known = [entry.name for entry in fields(found[0])]
    for key in config.runner:
        if key not in known:
            raise unknown_name(f"setting of {config.experiment}", key, known)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(found[0]), config.runner)
        runner = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise InputError(f"runner.{error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(runner, Runner)
    return runner


def build_job(config: Config, run_dir: Path, console: Console) -> Job:
    """What the experiment is given.

    Raises:
        ValueError: unknown model, method, setting, loss or device.
        FileNotFoundError: no such checkpoint.
    """
    if not config.method:
        raise InputError("no method is chosen; pass method=NAME or method=[NAME,NAME]")
    methods = {name: _check_types(name, dict(given)) for name, given in config.method.items()}
    get_loss(config.loss)
    for name, checkpoint in config.models:
        check_model(name, checkpoint)
    devices = _devices(config.device, config.devices)
    return Job(
        experiment=str(config.experiment),
        scale=config.scale,
        models=config.models,
        data=config.data,
        methods=methods,
        loss=config.loss,
        target=config.target,
        reference=config.reference,
        guide=None if config.guide.layout == "none" else config.guide,
        run_dir=run_dir,
        seed=config.seed,
        device=devices[0] if len(devices) == 1 else torch.device("cpu"),
        devices=devices,
        precision=config.precision,
        batch_size=16 if config.fit_batch else int(config.batch_size),
        fit_batch=config.fit_batch,
        config=plain(config),
        console=console,
    )


def plain(config: Config) -> dict[str, Any]:
    """The config as plain values, whatever stands in a secret of the environment blotted out."""
    secrets = [
        value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= 8
    ]

    def blot(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: blot(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [blot(entry) for entry in value]
        if isinstance(value, str):
            for secret in secrets:
                value = value.replace(secret, "***")
        return value

    return {key: blot(value) for key, value in asdict(config).items()}


def seed_everything(seed: int) -> None:
    """Every generator that a library might draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _check_types(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """All settings of a method; those given have the type of its defaults."""
    defaults, full = check_settings(name, {}), check_settings(name, given)
    for key, value in given.items():
        kind = type(defaults[key])
        fits = isinstance(value, (int, float) if kind is float else kind)
        if defaults[key] is not None and (not fits or isinstance(value, bool) != (kind is bool)):
            raise InputError(f"method.{name}.{key} must be of type {kind.__name__}, got {value!r}")
    return full


def _devices(name: str, count: int) -> tuple[torch.device, ...]:
    """The devices of a run; asking how many there are does not start CUDA."""
    present = torch.cuda.device_count()
    kind, _, index = name.partition(":")
    if kind == "auto":
        kind = "cuda" if present else "cpu"
    if kind == "cpu":
        return (torch.device("cpu"),) * count
    if index and count > 1:
        raise InputError(f"device={name} is one device; pass device=cuda with devices={count}")
    if int(index or 0) + count > present:
        asked = f"device={name}" + (f" devices={count}" if count > 1 else "")
        raise InputError(
            f"{asked}: this machine has {present} CUDA devices; pass device=cpu or device=auto"
        )
    return tuple(torch.device("cuda", int(index or 0) + number) for number in range(count))
