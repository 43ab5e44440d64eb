"""From a composed config to objects: the one place where a config's `_target_` is called."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.errors import InstantiationException

from attnguide.errors import InputError
from attnguide.evaluation.engines import Engine
from attnguide.figures.experiment import CHOICES, Choices, Experiment
from attnguide.guides import no_guide
from attnguide.methods.corrected_rollout import PUBLISHED
from attnguide.methods.corrected_rollout import explain as corrected_rollout
from attnguide.runs.plugins import owners_of
from attnguide.runs.settings import SHARES, Settings
from attnguide.runs.values import check_settings

OWNERS = {"rule": "method", "compile": "engine", "backend": "engine"}  # setting to choice
HOMES = {  # where what a config names must come from
    "model": "attnguide.models",
    "data": "attnguide.data",
    "method": "attnguide.methods",
    "rule": "attnguide.rules",
    "loss": "attnguide.losses",
    "guide": "attnguide.guides",
    "logger": "attnguide.tracking",
    "runner": "experiments",
    "trainer": "pytorch_lightning.Trainer",
}
FUNCTIONS = ("method", "rule", "loss")  # the others are classes
HANDED_ON = ("rule", "loss")  # functions that a method may be given


def build(node: Mapping[str, Any], name: str) -> Any:
    """The object that a config describes; its settings are checked before it is made.

    Args:
        node: Plain values with `_target_`, and `_partial_` for a function that is called later.
        name: What messages call it.

    Raises:
        ValueError: no `_target_`, one that is not ours, an unknown setting or a wrong value.
    """
    target = find_target(node, name)
    given = {key: value for key, value in node.items() if not key.startswith("_")}
    check_settings(target, given, name)
    try:
        made = hydra.utils.instantiate({"_convert_": "all", **node})
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):  # ours: it says all that is needed
            raise error.__cause__ from None
        raise
    bare = isinstance(made, functools.partial) and not made.keywords and not made.args
    return made.func if bare and not name.startswith("method.") else made


def find_target(node: Mapping[str, Any], name: str) -> Callable[..., Any]:
    """What a config's `_target_` names, once nothing in the node calls anything else.

    Raises:
        ValueError: nothing, or something that configs may not call.
    """
    path = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(path, str):
        raise InputError(f"{name} needs a `_target_`, got {node!r}; choose it by {name}=NAME")
    for key, value in node.items():
        if str(key).startswith("_") and key not in ("_target_", "_partial_"):
            raise InputError(f"{name}.{key} is not accepted; settings are names and numbers")
        _check_inside(value, f"{name}.{key}")
    found = _import(path, name, HOMES[name.split(".")[0]])
    if inspect.isfunction(found) and found is not no_guide and node.get("_partial_") is not True:
        raise InputError(f"{name} names the function {path}, which needs `_partial_: true`")
    return found


def _check_inside(value: Any, name: str) -> None:
    """Refuse a value that holds a call, but for a function of ours that is handed on."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            kind = name.rpartition(".")[2]
            if kind not in HANDED_ON or set(value) != {"_target_", "_partial_"}:
                raise InputError(f"{name}: `_target_` is not accepted; settings are plain values")
            find_target(value, kind)
        else:
            for key, entry in value.items():
                _check_inside(entry, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for entry in value:
            _check_inside(entry, f"{name}.entry")


def _import(path: str, name: str, home: str) -> Callable[..., Any]:
    """The class or function at a path: public, of its home, and made there."""
    module, _, attribute = path.rpartition(".")
    own = owners_of(path)
    home = path.partition(".")[0] if own else home
    inside = f"{module}.".startswith(f"{home}.") or path == home
    if not inside or not re.fullmatch(r"[\w.]+", path) or attribute.startswith("_"):
        raise InputError(
            f"{name}._target_: {path} is not accepted; {name.split('.')[0]} is made by {home} only"
            ", or in a folder of yours: +plugins=PATH"
        )
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(
            f"{name}._target_: there is no {path} ({error}); what is yours needs +plugins=PATH"
        ) from error
    place = str(getattr(sys.modules[module], "__file__", ""))
    if own and not any(Path(place).is_relative_to(folder) for folder in own):
        raise InputError(f"{name}._target_: {path} is of another package, {place}; rename yours")
    wanted = inspect.isfunction if name.split(".")[0] in FUNCTIONS else inspect.isclass
    ours = str(getattr(found, "__module__", "")).startswith(home.removesuffix(".Trainer"))
    if not ours or not (wanted(found) or found is no_guide):
        raise InputError(f"{name}._target_: {path} is not accepted; it makes no {name}")
    return found


def build_experiment(config: Mapping[str, Any]) -> Experiment:
    """The experiment with its settings.

    Raises:
        ValueError: as `build`; a variant that it does not have.
    """
    node = dict(config.get("runner") or {})
    variant = config.get("variant")
    if variant is not None:
        if "variant" not in inspect.signature(find_target(node, "runner")).parameters:
            raise InputError(
                f"experiment={config['experiment']} has no variants, got variant={variant}"
            )
        node["variant"] = variant
    experiment = build(node, "runner")
    if not isinstance(experiment, Experiment):
        raise InputError(f"runner._target_ must be an Experiment, got {type(experiment).__name__}")
    return experiment


def build_choices(
    config: Mapping[str, Any],
    settings: Settings,
    takes: frozenset[str],
    batch_size: int,
    attempt: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Choices | None:
    """The objects that an experiment is given; what it does not take keeps its default.

    Args:
        config: Composed, plain values.
        settings: The plain settings among them.
        takes: Of the experiment.
        batch_size: Images per step.
        attempt: Around the making of each object; may keep errors, so that all are told at once.

    Returns:
        None where an object could not be made.

    Raises:
        ValueError: as `build`.
    """
    data = {key: value for key, value in config["data"].items() if key not in SHARES}
    engine = (settings.precision, settings.compile, settings.backend)
    makers: dict[str, Callable[[], Any]] = {
        "models": lambda: build(config["model"], "model"),
        "pictures": lambda: build(data, "data"),
        "methods": lambda: build_methods(config),
        "loss": lambda: build(config["loss"], "loss"),
        "guide": lambda: build(config["guide"], "guide"),
        "engine": lambda: Engine(*engine),
        "target": lambda: str(settings.target),
        "reference": lambda: None if settings.reference is None else str(settings.reference),
    }
    always, names = ("models", "pictures"), {"methods": "method"}
    chosen: dict[str, Any] = {}
    wanted = [key for key in makers if key in always or names.get(key, key) in takes]
    for key in wanted:
        with attempt():
            chosen[key] = makers[key]()
    with attempt():
        if settings.precision == "bf16" and "engine" not in takes:
            raise InputError(
                "precision=bf16 is of masked forward passes, which this experiment has not; leave "
                "it out"
            )
    if len(chosen) < len(wanted):
        return None
    return Choices(**chosen, seed=settings.seed, batch_size=batch_size)


def build_methods(config: Mapping[str, Any]) -> dict[str, Any]:
    """The methods by label; a chosen rule is the one method that propagates it.

    Raises:
        ValueError: no method, or as `build`.
    """
    if config.get("rule"):
        rule = build(config["rule"], "rule")
        label = PUBLISHED.get(rule.__name__, rule.__name__)
        return {label: functools.partial(corrected_rollout, rule=rule)}
    nodes = config.get("method") or {}
    if not nodes:
        raise InputError("no method is chosen; pass method=NAME or method=[NAME,NAME]")
    return {label: build(node, f"method.{label}") for label, node in nodes.items()}


def refuse_unused(words: Sequence[str], takes: frozenset[str], experiment: str) -> None:
    """Refuse what was asked for and would change nothing.

    Args:
        words: Keys of the command line.
        takes: What the experiment takes.
        experiment: Its name.

    Raises:
        ValueError: the first such setting.
    """
    for word in words:
        key = word.split(".")[0].split("/")[0].split("@")[0]
        choice = OWNERS.get(key, key)
        if choice in CHOICES and choice not in takes:
            raise InputError(
                f"{experiment} does not take {key}, got {word}; leave it out (it takes "
                f"{', '.join(sorted(takes)) or 'none of the choices'})"
            )


def choose_devices(name: str, count: int) -> tuple[torch.device, ...]:
    """The devices of a run; asking how many there are does not start CUDA.

    Raises:
        ValueError: more than there are.
    """
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
