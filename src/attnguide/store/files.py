"""Files that are whole or absent, and locks that a crash does not leave behind."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from attnguide.errors import InputError

_locks: set[int] = set()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file completely or not at all, also when the machine stops in between.

    Raises:
        OSError: what the disk said, and what to do.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
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


def take_lock(path: Path, what: str) -> int:
    """The open lock file of a thing that one process may write; the kernel frees a dead owner's.

    Raises:
        ValueError: another process has it.
        OSError: the file system keeps no locks, or is full.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
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
