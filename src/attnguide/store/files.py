"""Files that are whole or absent, their checksums, csv, and locks that no crash leaves behind."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from attnguide.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
ABSENT = "absent"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute
# Data workers of a killed owner hold its lock until they notice, which takes them 5 seconds.
WAIT_S = 10.0


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file completely or not at all, also when the machine stops in between.

    Raises:
        OSError: what the disk said, and what to do.
    """
    temporary = path.with_name(f".{path.name[:100]}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a process that had this number before
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"cannot write {path} ({error.strerror}); earlier results are intact: fix this and "
            "run the same command again",
        ) from error


def read_json(path: Path, kind: TypeAdapter[T]) -> T:
    """What a file holds, which may come from somebody else.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else than the kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        return kind.validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        where = "".join(f"{place}: " for place in fault["loc"])
        raise InputError(f"{path} is damaged ({where}{fault['msg']})") from None


def checksum(data: bytes | str) -> str:
    """Of bytes or text, hexadecimal."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


def stamp(path: str | Path) -> str:
    """Size, time of the content and time of the entry of a file; `ABSENT` where there is none."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return ABSENT
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


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
            return checksum(Path(self.path).read_bytes() if self.read is None else self.read())
        except (OSError, ValueError):
            return ABSENT


def csv_bytes(table: pd.DataFrame) -> bytes:
    """The table as the content of a csv file in which no text is a formula.

    Text that a spreadsheet would compute gets an apostrophe before it; numbers stay as they are.
    """
    safe = table.rename(columns=_as_text)
    for place, kind in enumerate(table.dtypes):
        if kind.kind not in "biufcmM":
            safe.isetitem(place, [_as_text(value) for value in table.iloc[:, place]])
    return safe.to_csv(index=False).encode()


def _as_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


@contextmanager
def locked(path: Path, what: str, wait_s: float | None = None) -> Iterator[None]:
    """Hold the lock of what one process at a time may write.

    The kernel releases the lock of a process that has ended in any way. The file holds the owner's
    name, for messages.

    Args:
        path: Of the lock file.
        what: Is locked, for messages.
        wait_s: Seconds to wait for another owner; by default `WAIT_S`.

    Raises:
        ValueError: another process still has it.
        OSError: the file system has no locks, or is full.
    """
    deadline = time.monotonic() + (WAIT_S if wait_s is None else wait_s)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    owner = os.read(lock, 200).decode(errors="replace") or "another process"
                    raise InputError(
                        f"{what} is being written by {owner}; wait for it, stop it, or choose "
                        "another run_dir"
                    ) from None
                time.sleep(0.1)
        os.truncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot lock {path} ({error.strerror}); choose a run_dir on a file system with space "
            "and locks (NFS needs its lock service, Lustre the mount option flock)",
        ) from error
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)  # also where a data worker still holds a copy of the file
        os.close(lock)
