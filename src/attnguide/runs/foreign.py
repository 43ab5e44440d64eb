"""Folders of configs from elsewhere: read before Hydra reads them, and refused if they call."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from attnguide.errors import InputError

OURS = ("attnguide.", "experiments.")
TRAINER = "pytorch_lightning.Trainer"


def check_folder(folder: Path, own: Sequence[str] | None = None) -> None:
    """Refuse a folder of configs from elsewhere that would make Hydra call or load something.

    Args:
        folder: Of the configs.
        own: Modules that they may name too, where the user has named their folder himself.

    Raises:
        ValueError: the first such file, and why.
    """
    ours = (*OURS, *(f"{name}." for name in own or ()))
    for path in sorted(_yaml_files(folder)):
        text = path.read_text(errors="replace")
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{path} is no yaml: {str(error).splitlines()[0]}") from error
        inside = path.relative_to(folder).parts
        names = [*inside[:-1], *re.findall(r"(?m)^\s*#+\s*@package\s+(\S+)", text)]
        named = any("hydra" in re.split(r"[@./:\s]+", name) for name in names)
        if named or _holds(content, "hydra"):
            raise InputError(f"{path} sets `hydra`, which configs from elsewhere may not")
        for call in _targets(content):
            if not str(call).startswith(ours) and call != TRAINER:
                raise InputError(
                    f"{path} holds `_target_: {call}`, which would run code; configs from "
                    f"elsewhere make objects of {', '.join(ours)} only"
                )
        for code in _made_by_python(content) if own is None else ():
            raise InputError(
                f"{path} names the code {code}, which would be run; name it on the command line: "
                f"model=python model.target={code}"
            )


def _made_by_python(content: Any) -> Iterator[str]:
    """The user's own functions that a model of a config is made by."""
    if isinstance(content, dict):
        code = content.get("target")
        python = str(content.get("_target_", "")).endswith(".Python")
        if code is not None and (python or ":" in str(code)):
            yield str(code)
        for value in content.values():
            yield from _made_by_python(value)


def _yaml_files(folder: Path) -> Iterator[Path]:
    """All of them, through links too: Hydra follows these."""
    for parent, _, names in os.walk(folder, followlinks=True):
        yield from (Path(parent) / name for name in names if name.endswith((".yaml", ".yml")))


def _holds(content: Any, key: str) -> bool:
    return isinstance(content, dict) and any(
        key in re.split(r"[@./:\s]+", str(name)) for name in [*content, *_defaults(content)]
    )


def _defaults(content: dict[Any, Any]) -> list[str]:
    entries = content.get("defaults") or []
    return [str(next(iter(e)) if isinstance(e, dict) else e).strip("/ ") for e in entries]


def _targets(content: Any) -> Iterator[Any]:
    if isinstance(content, dict):
        for key, value in content.items():
            if str(key) in ("_target_", "()", "class"):
                yield value
            yield from _targets(value)
    elif isinstance(content, list):
        for value in content:
            yield from _targets(value)
