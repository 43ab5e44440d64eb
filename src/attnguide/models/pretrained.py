"""Models by name from HuggingFace's transformers and from torchvision."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attnguide.errors import InputError, unknown_name
from attnguide.models.checkpoint import MissingFile, find_weights, read_weights, sha256
from attnguide.models.hub import TORCHVISION_HOST, fetching
from attnguide.models.preprocess import with_fields
from attnguide.models.wrap import wrap_model
from attnguide.types import ViT

LOG = logging.getLogger(__name__)


def check_huggingface(name: str) -> None:
    """Refuse a folder without a classifier of HuggingFace; a name of the hub is not asked for.

    Raises:
        FileNotFoundError: a path that is no folder.
        ValueError: a folder of something else.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or folder.exists():
            raise MissingFile(
                f"model.name={name}: no such folder; pass a folder as save_pretrained writes it, "
                "or OWNER/NAME of the hub"
            )
        return
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{name} holds an adapter (PEFT), not a network; merge it first: "
            "model.merge_and_unload().save_pretrained(FOLDER)"
        )
    if not (folder / "config.json").is_file():
        raise MissingFile(f"{name} holds no config.json; pass a folder that save_pretrained wrote")
    try:
        architectures = json.loads((folder / "config.json").read_text()).get("architectures") or []
    except (ValueError, AttributeError) as error:
        raise InputError(f"{name}/config.json cannot be read ({error})") from error
    if architectures and not any("ImageClassification" in kind for kind in architectures):
        raise InputError(
            f"{name} holds {', '.join(architectures)}, expected a network for image classification "
            "(...ForImageClassification)"
        )


def load_huggingface(
    name: str,
    device: str | torch.device = "cpu",
    class_names: Any = None,
    preprocess: Any = None,
    label: str | None = None,
) -> ViT:
    """An image classifier of HuggingFace, with the image processor that is stored beside it.

    Args:
        name: A folder, or OWNER/NAME of the hub.
        device: Where to put it.
        class_names, preprocess: As in `wrap_model`; fields replace those of the processor.
        label: What records call it.

    Raises:
        ConnectionError: hub out of reach.
        ValueError: a network that cannot be converted, or without a trained classifier.
    """
    from transformers import AutoModelForImageClassification

    check_huggingface(name)
    folder = Path(name).expanduser()
    local = folder.is_dir()
    where = str(folder) if local else name
    with nullcontext() if local else fetching(name, instead="model.name=FOLDER"):
        module, report = _from_pretrained(AutoModelForImageClassification, where)
        processor = _processor(where)
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise InputError(
            f"{name} lacks {len(missing)} weights of its network ({', '.join(missing[:3])}); a "
            "classifier must be trained before classes can be explained"
        )
    fields = preprocess if isinstance(preprocess, Mapping) else None
    vit = wrap_model(
        module.to(device),
        processor if preprocess is None or fields is not None else preprocess,
        class_names,
        name=label or (folder.name if local else name),
        weights_sha256=_folder_digest(folder) if local else "",
    )
    return vit if fields is None else _with_fields(vit, fields)


def check_torchvision(name: str, checkpoint: str | Path | None, weights: str) -> None:
    """Refuse an unknown name of a network or its weights, or a missing file.

    Raises:
        ValueError, FileNotFoundError: which, and what is known.
    """
    from torchvision.models import get_model_weights, list_models

    known = [entry for entry in list_models() if entry.startswith("vit_")]
    if name not in known:
        raise unknown_name("model of torchvision", name, known)
    published = [entry.name for entry in get_model_weights(name)]
    if checkpoint is not None:
        find_weights(checkpoint)
    elif weights not in ("DEFAULT", *published):
        raise unknown_name("model.weights", weights, ["DEFAULT", *published])


def load_torchvision(
    name: str,
    checkpoint: str | Path | None = None,
    weights: str = "DEFAULT",
    device: str | torch.device = "cpu",
    class_names: Any = None,
    preprocess: Any = None,
    label: str | None = None,
) -> ViT:
    """A `VisionTransformer` of torchvision, with the preset of its weights.

    Args:
        name: vit_b_16, ...
        checkpoint: Local weights with torchvision's names; published ones otherwise.
        weights: Which published ones.
        device: Where to put it.
        class_names, preprocess: As in `wrap_model`.
        label: What records call it.

    Raises:
        ConnectionError: weights out of reach.
        ValueError: weights that do not fit.
    """
    from torchvision.models import get_model, get_model_weights

    check_torchvision(name, checkpoint, weights)
    digest, preset = "", None
    if checkpoint is None:
        published = get_model_weights(name)[weights]
        with fetching(name, TORCHVISION_HOST):
            module = get_model(name, weights=published)
        preset = published.transforms()
    else:
        state = read_weights(checkpoint)
        digest = sha256(checkpoint)
        head = state.get("heads.head.weight")
        module = get_model(name, **({} if head is None else {"num_classes": len(head)}))
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            told = "; ".join(line.strip()[:120] for line in str(error).splitlines()[1:3])
            raise InputError(
                f"weights {Path(checkpoint).name!r} do not fit torchvision's {name}: {told}"
            ) from error
    fields = preprocess if isinstance(preprocess, Mapping) else None
    vit = wrap_model(
        module.to(device),
        preset if preprocess is None or fields is not None else preprocess,
        class_names,
        name=label or name,
        weights_sha256=digest,
    )
    return vit if fields is None else _with_fields(vit, fields)


def _from_pretrained(kind: Any, where: str) -> tuple[Any, dict[str, Any]]:
    try:
        loaded: tuple[Any, dict[str, Any]] = kind.from_pretrained(where, output_loading_info=True)
    except (ValueError, KeyError) as error:  # a configuration of another kind
        raise InputError(
            f"{where} holds no image classifier of HuggingFace ({str(error).splitlines()[0][:150]})"
        ) from error
    return loaded


def _processor(where: str) -> Any:
    """The image processor; None where none is stored."""
    from transformers import AutoImageProcessor

    kind: Any = AutoImageProcessor
    try:
        return kind.from_pretrained(where)
    except (OSError, ValueError) as error:
        LOG.warning(
            "%s has no image processor (%s); the preprocessing of its family's published weights "
            "is taken, pass model.preprocess where it differs",
            where,
            type(error).__name__,
        )
        return None


def _folder_digest(folder: Path) -> str:
    """Checksum of the weights file; of several parts, the state dict's is taken instead."""
    try:
        return sha256(folder)
    except InputError:
        return ""


def _with_fields(vit: ViT, fields: Mapping[str, Any]) -> ViT:
    return replace(vit, preprocess=with_fields(vit.preprocess, fields, vit.image_size))
