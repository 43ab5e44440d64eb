"""Weights from files: one reader for every form in which trainers write them, and checksums."""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnguide.errors import InputError

LOG = logging.getLogger(__name__)

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")  # timm takes these first
HOLDERS = (
    *AVERAGED,
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "network",
    "module",
    "teacher",
    "student",
    "weights",
)
_FIRST_LAYER = re.compile(r"(?:^|(.*)\.)patch_embed\.proj\.weight")
_WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_BESIDE = ("head.weight", "head.bias")  # beside `backbone.`, where a trainer keeps its classifier
_OTHER_LIBRARIES = {
    "patch_embeddings.projection.weight": (
        "HuggingFace's; pass the folder that holds them: model=huggingface model.name=FOLDER, or "
        "wrap_model(AutoModelForImageClassification.from_pretrained(FOLDER))"
    ),
    "conv_proj.weight": (
        "torchvision's; pass model=torchvision model.checkpoint=FILE, or wrap_model(network)"
    ),
}
_FOREIGN_FILES = {
    b"\x89HDF": "an HDF5 file (Keras)",
    b"\x93NUM": "a NumPy array",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"<": "a web page; the download failed",
}


class MissingFile(InputError, FileNotFoundError):
    """A file or folder that is not there."""


def sha256(path: str | Path) -> str:
    """Checksum of a file, hexadecimal."""
    with find_weights(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_digest(weights: torch.nn.Module | Mapping[str, Any]) -> str:
    """Checksum of a state dict, hexadecimal: of names, types, shapes and values, on any device."""
    state = weights.state_dict() if isinstance(weights, torch.nn.Module) else weights
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(name.encode())
        if not isinstance(value, Tensor) or value.is_quantized or value.is_meta:
            total.update(repr(value).encode())
            continue
        total.update(f"{value.dtype}{tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


def find_weights(path: str | Path) -> Path:
    """The file of weights: itself, or the only one of its kind in a folder.

    Raises:
        FileNotFoundError: neither a file nor a folder with weights.
        ValueError: a folder with several.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise MissingFile(
            f"checkpoint {str(path)!r} is not a file; pass the path of a .safetensors file, or of "
            "a PyTorch file of weights"
        )
    for pattern in ("model.safetensors", "pytorch_model.bin", "*.safetensors", "*.pt*", "*.ckpt"):
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(entry.name for entry in found[:5])
            raise InputError(f"{str(path)!r} holds several weights ({names}); pass one of them")
    raise MissingFile(f"folder {str(path)!r} holds no weights (model.safetensors, *.pth, *.ckpt)")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint under the network's own names; nothing in it is ever executed.

    Understood are safetensors and PyTorch files whatever their ending, state dicts alone or under
    a key as trainers name it (an average of the weights first, as timm does), and names with the
    prefixes of wrappers (`module.`, `_orig_mod.`, `model.`, `backbone.`, ...). The log says what
    was chosen and taken off.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that holds no weights, or more than tensors and settings.
    """
    path = find_weights(path)
    state = _tensors(_read(path), path)
    return _without_prefixes(state, path)


def check_library(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse names that another library gave.

    Raises:
        ValueError: whose they are, and what to do.
    """
    for end, whose in _OTHER_LIBRARIES.items():
        if any(key.endswith(end) for key in weights):
            raise InputError(f"the weight names in {Path(path).name!r} are {whose}")


def _read(path: Path) -> Any:
    """What is in the file, by its first bytes and not by its ending."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise InputError(f"cannot read weights from {str(path)!r}: the file is empty (0 bytes)")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            f"cannot read weights from {str(path)!r}: it is a Git LFS pointer, not the weights; "
            "run git lfs pull where it lies"
        )
    for start, what in _FOREIGN_FILES.items():
        if head.startswith(start):
            raise InputError(f"cannot read weights from {str(path)!r}: it is {what}")
    try:
        if head[8:9] == b"{":
            from safetensors.torch import load_file

            return load_file(path)
        with path.open("rb") as file, torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise many kinds
        kinds = _foreign_kinds(path)
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:150]}"
        advice = "expected a .safetensors file, or a PyTorch file of tensors"
        if kinds:
            reason = f"beside tensors it holds {', '.join(kinds[:3])}, which is never run"
            advice = "save the tensors alone: torch.save(network.state_dict(), FILE)"
        raise InputError(f"cannot read weights from {str(path)!r} ({reason}); {advice}") from error


def _foreign_kinds(path: Path) -> list[str]:
    """Names of the classes in a PyTorch file that are not loaded; the file is only listed."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not such a file: the error that led here says more
        return []


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint."""
    if not isinstance(loaded, Mapping):
        raise InputError(
            f"{path.name!r} holds a {type(loaded).__name__}, expected a state dict (weights by "
            "name); save one with torch.save(network.state_dict(), FILE)"
        )
    held = [key for key in HOLDERS if isinstance(loaded.get(key), Mapping) and loaded[key]]
    if held:
        others = f" (beside it: {', '.join(held[1:])})" if len(held) > 1 else ""
        LOG.info("%s: weights taken from %r%s", path.name, held[0], others)
        if held[0] in AVERAGED and len(held) > 1:
            LOG.warning("%s: the average %r is taken, not %r", path.name, held[0], held[1])
        return _tensors(loaded[held[0]], path)
    state = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(map(str, list(loaded)[:8])) or "nothing"
        raise InputError(
            f"{path.name!r} holds no weights by name; it holds {keys}; expected a state dict, or "
            f"one under {', '.join(HOLDERS)}"
        )
    return state


def _without_prefixes(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights under the names of the network itself."""
    clean = {_WRAPPERS.sub("", key): value for key, value in state.items()}
    prefixes = [match[1] for match in map(_FIRST_LAYER.fullmatch, clean) if match]
    if not prefixes or prefixes == [None]:
        if clean.keys() != state.keys():
            LOG.warning("%s: names of wrappers taken off", path.name)
        return clean
    if len(prefixes) > 1:
        averaged = [prefix for prefix in prefixes if prefix and re.search("ema|teacher", prefix)]
        if len(averaged) != 1:
            held = ", ".join(prefix or "(no prefix)" for prefix in prefixes)
            raise InputError(
                f"{path.name!r} holds several networks ({held}); save the state dict of one of them"
            )
        prefixes = averaged
    start = f"{prefixes[0]}."
    inner = {key.removeprefix(start): w for key, w in clean.items() if key.startswith(start)}
    beside = {key: clean[key] for key in _BESIDE if key in clean and key not in inner}
    left = [key for key in clean if not key.startswith(start) and key not in beside]
    also = f"; {len(left)} other weights left out ({', '.join(left[:3])})" if left else ""
    LOG.warning("%s: the weights under %r are taken%s", path.name, start, also)
    return inner | beside
