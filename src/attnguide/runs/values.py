"""Settings of objects: their names and types, read from what is called, and numbers that may be."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from attnguide.errors import InputError, unknown_name
from attnguide.runs.settings import validated

LARGEST = 1e12  # of a setting that is no count
KINDS = {"int": "a valid integer", "float": "a valid number", "str": "a valid string"}


def check_settings(target: Callable[..., Any], given: Mapping[str, Any], name: str) -> None:
    """Refuse settings that the target does not have, and values of the wrong kind.

    Raises:
        ValueError: the first of them.
    """
    parameters = inspect.signature(target).parameters
    known = [key for key, p in parameters.items() if p.kind is not p.POSITIONAL_ONLY]
    if callable(target) and inspect.isfunction(target):
        known = [key for key in known if parameters[key].kind is inspect.Parameter.KEYWORD_ONLY]
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key, value in given.items():
        if key not in known:
            if not known:
                raise InputError(f"unknown setting of {name} {key!r}; it has none")
            raise unknown_name(f"setting of {name}", key, known)
        if not (isinstance(value, Mapping) and "_target_" in value):
            _check_value(_hint(target, key), value, f"{name}.{key}")


def _hint(target: Callable[..., Any], key: str) -> Any:
    """Type of a setting; Any where it needs names that only type checkers have."""
    owners = [o for o in getattr(target, "__mro__", (target,)) if key in _annotations(o)]
    owner = owners[0] if owners else target
    annotation = _annotations(owner).get(key)
    if annotation is None:
        parameter = inspect.signature(target).parameters.get(key)
        annotation = Any if parameter is None else parameter.annotation
    if annotation is inspect.Parameter.empty:
        return Any
    names = vars(sys.modules[owner.__module__])
    try:
        holder = type("Holder", (), {"__annotations__": {key: annotation}})
        return get_type_hints(holder, names, include_extras=True)[key]
    except (NameError, TypeError):
        return Any


def _annotations(owner: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = inspect.get_annotations(owner)
    return found


def _check_value(hint: Any, value: Any, name: str) -> None:
    try:
        adapter: TypeAdapter[Any] | None = TypeAdapter(hint)
    except (PydanticSchemaGenerationError, PydanticUserError):  # no type of a config's value
        adapter = None
    if adapter is not None:
        words = set(re.findall(r"\w+", _name(hint)))
        if isinstance(value, bool) and not {"bool", "Any"} & words:
            wanted = next((text for kind, text in KINDS.items() if kind in words), _name(hint))
            raise InputError(f"{name} must be {wanted}, got {value}")
        validated(adapter, value, name)
    _check_numbers(value, name)


def _name(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")


def _check_numbers(value: Any, name: str) -> None:
    """Refuse numbers that no setting can be: not finite, counts below 0, beyond 64 bits."""
    if name.startswith("model.arguments"):  # the user's own
        return
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_numbers(entry, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for entry in value:
            _check_numbers(entry, name)
    elif isinstance(value, float) and not abs(value) < LARGEST:
        raise InputError(f"{name} must be a finite number, got {value}")
    elif isinstance(value, int) and name.endswith(".layer") and -(2**63) <= value < 0:
        return  # counts from the last layer; the method says how far
    elif isinstance(value, int) and not 0 <= value < 2**63:
        raise InputError(f"{name} must be a whole number from 0 on, below 2**63, got {value}")
    elif isinstance(value, str) and (not value or value != value.strip()):
        raise InputError(
            f"{name} must be text without blanks around it, got {value!r}; null leaves it out"
        )
