"""Names of classes, from a list or a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnguide.errors import InputError, InputTypeError
from attnguide.models.checkpoint import MissingFile

FORMS = (
    "a list of names, a dict of names by index, or a file of them (.txt with one name per line, "
    ".json with a list or dict)"
)


def read_names(given: Any) -> tuple[str, ...]:
    """One name per class, in the order of the classes.

    Args:
        given: A list; a dict of names by index, such as HuggingFace's `id2label` (indices may be
            text); the path of a .txt file with one name per line, or of a .json file with either
            (HuggingFace's config.json too).

    Raises:
        TypeError: none of these.
        ValueError: indices that are not 0, 1, ...; an unreadable file; no names.
    """
    if isinstance(given, str | Path):
        given = _read_file(Path(given).expanduser())
    if isinstance(given, Mapping):
        given = _by_index(given)
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise InputTypeError(f"class names must be {FORMS}; got {type(given).__name__}")
    for index, name in enumerate(given):
        if not isinstance(name, str) or not name.strip():
            raise InputTypeError(f"the name of class {index} must be a text, got {name!r}")
    if not given:
        raise InputError(f"no class names given; pass {FORMS}")
    return tuple(given)


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise MissingFile(f"no file of class names at {str(path)!r}; pass {FORMS}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix != ".json":
            return [line.strip() for line in text.splitlines() if line.strip()]
        loaded = json.loads(text)
    except ValueError as error:  # the encoding, or the JSON
        raise InputError(
            f"cannot read class names from {str(path)!r} ({error}); expected UTF-8 text with one "
            "name per line, or JSON"
        ) from error
    return loaded.get("id2label", loaded) if isinstance(loaded, dict) else loaded


def _by_index(given: Mapping[Any, Any]) -> list[Any]:
    """Names in the order of their indices."""
    try:
        named = {int(index): name for index, name in given.items()}
    except (ValueError, TypeError):
        raise InputError(
            f"class names must be {FORMS}; got a dict of {list(given)[:3]}, ..."
        ) from None
    if sorted(named) != list(range(len(given))):
        raise InputError(
            f"the indices of {len(given)} class names must be 0 to {len(given) - 1}, each once; "
            f"got {sorted(named)[:10]}"
        )
    return [named[index] for index in sorted(named)]
