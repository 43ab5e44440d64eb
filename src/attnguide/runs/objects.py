"""From a composed config to objects: `_target_` is called by Hydra, its settings checked before."""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, get_type_hints

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from pydantic import Field, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from attnguide.errors import InputError, unknown_name
from attnguide.evaluation.engines import Engine
from attnguide.figures.experiment import CHOICES, Choices, Experiment
from attnguide.methods.corrected_rollout import PUBLISHED
from attnguide.methods.corrected_rollout import explain as corrected_rollout
from attnguide.runs.secrets import hide
from attnguide.runs.settings import CONF, SHARES, STRICT, Settings, validated
from attnguide.tracking.loggers import Files, LightningLogger

OWNERS = {"rule": "method", "compile": "engine", "backend": "engine"}  # setting to choice
LOGGERS = ("attnguide.tracking.Files", "attnguide.tracking.WandB")
Count = Annotated[int, Field(ge=0, lt=2**63)]


def build(node: Mapping[str, Any], name: str) -> Any:
    """The object that a config describes; its settings are checked before it is made.

    Args:
        node: Plain values with `_target_`, and `_partial_` for a function that is called later.
        name: What messages call it.

    Raises:
        ValueError: no `_target_`, an unknown setting or a wrong value.
        InstantiationException: nothing of this name, or what it raises.
    """
    path = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(path, str):
        raise InputError(f"{name} needs a `_target_`, got {node!r}; choose it by {name}=NAME")
    if callable(target := _located(path)):
        check_settings(target, {k: v for k, v in node.items() if k[0] != "_"}, name)
    try:
        made = hydra.utils.instantiate({"_convert_": "all", **node})
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):  # ours: it says all that is needed
            raise error.__cause__ from None
        raise
    bare = isinstance(made, functools.partial) and not made.keywords and not made.args
    return made.func if bare and not name.startswith("method.") else made


def _located(path: str) -> Any:
    """What a dotted path names; None where there is nothing, which Hydra then says best."""
    try:
        return hydra.utils.get_object(path)
    except (ImportError, ValueError):
        return None


def check_settings(target: Callable[..., Any], given: Mapping[str, Any], name: str) -> None:
    """Refuse settings that the target does not have, and values of the wrong kind.

    Raises:
        ValueError: all of them.
    """
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # written in C
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [
        key
        for key, p in parameters.items()
        if inspect.isclass(target) or p.kind is p.KEYWORD_ONLY or p.default is not p.empty
    ]
    faults = []
    for key, value in given.items():
        try:
            if key not in known:
                raise unknown_name(f"setting of {name}", key, known)
            if "_target_" not in json.dumps(value, default=str):
                hint = _hint(target, key, parameters[key].default)
                validated(TypeAdapter(hint, config=STRICT), value, f"{name}.{key}")
        except InputError as error:
            faults.append(str(error))
        except (PydanticSchemaGenerationError, PydanticUserError):
            continue  # no type that a config's value could have
    if faults:
        raise InputError("; ".join(faults))


def _hint(target: Callable[..., Any], key: str, default: Any) -> Any:
    """Type of a setting; Any where it needs names that only type checkers have.

    A whole number is a count, from 0 on, unless its default is below 0.
    """
    owners = [*getattr(target, "__mro__", (target,)), getattr(target, "__init__", target)]
    owner = next((o for o in owners if key in inspect.get_annotations(o)), None)
    if owner is None:
        return Any
    holder = type("Holder", (), {"__annotations__": {key: inspect.get_annotations(owner)[key]}})
    try:
        hint = get_type_hints(holder, vars(sys.modules[owner.__module__]), include_extras=True)[key]
    except (NameError, TypeError):
        return Any
    if hint in (int, int | None) and not (isinstance(default, int) and default < 0):
        return Count if hint is int else Count | None
    return hint


def build_experiment(config: Mapping[str, Any]) -> Experiment:
    """The experiment with its settings.

    Raises:
        ValueError: as `build`; a variant that it does not have.
    """
    node = dict(config.get("runner") or {})
    variant = config.get("variant")
    if variant is not None:
        target = _located(str(node.get("_target_")))
        if not callable(target) or "variant" not in inspect.signature(target).parameters:
            raise InputError(
                f"experiment={config['experiment']} has no variants, got variant={variant}"
            )
        node["variant"] = variant
    experiment = build(node, "runner")
    if not isinstance(experiment, Experiment):
        raise InputError(f"runner._target_ must be an Experiment, got {type(experiment).__name__}")
    return experiment


def stored_experiment(stored: Mapping[str, Any]) -> Experiment:
    """The experiment of a stored config, as the configs of this command line have it.

    What is stored gives its name and its plain settings; none of it is called.

    Args:
        stored: The config of a run's folder, which may come from somebody else.

    Raises:
        ValueError: no name, or a setting of a wrong kind.
        HydraException: these configs have no experiment of this name.
    """
    name, settings = stored.get("experiment"), stored.get("runner")
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
        raise InputError(f"what is stored names no experiment, got {name!r}")
    words = [f"experiment={name}"]
    if GlobalHydra.instance().is_initialized():
        composed = hydra.compose("config", words)
    else:  # outside of a command
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("config", words)
    node = OmegaConf.to_container(composed.runner)
    assert isinstance(node, dict)
    for key, value in settings.items() if isinstance(settings, Mapping) else ():
        if key[0] != "_" and "_target_" not in json.dumps(value, default=str):
            node[key] = value
    made = {"experiment": name, "runner": node, "variant": stored.get("variant")}
    return build_experiment(made)


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
        "loss": lambda: build(config.get("loss") or {}, "loss"),
        "guide": lambda: build(config.get("guide") or {}, "guide"),
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
                "precision=bf16 only affects masked forward passes, which this experiment does not "
                "run; remove it"
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


def build_logger(node: Mapping[str, Any]) -> Any:
    """The logger of a config, without secrets; one of Lightning's hears of a run too.

    Raises:
        ValueError: as `build`.
    """
    made = build(hide(node), "logger")
    return made if hasattr(made, "open") else LightningLogger(made)


def stored_logger(stored: Mapping[str, Any]) -> Any:
    """The logger of a stored config, if it is one of this project; none of it is called."""
    node = stored.get("logger")
    if not isinstance(node, Mapping) or node.get("_target_") not in LOGGERS:
        return Files()
    settings = {key: value for key, value in node.items() if key[0] != "_"}
    return build_logger({**settings, "_target_": node["_target_"], "_recursive_": False})


def refuse_unused(words: Sequence[str], takes: frozenset[str], experiment: str) -> None:
    """Refuse what was asked for and would change nothing.

    Args:
        words: Keys of the command line.
        takes: What the experiment takes.
        experiment: Its name.

    Raises:
        ValueError: the first such setting; a rule beside methods.
    """
    if {"rule", "method"} <= set(words):
        raise InputError(
            "rule and method name the same thing twice; pass one of them (rule=positive is "
            "method=gae)"
        )
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
