"""What went wrong, in one line: of ours, of Hydra, of the disk."""

from __future__ import annotations

import os
import sys
import traceback

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from attnguide.errors import InputError, unknown_name
from attnguide.runs.secrets import hide
from attnguide.runs.settings import CONF

WHOLE = "ATTNGUIDE_FULL_ERROR"  # what the user set HYDRA_FULL_ERROR to
LAUNCHERS = ("submitit", "hydra", "hydra_plugins", "optuna")  # what they refuse, they say


def take_over() -> None:
    """Let Hydra raise its errors, and remember whether the user wants its tracebacks."""
    os.environ.setdefault(WHOLE, os.environ.get("HYDRA_FULL_ERROR", ""))
    os.environ["HYDRA_FULL_ERROR"] = "1"


def report(error: Exception, where: str = "") -> None:
    """One readable line, or the whole traceback where that is of more use."""
    message = readable(error)
    if os.environ.get(WHOLE) == "1" or message is None:
        traceback.print_exception(error)
    sys.stderr.write(hide(f"error: {message or repr(error)}{where}\n"))
    sys.stderr.flush()


def readable(error: BaseException) -> str | None:
    """One message for what a user can mend; None for what is a fault of the program.

    What our own code refuses, what the disk says, and what Hydra and its launchers refuse are the
    user's to mend; errors from deep inside another library are not.
    """
    if isinstance(error, InputError):
        return str(error).strip()
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _of_hydra(error)
    if isinstance(error, OSError):
        return error.strerror if error.strerror and not error.filename else str(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_by = str(frames[-1].f_globals.get("__name__")).partition(".")[0] if frames else ""
    return str(error).strip() if raised_by in LAUNCHERS else None


def _of_hydra(error: BaseException) -> str:
    """What was refused, and the closest names that there are."""
    if isinstance(error, MissingConfigException) and "/" in str(error.missing_cfg_file):
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        ours = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        return str(unknown_name(group, name, error.options or ours))
    cause = error.__cause__
    node = getattr(cause, "parent_node", None)
    if isinstance(error, ConfigCompositionException) and isinstance(node, DictConfig):
        owner = str(getattr(cause, "full_key", "")).rpartition(".")[0]
        names = sorted(str(name) for name in node if str(name)[0] != "_")
        kind, hint = (f"setting of {owner}", "; +KEY=VALUE adds one") if owner else ("key", "")
        return f"{unknown_name(kind, getattr(cause, 'key', ''), names)}{hint}"
    lines = [*str(error).splitlines(), *str(cause or "").splitlines()]
    kept = [line.strip() for line in lines if line.strip()]
    message = "\n  ".join(dict.fromkeys(kept))
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: {message}"
    return message
