"""Messages about names that nobody knows; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """The error for a name nobody knows: closest names first, then all of them."""
    names = list(known)
    begun = [known for known in names if str(name) and known.startswith(str(name))]
    close = begun[:3] or get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ";"
    listed = ", ".join(names[:40]) + (f", ... ({len(names)} in all)" if len(names) > 40 else "")
    return ValueError(f"unknown {kind} {name!r}{hint} known: {listed}")
