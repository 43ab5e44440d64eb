"""Attention- and gradient-based explanations of vision transformers, tested and batched."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnguide.api import explain, explain_many
    from attnguide.evaluation.perturbation import PerturbationCurve, perturb, perturb_many
    from attnguide.guides import stitch
    from attnguide.methods import describe_methods, list_methods
    from attnguide.models.load import load_model
    from attnguide.models.wrap import wrap_model
    from attnguide.notebook.explanations import compare, load_explanation
    from attnguide.notebook.perturbations import compare_auc
    from attnguide.types import Explanation, ViT

    __version__: str

EXAMPLE = Path(__file__).with_name("assets") / "example_pair.png"  # a fox beside a snail

__all__ = [
    "EXAMPLE",
    "Explanation",
    "PerturbationCurve",
    "ViT",
    "__version__",
    "compare",
    "compare_auc",
    "describe_methods",
    "explain",
    "explain_many",
    "list_methods",
    "load_explanation",
    "load_model",
    "perturb",
    "perturb_many",
    "stitch",
    "wrap_model",
]

_HOMES = {
    "Explanation": "types",
    "PerturbationCurve": "evaluation.perturbation",
    "ViT": "types",
    "compare": "notebook.explanations",
    "compare_auc": "notebook.perturbations",
    "describe_methods": "methods",
    "explain": "api",
    "explain_many": "api",
    "list_methods": "methods",
    "load_explanation": "notebook.explanations",
    "load_model": "models.load",
    "perturb": "evaluation.perturbation",
    "perturb_many": "evaluation.perturbation",
    "stitch": "guides",
    "wrap_model": "models.wrap",
}


def __getattr__(name: str) -> object:
    """Import torch only when something is used: the command line answers mistakes at once."""
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'attnguide' has no attribute {name!r}")
    return getattr(import_module(f"attnguide.{_HOMES[name]}"), name)


def _version() -> str:
    """Of the installed package; of a checkout that nobody installed, "0+unknown"."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("attnguide")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    """The public names, for completion in notebooks."""
    return __all__
