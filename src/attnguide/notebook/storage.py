"""Explanations in files."""

from __future__ import annotations

import io
import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide.errors import InputError
from attnguide.store.files import write_atomic
from attnguide.types import Explanation
from attnguide.viz.overlay import as_values


def save(explanation: Explanation, path: str | PathLike[str]) -> Path:
    """Write an explanation to a `.npz` file, which `load_explanation` reads; returns its path.

    Functions among the settings are kept by their names.
    """
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    tensors = {name: getattr(explanation, name) for name in ("relevance", "target", "logits")}
    if explanation.mask is not None:
        tensors["mask"] = explanation.mask
    given = explanation.settings.items()
    tensors |= {f"settings.{name}": value for name, value in given if isinstance(value, Tensor)}
    plain = {name: value for name, value in given if not isinstance(value, Tensor)}
    about = {
        "method": explanation.method,
        "settings": plain,
        "dtypes": {name: str(t.dtype).removeprefix("torch.") for name, t in tensors.items()},
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: _as_array(tensor) for name, tensor in tensors.items()}
    np.savez_compressed(buffer, about=json.dumps(about, default=_name), **arrays)
    write_atomic(path, buffer.getvalue())
    return path


def load_explanation(path: str | PathLike[str]) -> Explanation:
    """An explanation that `Explanation.save` has written.

    Raises:
        ValueError: no such file, or another one.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            tensors = {
                name: torch.from_numpy(stored[name]).to(getattr(torch, kind))
                for name, kind in about["dtypes"].items()
            }
        settings = about["settings"] | {
            name.removeprefix("settings."): tensor
            for name, tensor in tensors.items()
            if name.startswith("settings.")
        }
        return Explanation(
            tensors["relevance"],
            tensors["target"],
            tensors["logits"],
            about["method"],
            settings,
            tensors.get("mask"),
        )
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; pass what Explanation.save returned") from None
    except Exception as error:
        raise InputError(
            f"{path} holds no explanation ({error}); pass a file that Explanation.save has written"
        ) from error


def _as_array(tensor: Tensor) -> NDArray[Any]:
    """As numpy keeps it, which knows no bfloat16."""
    return as_values(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)


def _name(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else repr(value)
