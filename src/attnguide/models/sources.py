"""Where the models of a run come from: what `conf/model/*.yaml` names.

Nothing heavy is imported before something is checked or loaded, so that a wrong word is answered at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnguide.errors import InputError, InputTypeError, unknown_name
from attnguide.models.given import files_of, pairs_of, texts

if TYPE_CHECKING:
    import torch

    from attnguide.types import ViT


@dataclass(kw_only=True)
class ModelSource:
    """What all sources have in common.

    Attributes:
        class_names: a list, a dict in either direction, or a file, as `wrap_model` takes them; the
            model's own by default.
        preprocess: fields of `attnguide.models.preprocess.Preprocess` that replace the model's.
        label: what records call the model, or each of several; its name by default.
    """

    class_names: Any = None
    preprocess: Any = None
    label: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        """What records call each model.

        Raises:
            ValueError: not one label per model, or two models of one name.
        """
        own = self._own_names()
        names = own if self.label is None else texts("model.label", self.label)
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
        return names

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

    def load(self, device: str | torch.device = "cpu") -> Iterator[ViT]:
        """The models, one after the other, each loaded when it is asked for."""
        raise NotImplementedError

    def files(self) -> list[Path] | None:
        """Files of models and class names, none of the hub's; None: only loading can tell."""
        own = self._own_files()
        named = self.class_names if isinstance(self.class_names, str) else None
        return own if own is None or named is None else [*own, Path(named).expanduser()]

    def _own_files(self) -> list[Path] | None:
        return None

    def _own_names(self) -> tuple[str, ...]:
        raise NotImplementedError


@dataclass
class Timm(ModelSource):
    """Networks of timm, and the embedded ones.

    Attributes:
        name: of `load_model`, or a list of them.
        checkpoint: local weights for each, or for none.
    """

    name: Any = "creatures"
    checkpoint: Any = None

    def check(self) -> None:
        """Names are known, files are there."""
        super().check()
        from attnguide.models.load import check_model

        for name, checkpoint in self._pairs():
            check_model(name, checkpoint)

    def load(self, device: str | torch.device = "cpu") -> Iterator[ViT]:
        """As `load_model`."""
        from attnguide.models.load import load_model

        for (name, checkpoint), label in zip(self._pairs(), self.names, strict=True):
            yield load_model(
                name,
                checkpoint,
                device=device,
                class_names=self.class_names,
                preprocess=self.preprocess,
                label=label,
            )

    def _own_files(self) -> list[Path] | None:
        found = []
        for name, checkpoint in self._pairs():
            found += [] if checkpoint is None else files_of(checkpoint)
            if name.startswith("local-dir:"):
                found += files_of(name.removeprefix("local-dir:"))
        return found

    def _own_names(self) -> tuple[str, ...]:
        names = [name.removeprefix("timm/") for name, _ in self._pairs()]
        return tuple(Path(n).name if n.startswith("local-dir:") else n for n in names)

    def _pairs(self) -> list[tuple[str, str | None]]:
        return pairs_of(self.name, self.checkpoint)


@dataclass
class HuggingFace(ModelSource):
    """Image classifiers of HuggingFace's transformers, with the image processor beside them.

    Attributes:
        name: a folder as `save_pretrained` writes it, or OWNER/NAME of the hub; or a list.
    """

    name: Any = None

    def check(self) -> None:
        """The library is installed, folders hold a classifier."""
        super().check()
        if find_spec("transformers") is None:
            raise InputError("model=huggingface needs transformers; run pip install '.[hf]'")
        from attnguide.models.pretrained import check_huggingface

        for name in texts("model.name", self.name):
            check_huggingface(name)

    def load(self, device: str | torch.device = "cpu") -> Iterator[ViT]:
        """As `load_huggingface`."""
        from attnguide.models.pretrained import load_huggingface

        for name, label in zip(texts("model.name", self.name), self.names, strict=True):
            yield load_huggingface(name, device, self.class_names, self.preprocess, label)

    def _own_files(self) -> list[Path] | None:
        return [path for name in texts("model.name", self.name) for path in files_of(name)]

    def _own_names(self) -> tuple[str, ...]:
        names = texts("model.name", self.name)
        return tuple(Path(name).name if Path(name).is_dir() else name for name in names)


@dataclass
class Torchvision(ModelSource):
    """torchvision's `VisionTransformer`s.

    Attributes:
        name: vit_b_16, vit_b_32, vit_l_16, vit_l_32 or vit_h_14; or a list.
        checkpoint: local weights for each, or for none.
        weights: name of torchvision's published weights, where no checkpoint is given.
    """

    name: Any = "vit_b_16"
    checkpoint: Any = None
    weights: str = "DEFAULT"

    def check(self) -> None:
        """Names are known, files are there."""
        super().check()
        from attnguide.models.pretrained import check_torchvision

        for name, checkpoint in pairs_of(self.name, self.checkpoint):
            check_torchvision(name, checkpoint, self.weights)

    def load(self, device: str | torch.device = "cpu") -> Iterator[ViT]:
        """As `load_torchvision`."""
        from attnguide.models.pretrained import load_torchvision

        pairs = pairs_of(self.name, self.checkpoint)
        for (name, checkpoint), label in zip(pairs, self.names, strict=True):
            yield load_torchvision(
                name, checkpoint, self.weights, device, self.class_names, self.preprocess, label
            )

    def _own_files(self) -> list[Path] | None:
        pairs = pairs_of(self.name, self.checkpoint)
        return [path for _, own in pairs if own is not None for path in files_of(own)]

    def _own_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in pairs_of(self.name, self.checkpoint))


@dataclass
class Python(ModelSource):
    """A network that the user's own function makes.

    Attributes:
        target: `module:function` or `path/to/file.py:function`; the function returns a network or
            a `ViT`.
        arguments: given to it by name.
    """

    target: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """The module is there; its code is not run before loading."""
        super().check()
        self._module()

    def load(self, device: str | torch.device = "cpu") -> Iterator[ViT]:
        """Call the function; its own errors come as they are."""
        from torch import nn

        from attnguide.models.wrap import wrap_model
        from attnguide.types import ViT

        made = self._factory()(**self.arguments)
        if isinstance(made, nn.Module):
            made = wrap_model(made, self.preprocess, self.class_names, name=self.names[0])
        elif not isinstance(made, ViT):
            raise InputTypeError(
                f"{self.target} must return a network or a ViT, got {type(made).__name__}"
            )
        elif self.class_names is not None or self.preprocess is not None:
            raise InputError(
                f"{self.target} returns a ViT, which has its class names and its preprocess; let "
                "it return the network, or leave model.class_names and model.preprocess out"
            )
        yield replace(made, name=self.names[0]).to(device)

    def _own_names(self) -> tuple[str, ...]:
        return (self._parts()[1],)

    def _parts(self) -> tuple[str, str]:
        place, _, function = str(self.target or "").rpartition(":")
        if not place or not function.isidentifier():
            raise InputError(
                f"model.target must be module:function, e.g. my_module:make_model, got "
                f"{self.target!r}"
            )
        return place, function

    def _module(self) -> str:
        """Name of the module, once its folder is where Python looks."""
        place, _ = self._parts()
        folder, name = Path.cwd(), place
        if place.endswith(".py"):
            path = Path(place).expanduser().resolve()
            folder, name = path.parent, path.stem
            if not path.is_file():
                raise InputError(f"model.target={self.target}: there is no file {place}")
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        if find_spec(name.split(".")[0]) is None or find_spec(name) is None:
            raise InputError(
                f"model.target={self.target}: no module {name!r} in {folder} or among the "
                "installed packages"
            )
        return name

    def _factory(self) -> Callable[..., Any]:
        place, function = self._parts()
        module = import_module(self._module())
        if not hasattr(module, function):
            known = [name for name in vars(module) if not name.startswith("_")]
            raise unknown_name(f"function of {place}", function, known)
        made: Callable[..., Any] = getattr(module, function)
        if not callable(made):
            raise InputTypeError(f"{self.target} is no function but {type(made).__name__}")
        return made
