"""Names of classes, from a list or a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnguide.errors import InputError, InputTypeError
from attnguide.models.checkpoint import MissingFile

FORMS = (
    "a list of names, a dict of names by index or of indices by name, or a file of them (.txt or "
    ".csv with one name per line, .json or .yaml with a list or dict)"
)
_NUMBERED = re.compile(r"(?P<index>\d+)[\s:,;]+(?P<name>.+)|(?P<first>.+)[,;\t]\s*(?P<last>\d+)")
_INSIDE = ("id2label", "class_to_idx", "label_names", "class_names", "classes", "names")


def read_names(given: Any) -> tuple[str, ...]:
    """One name per class, in the order of the classes.

    Args:
        given: A list; a dict of names by index, such as HuggingFace's `id2label` (indices may be
            text), or of indices by name, such as torchvision's `class_to_idx`; the path of a file
            with either (HuggingFace's config.json too), or with a name per line. Where the lines
            have numbers from 0, these count, not the order of the lines.

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
            raise InputTypeError(
                f"the name of class {index} must be a text, got {name!r}; put quotes around it"
            )
    if not given:
        raise InputError(f"no class names given; pass {FORMS}")
    return tuple(given)


def _read_file(path: Path) -> Any:
    import yaml

    if not path.is_file():
        raise MissingFile(f"no file of class names at {str(path)!r}; pass {FORMS}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix in (".json", ".yaml", ".yml"):
            loaded = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
            return names_inside(loaded) or loaded
    except (ValueError, yaml.YAMLError) as error:  # the encoding, or the form
        raise InputError(
            f"cannot read class names from {str(path)!r} ({error}); expected UTF-8 text with one "
            "name per line, or JSON"
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line[0] != "#"]
    is_table = path.suffix in (".csv", ".tsv")  # whose first line may be titles
    for listed in (lines, lines[1:])[: 1 + is_table]:
        found = [_NUMBERED.fullmatch(line) for line in listed]
        named = {int(m["index"] or m["last"]): m["name"] or m["first"] for m in found if m}
        if named and sorted(named) in ([*range(len(listed))], [*range(1, len(listed) + 1)]):
            return named
    return lines


def names_inside(loaded: Any) -> Any:
    """Names in what a trainer or a library wrote; None where there are none."""
    if not isinstance(loaded, Mapping):
        return None
    return next((loaded[key] for key in _INSIDE if loaded.get(key)), None)


def _by_index(given: Mapping[Any, Any]) -> list[Any]:
    """Names in the order of their indices."""
    if all(isinstance(index, int) for index in given.values()):
        given = {index: name for name, index in given.items()}
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
    pairs = [named[index] for index in sorted(named)]  # Keras writes [wnid, name]
    return [name[-1] if isinstance(name, list) and name else name for name in pairs]
