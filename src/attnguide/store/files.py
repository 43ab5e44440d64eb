"""Files that are whole or absent, tables for spreadsheets, locks that no crash leaves behind."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnguide.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute
_locks: set[int] = set()


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
            f"cannot write {path} ({error.strerror}); what was stored before is complete: mend "
            "this and run the same command again",
        ) from error


def subfolder(run_dir: Path, name: str) -> Path:
    """A folder of the run, made where it is not there.

    Raises:
        ValueError: a link, through which files elsewhere would be written.
    """
    folder = run_dir / name
    if folder.is_symlink():
        raise InputError(
            f"{folder} is a link, and a run writes nowhere but in its folder; remove the link, or "
            "pass another run_dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_links(run_dir: Path) -> None:
    """Refuse a run folder that holds links, through which files elsewhere would be written.

    The folder itself may be one: it is what the user named.

    Raises:
        ValueError: the first link.
    """
    folders = [run_dir, *(run_dir / name for name in ("parts", "training"))]
    for folder in (folder for folder in folders if folder.is_dir()):
        for entry in folder.iterdir():
            if entry.is_symlink():
                raise InputError(
                    f"{entry} is a link, and a run writes nowhere but in its folder; remove "
                    "the link, or pass another run_dir"
                )


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


def take_lock(path: Path, what: str) -> int:
    """The open lock file of a thing that one process may write; the kernel frees a dead owner's.

    Raises:
        ValueError: another process has it.
        OSError: the file system keeps no locks, or is full.
    """
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    except BlockingIOError:
        owner = os.read(lock, 200).decode(errors="replace") or "another process"
        os.close(lock)
        raise InputError(
            f"{what} is being written by {owner}; wait for it, stop it, or choose another run_dir"
        ) from None
    except OSError as error:
        os.close(lock)
        raise OSError(
            error.errno,
            f"cannot lock {path} ({error.strerror}); choose a run_dir on a file system with space "
            "and locks (Lustre has locks when mounted with -o flock)",
        ) from error
    _locks.add(lock)
    return lock


def _open_lock(path: Path) -> int:
    """The lock file, never another one through a link."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if path.is_symlink():
            raise InputError(f"{path} is a link, not a lock of ours; remove it") from None
        raise OSError(
            error.errno, f"cannot open {path} ({error.strerror}); choose another run_dir"
        ) from error
    if os.fstat(lock).st_nlink > 1:
        os.close(lock)
        raise InputError(f"{path} is another file under a second name; remove it") from None
    return lock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process is inside."""
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def release_lock(lock: int) -> None:
    """Let the next one write."""
    _locks.discard(lock)
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def _close_in_child() -> None:
    """A forked data worker must not keep the lock of an owner that was killed."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_close_in_child)
