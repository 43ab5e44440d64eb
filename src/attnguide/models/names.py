"""Class names in the forms people have them: lists, files, dicts in either direction."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from attnguide.errors import InputError, InputTypeError
from attnguide.models.checkpoint import MissingFile

FORMS = (
    "a list of names, a dict of names by index or of indices by name, or a file of them (.txt with "
    "one name per line, .json)"
)


def read_names(given: Any) -> tuple[str, ...]:
    """One name per class, in the order of the classes.

    Args:
        given: A list; `id2label` (indices may be text); `class_to_idx`; a path of a .txt file with
            one name per line, or of a .json file with any of these (HuggingFace's config.json
            too).

    Raises:
        TypeError: none of these.
        ValueError: indices that are not 0, 1, ...; an unreadable file; no names.
    """
    if isinstance(given, str | Path):
        given = _read_file(Path(given).expanduser())
    if isinstance(given, Mapping):
        given = _by_index(given)
    if hasattr(given, "tolist"):  # an array of names
        given = given.tolist()
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise InputTypeError(f"class names must be {FORMS}; got {type(given).__name__}")
    names = tuple(str(name) if isinstance(name, Integral) else name for name in given)
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise InputTypeError(f"the name of class {index} must be a text, got {name!r}")
    if not names:
        raise InputError(f"no class names given; pass {FORMS}")
    return names


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
    if given and all(_is_index(value, text=False) for value in given.values()):
        if all(_is_index(key, text=False) for key in given):
            raise InputError(f"cannot tell names from indices in {dict(given)}; pass a list")
        given = {index: name for name, index in given.items()}
    elif not all(_is_index(key, text=True) for key in given):
        raise InputError(f"class names must be {FORMS}; got a dict of {list(given)[:3]}, ...")
    named = {int(index): name for index, name in given.items()}
    if sorted(named) != list(range(len(given))):
        raise InputError(
            f"the indices of {len(given)} class names must be 0 to {len(given) - 1}, each once; "
            f"got {sorted(named)[:10]}"
        )
    return [named[index] for index in sorted(named)]


def _is_index(value: Any, *, text: bool) -> bool:
    if isinstance(value, str):
        return text and re.fullmatch("[0-9]{1,18}", value) is not None
    return isinstance(value, Integral) and not isinstance(value, bool)
