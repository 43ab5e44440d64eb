"""Weights from files and from hubs, and their checksums."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor, nn

from attnguide.errors import InputError

LOG = logging.getLogger(__name__)

TORCHVISION_HOST = "https://download.pytorch.org"
ANSWER_TIMEOUT_S = 5.0
_FIRST_LAYER = "patch_embed.proj.weight"


class MissingFile(InputError, FileNotFoundError):
    """A file or folder that is not there."""


class HubError(InputError, ConnectionError):
    """Weights that cannot be fetched."""


def sha256(path: str | Path) -> str:
    """Checksum of a file, hexadecimal."""
    with find_weights(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_digest(weights: nn.Module | Mapping[str, Any]) -> str:
    """Checksum of a state dict, hexadecimal: of names, types, shapes and values, on any device."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
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

    Read are .safetensors files and PyTorch files as timm reads them (an average of the weights
    first), and a state dict under any other key if it is the only one. The prefixes of
    DataParallel, torch.compile and of the module that holds the network in Lightning are taken off.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that holds no weights, those of several networks, or more than tensors
            and settings.
    """
    from timm.models import load_state_dict

    path = find_weights(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's trainer stores one
            loaded = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # safetensors, torch and timm raise many kinds
        reason = str(error).strip().splitlines() or [""]
        raise InputError(
            f"cannot read weights from {str(path)!r} ({path.stat().st_size} bytes; "
            f"{type(error).__name__}: {reason[0][:150]}); expected a .safetensors file, or a "
            "PyTorch file of a state dict: torch.save(network.state_dict(), FILE)"
        ) from error
    return _network_names(_only_network(loaded, path), path)


def read_settings(path: str | Path) -> dict[str, Any]:
    """What a trainer wrote beside the weights: its arguments, hyperparameters, class names.

    Args:
        path: Of weights that `read_weights` reads; timm's config.json may lie beside them.
    """
    path = find_weights(path)
    config = path.with_name("config.json")
    if config.is_file():
        with suppress(ValueError, TypeError, KeyError):  # another library's
            stored = json.loads(config.read_text())
            return {**stored, **stored["pretrained_cfg"], "gp": stored.get("global_pool")}
    if path.suffix == ".safetensors":
        return {}
    with torch.serialization.safe_globals([argparse.Namespace]):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    settings: dict[str, Any] = {}
    for part in (*map(loaded.get, ("hyper_parameters", "config", "args")), loaded):
        values = vars(part) if isinstance(part, argparse.Namespace) else part
        settings |= values if isinstance(values, dict) else {}
    return {key: value for key, value in settings.items() if not isinstance(value, Tensor)}


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], path: str | Path, name: str
) -> None:
    """Put weights into a network.

    Args:
        module: The network, changed.
        weights: By the network's names.
        path: Where they come from, for the message.
        name: What messages call the network.

    Raises:
        ValueError: names or shapes that differ; no classifier.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        absent = module.state_dict().keys() - weights.keys()
        if absent and any(re.match(r"head\.\d+\.", key) for key in weights):
            raise InputError(
                f"the classifier in {Path(path).name!r} is a Sequential of several layers; make "
                "the network with it in a function and pass that: model=python model.target="
                "FILE.py:FUNCTION, or wrap_model(network)"
            ) from error
        if absent and all(key.startswith("head.") for key in absent):
            raise InputError(
                f"weights {Path(path).name!r} hold no classifier (head.weight), only features; "
                "a head must be trained on them before classes can be explained"
            ) from error
        lines = [line.strip()[:120] for line in str(error).splitlines()[1:4]]
        raise InputError(
            f"weights {Path(path).name!r} do not fit {name}: {'; '.join(lines)}; pass the "
            "model.name that they were made for (HuggingFace's: model=huggingface with their "
            "folder as model.name; torchvision's: model=torchvision)"
        ) from error


def _only_network(loaded: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The state dict itself, or the only one inside, as in {"model_state_dict": ..., "lr": 1}."""
    own = _tensors(loaded)
    if own:
        return own
    nested = {key: _tensors(value) for key, value in loaded.items() if isinstance(value, Mapping)}
    inside = {key: state for key, state in nested.items() if state}
    if len(inside) == 1:
        return next(iter(inside.values()))
    what = "several networks" if inside else "no weights by name"
    held = ", ".join(list(map(str, inside or loaded))[:8]) or "nothing"
    raise InputError(
        f"{path.name!r} holds {what} (it holds {held}); save the state dict of one network: "
        "torch.save(network.state_dict(), FILE)"
    )


def _tensors(values: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(key): part for key, part in values.items() if isinstance(part, Tensor)}


def _network_names(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights under the names of the network itself, without the prefixes of its wrappers."""
    state = {key.replace("_orig_mod.", ""): weight for key, weight in state.items()}
    prefixes = [key.removesuffix(_FIRST_LAYER) for key in state if key.endswith(_FIRST_LAYER)]
    if len(prefixes) > 1:
        raise InputError(
            f"{path.name!r} holds several networks ({', '.join(prefixes)}); save the state dict of "
            "one of them"
        )
    if prefixes in ([], [""]):
        return state
    [prefix] = prefixes
    kept = {k: w for k, w in state.items() if k.startswith((prefix, "head."))}  # a head beside it
    left = [key for key in state if key not in kept]
    LOG.warning(
        "%s: the weights under %r are taken%s",
        path.name,
        prefix,
        f"; {len(left)} others are left out ({', '.join(left[:3])})" if left else "",
    )
    return {key.removeprefix(prefix): weight for key, weight in kept.items()}


@contextmanager
def fetching(
    what: str, host: str | None = None, instead: str = "model.checkpoint=FILE"
) -> Iterator[None]:
    """Fetch weights inside; where the host does not answer, take those that were fetched before.

    The host is asked once: HuggingFace's library asks for every file again, for half a minute.

    Args:
        what: Whose weights, for the message.
        host: Its address; HuggingFace's hub by default.
        instead: How weights that were fetched elsewhere are named on the command line.

    Raises:
        ConnectionError: the host is out of reach and nothing was fetched before; it has no such
            model, or the transfer broke off.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    host = host or constants.ENDPOINT
    offline: bool = constants.HF_HUB_OFFLINE
    reachable = not offline and _answers(host)
    constants.HF_HUB_OFFLINE = not reachable
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # urllib, requests and httpx have no kind of error in common
        known = isinstance(error.__cause__ or error, RepositoryNotFoundError | HFValidationError)
        state = "was not found on" if known else "could not be fetched from"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise HubError(
            f"{what} {state} {host} ({reason if reachable else 'it is out of reach'}); check the "
            f"name and the network, log in where the model is private, or pass {instead}"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def _answers(host: str) -> bool:
    """Whether the host answers within `ANSWER_TIMEOUT_S`."""
    try:
        urlopen(Request(host, method="HEAD"), timeout=ANSWER_TIMEOUT_S).close()
    except HTTPError:
        return True  # any answer is one
    except (OSError, ValueError):
        LOG.warning("%s does not answer; only weights fetched before can be used", host)
        return False
    return True
