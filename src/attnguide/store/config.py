"""The config of a run, as it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from attnguide.errors import InputError
from attnguide.store.folder import RunFolder


def load_config(run_dir: Path) -> dict[str, Any]:
    """The stored config, plain values; nothing in it is looked up or called.

    Raises:
        FileNotFoundError: no run there.
        ValueError: the file is damaged.
    """
    path = RunFolder(run_dir).config
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} is not a run: it has no config.yaml; pass run_dir=PATH")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged: it holds no settings")
    return {str(key): value for key, value in values.items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, as the command line writes them."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            settings |= flat(value, f"{prefix}{key}.")
        else:
            settings[f"{prefix}{key}"] = value
    return settings
