"""Where pixels come from: files with a cheap stamp, and a checksum of what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ABSENT = "absent"


@dataclass(frozen=True)
class Source:
    """A file that decides numbers; it can be pickled.

    Attributes:
        path: Absolute.
        read: What counts of it; all of it if absent.
    """

    path: str
    read: Callable[[], bytes] | None = None

    @property
    def stamp(self) -> str:
        """Size and times, which are cheap to ask for: alike, the content is alike."""
        return stamp(self.path)

    def content(self) -> str:
        """Checksum of what counts; `ABSENT` where nothing can be read."""
        try:
            data = Path(self.path).read_bytes() if self.read is None else self.read()
        except (OSError, ValueError):
            return ABSENT
        return checksum(data)


def stamp(path: str | Path) -> str:
    """Size, time of the content and time of the entry of a file; `ABSENT` where there is none."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return ABSENT
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def checksum(data: bytes | str) -> str:
    """Of bytes or text, hexadecimal."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]
