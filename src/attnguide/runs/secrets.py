"""What must not stand in records: secrets of the environment, blotted wherever words are stored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnguide.store.files import write_atomic

NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
SHORTEST = 8  # letters; shorter ones are ordinary words
BLOT = "***"


def hide(value: Any) -> Any:
    """The value without secrets: text, and what lists and mappings hold."""
    if isinstance(value, str):
        for secret in _secrets():
            value = value.replace(secret, BLOT)
        return value
    if isinstance(value, Mapping):
        return {hide(key): hide(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [hide(entry) for entry in value]
    return value


def _secrets() -> list[str]:
    """Longest first, so that none is left of one that contains another."""
    values = {
        value
        for name, value in os.environ.items()
        if any(word in name.upper() for word in NAMES) and len(value) >= SHORTEST
    }
    return sorted(values, key=len, reverse=True)


def hide_in_file(path: Path) -> None:
    """Blot what another program wrote."""
    if path.is_file() and not path.is_symlink():
        text = path.read_text(errors="surrogateescape")
        if hide(text) != text:
            write_atomic(path, hide(text).encode(errors="surrogateescape"))
