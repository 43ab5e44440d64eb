"""From a composed config to objects: `_target_` is called by Hydra, its settings checked before."""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any, TypeVar, get_type_hints

import hydra
from hydra import initialize_config_dir
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
from attnguide.runs.settings import CONF, SHARES, STRICT, Settings, hide, validated
from attnguide.tracking.loggers import LightningLogger

OWNERS = {"rule": "method", "compile": "engine", "backend": "engine"}  # setting to choice
Count = Annotated[int, Field(ge=0, lt=2**63)]
Place = Annotated[int, Field(ge=-(10**6), lt=10**6)]  # -1 is the last
T = TypeVar("T")


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

    A whole number is a count, from 0 on, or a place among layers if its default is below 0.
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
    if hint not in (int, int | None):
        return hint
    kind: Any = Place if isinstance(default, int) and default < 0 else Count
    return kind if hint is int else kind | None


def build_experiment(config: Mapping[str, Any]) -> Experiment:
    """The experiment with its settings.

    Raises:
        ValueError: as `build`.
    """
    variant = {} if config.get("variant") is None else {"variant": config["variant"]}
    node = {**(config.get("runner") or {}), **variant}
    experiment = build(node, "runner")
    if not isinstance(experiment, Experiment):
        raise InputError(f"runner._target_ must be an Experiment, got {type(experiment).__name__}")
    return experiment


def stored_experiment(stored: Mapping[str, Any]) -> Experiment:
    """The experiment of a stored config, as the configs of this command line have it.

    What is stored gives its name and its plain settings; none of it is called or resolved. A
    setting that came from the environment keeps its default, for which drawing never asks.

    Args:
        stored: The config of a run's folder, which may come from somebody else.

    Raises:
        ValueError: no name, or a setting of a wrong kind.
        HydraException: these configs have no experiment of this name.
    """
    name, settings = stored.get("experiment"), dict(stored.get("runner") or {})
    if stored.get("variant") is not None:
        settings["variant"] = stored["variant"]
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
        raise InputError(f"the stored config names no experiment, got {name!r}")
    in_command = GlobalHydra.instance().is_initialized()
    home = nullcontext() if in_command else initialize_config_dir(str(CONF), version_base="1.3")
    with home:
        node: Any = OmegaConf.to_container(hydra.compose("config", [f"experiment={name}"]).runner)
    for key, value in settings.items():
        if key[:1] != "_" and not re.search(r"_target_|\$\{", json.dumps(value)):
            node[key] = value
    return build_experiment({"runner": node})


class Problems:
    """Errors that a user can fix, collected so that all are told at once."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def attempt(self, function: Callable[..., T], *args: Any) -> T | None:
        """What the function returns; None, and its error is kept, where it raises one."""
        try:
            return function(*args)
        except (InputError, OSError) as error:
            self.messages.append(str(error))
        return None

    def raise_all(self) -> None:
        """Raise them all as one, in a line.

        Raises:
            ValueError: there are some.
        """
        messages = list(dict.fromkeys(self.messages))
        if len(messages) == 1:
            raise InputError(messages[0])
        if messages:
            each = "; ".join(f"({number}) {why}" for number, why in enumerate(messages, 1))
            raise InputError(f"{len(messages)} problems: {each}")


def build_choices(
    config: Mapping[str, Any], settings: Settings, takes: frozenset[str], problems: Problems
) -> Choices | None:
    """The objects that an experiment is given, checked; others keep their defaults.

    Args:
        config: Composed, plain values.
        settings: The plain settings among them.
        takes: Of the experiment.
        problems: Collects what is wrong with them.

    Returns:
        None where an object could not be made.
    """
    data = {key: value for key, value in config["data"].items() if key not in SHARES}
    reference = None if settings.reference is None else str(settings.reference)
    made: dict[str, Any] = {
        "models": problems.attempt(build, config["model"], "model"),
        "pictures": problems.attempt(build, data, "data"),
    }
    if made["models"] is not None:
        problems.attempt(made["models"].check)
    if made["pictures"] is not None:
        problems.attempt(functools.partial(made["pictures"].check, labels=False))
    if "method" in takes:
        made["methods"] = problems.attempt(build_methods, config)
    for name in {"loss", "guide"} & takes:
        made[name] = problems.attempt(build, config.get(name) or {}, name)
    if "engine" in takes:
        made["engine"] = Engine(settings.precision, settings.compile, settings.backend)
    elif settings.precision == "bf16":
        problems.messages.append(
            "precision=bf16 only affects masked forward passes, which this experiment does not "
            "run; remove it"
        )
    if None in made.values():
        return None
    words = {"target": str(settings.target), "reference": reference}
    made |= {name: word for name, word in words.items() if name in takes}
    size = settings.batch_size if isinstance(settings.batch_size, int) else 16
    return Choices(**made, seed=settings.seed, batch_size=size)


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


def is_used(key: str, takes: frozenset[str]) -> bool:
    """Whether a setting changes something in an experiment that takes these choices."""
    name = re.split(r"[./@]", key)[0]
    choice = OWNERS.get(name, name)
    return choice not in CHOICES or choice in takes


def refuse_unused(overrides: Sequence[str], takes: frozenset[str], experiment: str) -> None:
    """Refuse what was asked for and would change nothing.

    Args:
        overrides: Keys that the command line sets.
        takes: What the experiment takes.
        experiment: Its name.

    Raises:
        ValueError: the first such setting; a rule beside methods.
    """
    if {"rule", "method"} <= set(overrides):
        raise InputError(
            "rule and method name the same thing twice; pass one of them (rule=positive is "
            "method=gae)"
        )
    for key in overrides:
        if not is_used(key, takes):
            raise InputError(
                f"{experiment} does not take {re.split('[./@]', key)[0]}, got {key}; leave it out "
                f"(it takes {', '.join(sorted(takes)) or 'none of the choices'})"
            )
