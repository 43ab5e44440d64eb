"""One file per method, each with one function `explain(trace, **settings)`.

The file name is the method's name; there is no registry.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor

from attnguide.errors import unknown_name

Method = Callable[..., Tensor]


def list_methods() -> list[str]:
    """Names of all methods, alphabetical."""
    return sorted(
        info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")
    )


def get_method(name: str | Method) -> Method:
    """The `explain` function of a method, or the callable itself.

    Raises:
        ValueError: unknown name; the closest ones are listed.
    """
    if callable(name):
        return name
    if name not in list_methods():
        raise unknown_name("method", name, list_methods())
    method: Method = import_module(f"{__name__}.{name}").explain
    return method


def check_settings(name: str | Method, settings: dict[str, Any]) -> dict[str, Any]:
    """All settings of a method: its defaults, with `settings` in their place.

    Raises:
        ValueError: a setting that the method does not have.
    """
    parameters = list(inspect.signature(get_method(name)).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    for key in settings:
        if key not in defaults:
            raise unknown_name(f"setting of method {name}", key, sorted(defaults) or ["none"])
    return defaults | settings
