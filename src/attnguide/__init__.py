"""Attention- and gradient-based explanations of vision transformers, tested and batched."""

from attnguide.api import explain, explain_many
from attnguide.evaluation.perturb import perturb
from attnguide.guides import stitch
from attnguide.methods import list_methods
from attnguide.models import load_model, wrap_model

__all__ = [
    "explain",
    "explain_many",
    "list_methods",
    "load_model",
    "perturb",
    "stitch",
    "wrap_model",
]
