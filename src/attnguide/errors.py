"""What a user can mend: one kind of error, whose message is all that is shown."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class InputError(ValueError):
    """Something that was asked for and cannot be done: what was expected, what came, what to do."""


class InputTypeError(InputError, TypeError):
    """An input of another type than expected."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name nobody knows: closest names first, then all of them."""
    names, text, wanted = list(known), str(name), _letters(name)
    begun = [known for known in names if text and known.startswith(text)]
    inside = [
        known
        for known in names
        if min(len(wanted), len(_letters(known))) > 2
        and (wanted in _letters(known) or _letters(known) in wanted)
    ]
    whole = re.compile(rf"\b{re.escape(text)}\b", re.IGNORECASE)
    inside.sort(key=lambda known: (not whole.search(known), len(known)))
    near = get_close_matches(text.lower(), names, n=3, cutoff=0.5)
    close = list(dict.fromkeys([*begun, *inside]))[:3] or near
    hint = f"; did you mean {' or '.join(close)}?" if close else ";"
    listed = ", ".join(names[:40]) + (f", ... ({len(names)} in all)" if len(names) > 40 else "")
    return InputError(f"unknown {kind} {name!r}{hint} known: {listed or 'none'}")


def _letters(name: object) -> str:
    """A name without case, spaces and signs."""
    return re.sub(r"[\W_]", "", str(name).lower())


def command() -> str:
    """How this program was started, for messages that say what to run next."""
    return "attnguide" if Path(sys.argv[0]).stem == "attnguide" else "python run.py"
