"""Weights from files: one reader for every form in which trainers write them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from attnguide.errors import InputError


def sha256(path: str | Path) -> str:
    """Checksum of a file, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint; nothing in it is ever executed.

    Raises:
        ValueError: a file that holds no weights, or more than tensors.
    """
    try:
        if str(path).endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise many kinds
        raise InputError(
            f"cannot read weights from {str(path)!r} ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:150]}); expected a .safetensors file, or a PyTorch "
            "file of tensors only"
        ) from error
    return dict(loaded.get("state_dict", loaded.get("model", loaded)))
