"""One file per method, each with one function `explain(trace, **settings)`.

The file name is the method's name; there is no registry. Beside the function stand the facts that
`describe_methods` gathers: SIGNED (maps have both signs), CLASS_SENSITIVE (targets have different
maps), COST (the time of one map, in forward passes: at most, with the method's defaults, asked for
alone), and the source, which is the second paragraph of the file's docstring.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import Tensor

from attnguide import rules
from attnguide.errors import InputError, InputTypeError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

Method = Callable[..., Tensor]


@dataclass(frozen=True)
class Request:
    """A method with all of its settings.

    Attributes:
        name: Of the method; of a rule of the user's own, that rule's.
        explain: (trace, **settings) -> (B, rows, cols).
        settings: All of them.
    """

    name: str
    explain: Method
    settings: Mapping[str, Any]


def list_methods() -> list[str]:
    """Names of all methods, alphabetical."""
    return sorted(
        info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")
    )


def get_method(name: str | Method) -> Method:
    """The `explain` function of a method, or the callable itself.

    Raises:
        ValueError: unknown name; the closest ones are listed.
        TypeError: neither a name nor a callable.
    """
    if callable(name):
        return name
    if not isinstance(name, str):
        raise InputTypeError(
            f"a method is a name of list_methods() or a callable (trace, **settings), got {name!r}"
        )
    if name not in list_methods():
        raise unknown_name("method", name, list_methods())
    method: Method = import_module(f"{__name__}.{name}").explain
    return method


def check_settings(name: str | Method, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a method: its defaults, with `settings` in their place.

    Raises:
        ValueError: a setting that the method does not have, or one without value.
    """
    method, bound = _unbound(get_method(name))
    parameters = list(inspect.signature(method).parameters.values())[1:]
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    full = {p.name: p.default for p in named} | bound | dict(settings)
    label = name if isinstance(name, str) else _called(method)
    for key, value in full.items():
        if key not in {p.name for p in named} and all(p.kind != p.VAR_KEYWORD for p in parameters):
            known = sorted(p.name for p in named)
            raise unknown_name(f"setting of method {label}", key, known or ["none"])
        if value is inspect.Parameter.empty:
            raise InputError(f"setting {key} of method {label} has no default; pass {key}=...")
    return full


def request(method: str | Method, settings: Mapping[str, Any] | None = None) -> Request:
    """A method by name, callable or partial, with all of its settings.

    `corrected_rollout` with a published rule is the method of that name.

    Raises:
        ValueError: an unknown name or setting.
        TypeError: neither a name nor a callable.
    """
    full = check_settings(method, settings or {})
    explain, _ = _unbound(get_method(method))
    name = _called(explain)
    if explain is get_method("corrected_rollout"):
        named = import_module(f"{__name__}.corrected_rollout").PUBLISHED
        if isinstance(full["rule"], str):
            if full["rule"] not in named:
                raise unknown_name("rule", full["rule"], list(named))
            full["rule"] = getattr(rules, full["rule"])
        rule, bound = _unbound(full["rule"])
        name = _called(rule)
        published = named.get(name)
        if published and not bound and rule is getattr(rules, name):
            name, explain = published, get_method(published)
            full = {key: full.get(key, value) for key, value in check_settings(name, {}).items()}
    return Request(name, explain, full)


def _unbound(function: Any) -> tuple[Any, dict[str, Any]]:
    """The function inside partials, and the keywords that they bind."""
    bound: dict[str, Any] = {}
    while isinstance(function, partial):
        if function.args:
            raise InputTypeError("a partial method takes its settings by keyword, not by position")
        bound, function = function.keywords | bound, function.func
    return function, bound


def _called(function: Any) -> str:
    """Its own name; of a file's `explain`, that of the file."""
    name = str(getattr(function, "__name__", type(function).__name__))
    return str(function.__module__).rpartition(".")[2] if name == "explain" else name


def describe_methods() -> pd.DataFrame:
    """A row per method: name, signed, class_sensitive, cost, settings with defaults, source.

    A fact that a method's file does not state is None.
    """
    import pandas as pd

    return pd.DataFrame([_describe(name) for name in list_methods()])


def fact_of(method: Method, fact: str, default: Any) -> Any:
    """What the file that a method is in states, such as COST."""
    return getattr(import_module(_unbound(method)[0].__module__), fact, default)


def name_of(method: Method) -> str:
    """Of the method's file, or of the function."""
    return _called(_unbound(method)[0])


def class_blind_methods() -> list[str]:
    """Names of the methods whose maps are the same for every class."""
    return [n for n in list_methods() if not fact_of(get_method(n), "CLASS_SENSITIVE", True)]


def _describe(name: str) -> dict[str, Any]:
    method = get_method(name)
    paragraphs = inspect.cleandoc(fact_of(method, "__doc__", "") or "").split("\n\n")
    settings = check_settings(name, {}).items()
    return {
        "name": name,
        "signed": fact_of(method, "SIGNED", None),
        "class_sensitive": fact_of(method, "CLASS_SENSITIVE", None),
        "cost": fact_of(method, "COST", None),
        "settings": ", ".join(f"{key}={_as_text(default)}" for key, default in settings),
        "source": " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else None,
    }


def _as_text(default: Any) -> str:
    return _called(default) if callable(default) else repr(default)
