"""What `model.name` and `model.checkpoint` name: one or several, and the files behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnguide.errors import InputError


def texts(setting: str, given: Any) -> tuple[str, ...]:
    """One text or a list of them."""
    listed = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not listed or not all(isinstance(text, str) and text for text in listed):
        raise InputError(f"{setting} must be a name or a list of names, got {given}")
    return tuple(listed)


def files_of(place: str) -> list[Path]:
    """A file, or the files of a folder; of a name that is neither, none."""
    path = Path(place).expanduser().absolute()
    if path.is_dir():
        return sorted(entry for entry in path.iterdir() if entry.is_file())
    return [path] if path.is_file() else []


def pairs_of(name: Any, checkpoint: Any) -> list[tuple[str, str | None]]:
    """(name, checkpoint or None) of each model."""
    names = texts("model.name", name)
    if checkpoint is None:
        return [(text, None) for text in names]
    single = isinstance(checkpoint, str | Path)
    paths = [str(checkpoint)] if single else [None if p is None else str(p) for p in checkpoint]
    if len(paths) != len(names):
        raise InputError(
            f"model.checkpoint must name one file per model ({len(names)}: {', '.join(names)}), "
            f"got {len(paths)}; pass model.checkpoint=[FILE,FILE] or another model"
        )
    return list(zip(names, paths, strict=True))
