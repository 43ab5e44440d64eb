"""Hold a network still while it is looked into, and give it back as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

_FLAGS = {
    "training": False,
    "fused_attn": True,
    "grad_checkpointing": False,  # timm
    "gradient_checkpointing": False,  # HuggingFace
}
_GUARD = Lock()
_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


@contextmanager
def unchanged(module: nn.Module, *, fused: bool = True) -> Iterator[None]:
    """The network for one thread alone: evaluating, eager, without parameter gradients.

    Training mode, unfused attention, gradient checkpointing, compiled code (in whichever way it was
    compiled) and `requires_grad` are put aside, weights that were made in inference mode are
    replaced by copies; all is as before afterwards, also after an error.

    Args:
        module: The network.
        fused: Let timm's attention call PyTorch's attention function, which shows queries and
            values; False leaves that as it is.
    """
    with _lock_of(module), _EAGER, ExitStack() as undo:
        for part in module.modules():
            own = vars(part)
            for name, value in _FLAGS.items():
                if name in own and own[name] != value and (fused or name != "fused_attn"):
                    undo.callback(setattr, part, name, own[name])
                    setattr(part, name, value)
            _replace_inference_tensors(part, undo)
        for parameter in module.parameters():
            if parameter.requires_grad:
                undo.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        yield


def _replace_inference_tensors(part: nn.Module, undo: ExitStack) -> None:
    """They can be neither differentiated through nor changed back."""
    tables: tuple[Any, ...] = (part._parameters, part._buffers)
    for table in tables:
        for name, tensor in table.items():
            if tensor is not None and tensor.is_inference():
                undo.callback(table.__setitem__, name, tensor)
                with torch.inference_mode(False):
                    copy = tensor.detach().clone()
                    weight = nn.Parameter(copy, requires_grad=False)
                    table[name] = weight if table is part._parameters else copy


def _lock_of(module: nn.Module) -> Any:
    with _GUARD:
        return _LOCKS.setdefault(module, RLock())


class _Eager:
    """Nothing runs compiled while at least one thread is inside."""

    def __init__(self) -> None:
        self._lock, self._inside, self._stance = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1 and "torch._dynamo" in sys.modules:  # else nothing is compiled
                self._stance.enter_context(torch.compiler.set_stance("force_eager"))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stance.close()


_EAGER = _Eager()
