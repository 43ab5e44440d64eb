"""Where the models of a run come from: what `conf/model/*.yaml` names.

Nothing heavy is imported before something is checked or loaded, so that a wrong word is answered at
once.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from attnguide.errors import InputError, InputTypeError, unknown_name

if TYPE_CHECKING:
    import torch

    from attnguide.types import ViT

LOG = logging.getLogger(__name__)

STRICT = ConfigDict(extra="forbid")


class Named(NamedTuple):
    """One of the models: what it is called where it comes from, and a file or folder of weights."""

    name: str
    checkpoint: str | None = None


@dataclass(kw_only=True, config=STRICT)
class ModelSource:
    """What all sources have in common.

    Attributes:
        class_names: a list, a dict by index, or a file, as `wrap_model` takes them; the model's
            own by default.
        preprocess: fields of `attnguide.models.preprocess.Preprocess` that replace the model's.
        label: what records call the model, or each of several; its name by default.
    """

    class_names: str | list[str] | dict[int, str] | None = None
    preprocess: dict[str, Any] | None = None
    label: str | list[str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What records call each model.

        Raises:
            ValueError: not one label per model, or two models of one name.
        """
        own = [self._short_name(model) for model in self._models()]
        names = own if self.label is None else _listed("model.label", self.label)
        if len(names) != len(own):
            raise InputError(
                f"model.label must name each model ({len(own)}: {', '.join(own)}), got "
                f"{len(names)}: {', '.join(names)}"
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"{names.count(twice[0])} models are called {twice[0]!r}; give names: "
                f"model.label=[{','.join('ABCDEFGH'[: len(names)])}]"
            )
        return tuple(names)

    def check(self) -> None:
        """Refuse what cannot be loaded, without loading it.

        Raises:
            ValueError, FileNotFoundError: unknown names, missing files, impossible settings.
        """
        self.names  # noqa: B018  raises where names, labels and checkpoints do not match
        if self.preprocess is not None:
            from attnguide.models.preprocess import check_fields

            check_fields(self.preprocess)
        if self.class_names is not None:
            from attnguide.models.names import read_names

            read_names(self.class_names)
        for model in self._models():
            self._check_one(model)

    def load(self, device: str | torch.device = "cpu") -> Iterator[ViT]:
        """The models, one after the other, each loaded when it is asked for."""
        for model, label in zip(self._models(), self.names, strict=True):
            yield self._load_one(model, device, label)

    def _models(self) -> list[Named]:
        raise NotImplementedError

    def _short_name(self, model: Named) -> str:
        return model.name

    def _check_one(self, model: Named) -> None:
        raise NotImplementedError

    def _load_one(self, model: Named, device: str | torch.device, label: str) -> ViT:
        raise NotImplementedError

    def _wrap(
        self, module: Any, device: str | torch.device, label: str, preset: Any, digest: str
    ) -> ViT:
        """The network with the settings of this source; `preset` comes with its weights."""
        from attnguide.models.preprocess import override
        from attnguide.models.wrap import wrap_model

        steps = override(preset, self.preprocess)
        names, network = self.class_names, module.to(device)
        return wrap_model(network, steps, names, name=label, weights_sha256=digest)


@dataclass(config=STRICT)
class Timm(ModelSource):
    """Networks of timm, and the embedded ones.

    Attributes:
        name: of `load_model`, or a list of them.
        checkpoint: local weights for each, or for none.
    """

    name: str | list[str] = "creatures"
    checkpoint: str | list[str | None] | None = None

    def _models(self) -> list[Named]:
        return _pairs(self.name, self.checkpoint)

    def _short_name(self, model: Named) -> str:
        local = model.name.startswith("local-dir:")
        return Path(model.name).name if local else model.name.removeprefix("timm/")

    def _check_one(self, model: Named) -> None:
        from attnguide.models.load import check_model

        check_model(*model)

    def _load_one(self, model: Named, device: str | torch.device, label: str) -> ViT:
        from attnguide.models.load import load_model

        given: Any = {"class_names": self.class_names, "preprocess": self.preprocess}
        return load_model(*model, device=device, label=label, **given)


@dataclass(config=STRICT)
class HuggingFace(ModelSource):
    """Image classifiers of HuggingFace's transformers, with the image processor beside them.

    Attributes:
        name: a folder as `save_pretrained` writes it, or OWNER/NAME of the hub; or a list.
    """

    name: str | list[str] = "google/vit-base-patch16-224"

    def _models(self) -> list[Named]:
        return [Named(name) for name in _listed("model.name", self.name)]

    def _short_name(self, model: Named) -> str:
        return Path(model.name).name if Path(model.name).is_dir() else model.name

    def _check_one(self, model: Named) -> None:
        if find_spec("transformers") is None:
            raise InputError("model=huggingface needs transformers; run pip install '.[hf]'")
        _check_folder(model.name)

    def _load_one(self, model: Named, device: str | torch.device, label: str) -> ViT:
        from attnguide.models.checkpoint import fetching, sha256
        from attnguide.models.preprocess import as_preprocess

        folder = Path(model.name).expanduser()
        local = folder.is_dir()
        where = str(folder) if local else model.name
        with nullcontext() if local else fetching(where, instead="model.name=FOLDER"):
            module = _pretrained(where)
            processor = as_preprocess(_processor(where))
        digest = ""
        with suppress(InputError):  # weights in several files: that of the state dict is taken
            digest = sha256(folder) if local else ""
        return self._wrap(module, device, label, processor, digest)


@dataclass(config=STRICT)
class Torchvision(ModelSource):
    """torchvision's `VisionTransformer`s.

    Attributes:
        name: vit_b_16, vit_b_32, vit_l_16, vit_l_32 or vit_h_14; or a list.
        checkpoint: local weights for each, or for none.
        weights: name of torchvision's published weights, where no checkpoint is given.
    """

    name: str | list[str] = "vit_b_16"
    checkpoint: str | list[str | None] | None = None
    weights: str = "DEFAULT"

    def _models(self) -> list[Named]:
        return _pairs(self.name, self.checkpoint)

    def _check_one(self, model: Named) -> None:
        from torchvision.models import get_model_weights, list_models

        from attnguide.models.checkpoint import find_weights

        known = [entry for entry in list_models() if entry.startswith("vit_")]
        if model.name not in known:
            raise unknown_name("model of torchvision", model.name, known)
        published = ["DEFAULT", *(entry.name for entry in get_model_weights(model.name))]
        if model.checkpoint is not None:
            find_weights(model.checkpoint)
        elif self.weights not in published:
            raise unknown_name("model.weights", self.weights, published)

    def _load_one(self, model: Named, device: str | torch.device, label: str) -> ViT:
        from torchvision.models import get_model, get_model_weights

        from attnguide.models.checkpoint import (
            TORCHVISION_HOST,
            fetching,
            load_weights,
            read_weights,
            sha256,
        )
        from attnguide.models.preprocess import as_preprocess

        digest, preset = "", None
        if model.checkpoint is None:
            published = get_model_weights(model.name)[self.weights]
            with fetching(model.name, TORCHVISION_HOST):
                module = get_model(model.name, weights=published)
            preset = as_preprocess(published.transforms())
        else:
            state = read_weights(model.checkpoint)
            digest = sha256(model.checkpoint)
            head = state.get("heads.head.weight")
            classes = {} if head is None else {"num_classes": len(head)}
            module = get_model(model.name, **classes)
            load_weights(module, state, model.checkpoint, f"torchvision's {model.name}")
        return self._wrap(module, device, label, preset, digest)


@dataclass(config=STRICT)
class Python(ModelSource):
    """A network that the user's own function makes.

    Attributes:
        target: `module:function` or `path/to/file.py:function`; the function returns a network or
            a `ViT`.
        arguments: given to it by name.
    """

    target: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def _models(self) -> list[Named]:
        return [Named(str(self.target or "").rpartition(":")[2])]

    def _check_one(self, model: Named) -> None:  # noqa: ARG002
        self._parts()  # are there; the code is not run before loading

    def _load_one(
        self,
        model: Named,  # noqa: ARG002
        device: str | torch.device,
        label: str,
    ) -> ViT:
        """Call the function; its own errors come as they are."""
        from torch import nn

        from attnguide.types import ViT

        made = self._function()(**self.arguments)
        if isinstance(made, nn.Module):
            made = self._wrap(made, device, label, None, "")
        elif not isinstance(made, ViT):
            raise InputTypeError(
                f"{self.target} must return a network or a ViT, got {type(made).__name__}"
            )
        elif self.class_names is not None or self.preprocess is not None:
            raise InputError(
                f"{self.target} returns a ViT, which has its class names and its preprocess; let "
                "it return the network, or leave model.class_names and model.preprocess out"
            )
        return replace(made, name=label).to(device)

    def _parts(self) -> tuple[str, str]:
        """Names of the module, once its folder is where Python looks, and of the function."""
        place, _, function = str(self.target or "").rpartition(":")
        if not place or not function.isidentifier():
            raise InputError(
                f"model.target must be module:function, e.g. my_module:make_model, got "
                f"{self.target!r}"
            )
        folder = Path.cwd()
        if place.endswith(".py"):
            path = Path(place).expanduser().resolve()
            if not path.is_file():
                raise InputError(f"model.target={self.target}: there is no file {place}")
            folder, place = path.parent, path.stem
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        if find_spec(place.split(".")[0]) is None or find_spec(place) is None:
            raise InputError(
                f"model.target={self.target}: no module {place!r} in {folder} or among the "
                "installed packages"
            )
        return place, function

    def _function(self) -> Callable[..., Any]:
        place, function = self._parts()
        module = import_module(place)
        if not hasattr(module, function):
            known = [name for name in vars(module) if not name.startswith("_")]
            raise unknown_name(f"function of {place}", function, known)
        made: Callable[..., Any] = getattr(module, function)
        if not callable(made):
            raise InputTypeError(f"{self.target} is not a function but {type(made).__name__}")
        return made


def _listed(setting: str, value: str | list[str]) -> list[str]:
    """One text or several, none of them empty."""
    listed = [value] if isinstance(value, str) else list(value)
    if not listed or not all(listed):
        raise InputError(f"{setting} must be a name or a list of names, got {value!r}")
    return listed


def _pairs(name: str | list[str], checkpoint: str | list[str | None] | None) -> list[Named]:
    """One checkpoint for each name, or none for all."""
    names = _listed("model.name", name)
    paths: list[str | None] = [None] * len(names)
    if checkpoint is not None:
        paths = [checkpoint] if isinstance(checkpoint, str) else checkpoint
    if len(paths) != len(names):
        raise InputError(
            f"model.checkpoint must name one file per model ({len(names)}: {', '.join(names)}), "
            f"got {len(paths)}; pass model.checkpoint=[FILE,FILE] or another model"
        )
    return [Named(*pair) for pair in zip(names, paths, strict=True)]


def _check_folder(name: str) -> None:
    """Refuse a folder without a classifier of HuggingFace; a name of the hub is not asked for."""
    from attnguide.models.checkpoint import MissingFile

    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or folder.exists():
            raise MissingFile(
                f"model.name={name}: no such folder; pass a folder as save_pretrained writes it, "
                "or OWNER/NAME of the hub"
            )
        return
    if not (folder / "config.json").is_file():
        raise MissingFile(f"{name} holds no config.json; pass a folder that save_pretrained wrote")
    try:
        stored = json.loads((folder / "config.json").read_text())
        kinds, is_timms = stored.get("architectures") or [], "pretrained_cfg" in stored
        if not all(isinstance(kind, str) for kind in kinds):
            raise TypeError("architectures must be names")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        told = f"cannot read {name}/config.json ({error}); save the model again"
        raise InputError(told) from error
    if is_timms:
        raise InputError(f"{name} is timm's; pass model.name=local-dir:{name}")


def _pretrained(where: str) -> Any:
    """HuggingFace's network in float32, if all of its weights are stored; its code is never run."""
    from transformers import AutoModelForImageClassification

    kind: Any = AutoModelForImageClassification
    try:
        module, report = kind.from_pretrained(
            where, output_loading_info=True, trust_remote_code=False
        )
    except OSError:
        raise  # not there, or out of reach
    except Exception as error:  # a configuration of another kind, cut or wrong weights
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise InputError(f"{where} holds no image classifier of HuggingFace ({reason})") from error
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise InputError(
            f"{where} lacks {len(missing)} weights of its network ({', '.join(missing[:3])}); a "
            "classifier must be trained before classes can be explained"
        )
    return module.float()  # transformers 5 keeps the precision of the file


def _processor(where: str) -> Any:
    """HuggingFace's image processor; None where none is stored."""
    from transformers import AutoImageProcessor

    kind: Any = AutoImageProcessor
    try:
        return kind.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError) as error:
        told = "%s has no image processor (%s); its family's is taken, else pass model.preprocess"
        LOG.warning(told, where, type(error).__name__)
        return None
