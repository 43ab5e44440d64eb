"""What went wrong, in one line: of ours, of Hydra, of the disk."""

from __future__ import annotations

import os
import re
import sys
import traceback

from attnguide.errors import InputError
from attnguide.runs.secrets import hide


class JobError(InputError):
    """What the user can mend, found by a job of a sweep."""


def report(error: Exception, where: str = "") -> None:
    """One readable line, or the whole traceback where that is of more use."""
    message = readable(error)
    if os.environ.get("HYDRA_FULL_ERROR") == "all" or message is None:
        traceback.print_exception(error)
    sys.stderr.write(hide(f"error: {message or repr(error)}{where}\n"))
    sys.stderr.flush()


def readable(error: BaseException) -> str | None:
    """One message for what a user can mend; None for what is a fault of the program.

    What our own code refuses, what the disk says, and what Hydra refuses are the user's to mend;
    errors from deep inside another library are not.
    """
    home = type(error).__module__.partition(".")[0]
    if home in ("hydra", "omegaconf"):
        return from_hydra(error)
    if home == "submitit" or isinstance(error, InputError):  # what sbatch said, or we
        return str(error).strip()
    if isinstance(error, OSError):
        return error.strerror if error.strerror and not error.filename else str(error)
    return None


def from_hydra(error: BaseException) -> str:
    """What was refused and what to do, of an error of Hydra or OmegaConf."""
    lines = [*str(error).splitlines(), *str(error.__cause__ or "").splitlines()]
    kept, key = [], ""
    for line in (line.strip() for line in lines):
        if line.startswith("Config search path"):
            break
        if line.startswith("full_key:"):
            key = line.removeprefix("full_key:").strip()
        elif line and not line.startswith(("object_type", "reference_type", "To append", "Key '")):
            kept.append(line)
    message = "\n  ".join(dict.fromkeys(kept))
    refused = re.match(r"Could not override '(.+)'", message)
    if refused:
        return (
            f"nothing that was chosen has the setting {refused[1]!r}; method=[NAME,NAME] chooses "
            "methods, experiment=NAME the settings of `runner`"
        )
    word = getattr(error, "override", None)
    if word is not None and word not in message:
        return (
            f"cannot read {word!r}: {message}; put quotes around the value, twice: KEY=\"'VALUE'\""
        )
    return f"{key}: {message}" if key and key not in message else message
