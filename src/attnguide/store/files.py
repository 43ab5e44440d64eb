"""Files that are whole or absent, tables for spreadsheets, locks that no crash leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnguide.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

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


def subfolder(run_dir: Path, name: str) -> Path:
    """A folder of the run, made where it is not there.

    Raises:
        ValueError: a link, through which files elsewhere would be written.
    """
    folder = run_dir / name
    if folder.is_symlink():
        raise InputError(
            f"{folder} is a link, and a run writes only inside its own folder; remove the link, or "
            "pass another run_dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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


def take_lock(path: Path, what: str, wait_s: float = WAIT_S) -> int:
    """The open lock file of what one process at a time may write.

    The kernel releases the lock of a process that has ended in any way. The file holds the owner's
    name, for messages.

    Args:
        path: Of the lock file.
        what: Is locked, for messages.
        wait_s: Seconds to wait for another owner.

    Raises:
        ValueError: another process still has it.
        OSError: the file system has no locks, or is full.
    """
    deadline = time.monotonic() + wait_s
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        while not _is_locked(lock):
            if time.monotonic() > deadline:
                owner = os.read(lock, 200).decode(errors="replace") or "another process"
                os.close(lock)
                raise InputError(
                    f"{what} is being written by {owner}; wait for it, stop it, or choose another "
                    "run_dir"
                )
            time.sleep(0.1)
        os.truncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot lock {path} ({error.strerror}); choose a run_dir on a file system with space "
            "and locks (NFS needs its lock service, Lustre the mount option flock)",
        ) from error
    return lock


def _is_locked(lock: int) -> bool:
    """Whether this process got the lock."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def release_lock(lock: int) -> None:
    """Let the next process write, also where a data worker still holds a copy of the file."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock for a moment; wait for others as long as they may need."""
    lock = take_lock(path, what, wait_s=60.0)
    try:
        yield
    finally:
        release_lock(lock)
