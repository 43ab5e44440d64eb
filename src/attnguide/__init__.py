"""Attention- and gradient-based explanations of vision transformers, tested and batched."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnguide.api import explain, explain_many
    from attnguide.evaluation.perturbation import perturb
    from attnguide.guides import stitch
    from attnguide.methods import list_methods
    from attnguide.models.load import load_model, wrap_model

__all__ = [
    "explain",
    "explain_many",
    "list_methods",
    "load_model",
    "perturb",
    "stitch",
    "wrap_model",
]

_HOMES = {
    "explain": "api",
    "explain_many": "api",
    "list_methods": "methods",
    "load_model": "models.load",
    "perturb": "evaluation.perturbation",
    "stitch": "guides",
    "wrap_model": "models.load",
}


def __getattr__(name: str) -> object:
    """Import torch only when something is used: the command line answers mistakes at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'attnguide' has no attribute {name!r}")
    return getattr(import_module(f"attnguide.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, for completion in notebooks."""
    return __all__
