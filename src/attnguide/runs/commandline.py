"""Read the command line before Hydra does, and tell what is wrong with it in one message."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any, get_type_hints

from omegaconf import OmegaConf

from attnguide.config import Config
from attnguide.errors import InputError, unknown_name

# Settings that say where and how fast, not what: a run may be resumed with other values of these.
FREE = ("run_dir", "stage", "device", "batch_size", "logger", "data.workers", "data.shard")
# What in a config makes Hydra or logging call something, or fetch configs from elsewhere.
CALLS = ("_target_", "searchpath", '"()"', "'()'", "():")


class JobError(InputError):
    """What the user can mend, found by a job of a sweep."""


def _overrides(args: Sequence[str]) -> dict[str, str]:
    """Overrides by key, `+` and `~` dropped; flags and their values are left to Hydra.

    Raises:
        ValueError: a word that is no `key=value`.
    """
    found = {}
    for before, word in zip(["", *args], args, strict=False):
        key, equals, value = word.partition("=")
        if word.startswith("-") or (not equals and before.startswith("-")):
            continue
        if not equals and not word.startswith("~"):
            raise InputError(f"expected key=value, got {word!r}; see python run.py --help")
        found[key.lstrip("+~")] = value
    return found


def check_words(args: Sequence[str], conf: Path) -> bool:
    """Refuse unknown keys and choices, and everything that would run code from a config.

    Args:
        args: Words after `run.py`.
        conf: Folder of the configs.

    Returns:
        Whether anything is asked for.

    Raises:
        ValueError: the first wrong word, with the closest names; or no experiment.
    """
    given = _overrides(args)
    if not args:
        return False
    _check_folders(args)
    if not {"experiment", "stage"} & given.keys() and not any(word[0] == "-" for word in args):
        raise InputError(f"no experiment is named\n{list_experiments(conf)}")
    for key, value in given.items():
        for word in CALLS:
            if word in f"{key}={value}":
                raise InputError(f"{key}: `{word}` is not accepted; settings are names and numbers")
        if key.split("/")[0].split(".")[0] == "hydra":
            continue
        folder = conf / key
        if folder.is_dir():
            _check_choice(key, value, sorted(path.stem for path in folder.glob("*.yaml")))
        else:
            _check_key(key, conf)
    if given.get("rule", "null") != "null" and "method" in given:
        raise InputError(
            "rule and method name the same thing twice; pass one of them (rule=positive is "
            "method=gae)"
        )
    return True


def check_launcher(args: Sequence[str]) -> None:
    """Refuse a sweep on SLURM where none can be submitted.

    Raises:
        ValueError: not a sweep, no plugin, or no cluster.
    """
    given = _overrides(args)
    if given.get("hydra/launcher") != "slurm":
        return
    if not {"-m", "--multirun"} & set(args) and given.get("hydra.mode") != "MULTIRUN":
        raise InputError("hydra/launcher=slurm submits a sweep; add --multirun")
    if not find_spec("hydra_plugins") or not find_spec("hydra_plugins.hydra_submitit_launcher"):
        raise InputError("hydra/launcher=slurm needs a plugin; run pip install '.[slurm]'")
    if which("sbatch") is None:
        raise InputError(
            "hydra/launcher=slurm finds no SLURM here (no sbatch on PATH); run it on a login node, "
            "or leave hydra/launcher out to sweep on this machine"
        )


def _check_folders(args: Sequence[str]) -> None:
    """Refuse folders of configs from elsewhere that would make Hydra call or load something."""
    for number, word in enumerate(args):
        flag, equals, value = word.partition("=")
        if flag not in ("--config-dir", "-cd", "--config-path", "-cp"):
            continue
        folder = Path(value if equals else "".join(args[number + 1 : number + 2]))
        for path in sorted(folder.rglob("*.y*ml")):
            text = path.read_text(errors="replace")
            for call in CALLS:
                if call in text:
                    raise InputError(
                        f"{path} holds `{call}`, which would run code; configs hold names and "
                        "numbers only"
                    )


def list_experiments(conf: Path) -> str:
    """Name and first comment line of every experiment."""
    files = sorted((conf / "experiment").glob("*.yaml"))
    width = max((len(path.stem) for path in files), default=0)
    lines = [f"  {path.stem:<{width}}  {_headline(path)}" for path in files]
    return "\n".join(["Experiments, for python run.py experiment=NAME:", *lines])


def sweep_words(args: Sequence[str]) -> list[str]:
    """Where a sweep keeps its jobs, for Hydra: in `run_dir`, or beside the experiment's runs.

    It depends on the words alone, so that the same command goes on with what was interrupted.
    """
    given = _overrides(args)
    if not {"-m", "--multirun"} & set(args) or "hydra.sweep.dir" in given:
        return []
    experiment = given.get("experiment", "")
    beside = f"{experiment}/" if re.fullmatch(r"\w+", experiment) else ""
    return [f"hydra.sweep.dir={given.get('run_dir') or f'outputs/{beside}sweep'}"]


def folder_name(words: Sequence[str], number: int) -> str:
    """What one job of a sweep calls its folder: its settings, so that the same command finds it."""
    free = tuple(key + end for key in FREE for end in ("=", "."))
    named = sorted(word for word in words if not word.startswith(free))
    name = re.sub(r"(\.\.|[^\w=.,\[\]-])+", "_", ",".join(named))
    if len(name) > 120:
        name = f"{name[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name or str(number)


def readable(error: BaseException) -> str | None:
    """One message for what a user can mend; None for what is a fault of the program.

    What our own code refuses, what the disk says, and what Hydra refuses are the user's to mend;
    errors from deep inside another library are not.
    """
    home = type(error).__module__.partition(".")[0]
    if home in ("hydra", "omegaconf"):
        return _from_hydra(error)
    if home == "submitit" or isinstance(error, InputError):  # what sbatch said, or we
        return str(error).strip()
    if isinstance(error, OSError):
        return error.strerror if error.strerror and not error.filename else str(error)
    return None


def _from_hydra(error: BaseException) -> str:
    lines = [*str(error).splitlines(), *str(error.__cause__ or "").splitlines()]
    told, key = [], ""
    for line in (line.strip() for line in lines):
        if line.startswith("Config search path"):
            break
        if line.startswith("full_key:"):
            key = line.removeprefix("full_key:").strip()
        elif line and not line.startswith(("object_type", "reference_type", "To append", "Key '")):
            told.append(line)
    message = "\n  ".join(dict.fromkeys(told))
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


def _check_choice(key: str, value: str, known: list[str]) -> None:
    if re.search(r"[({$]", value):  # Hydra's own grammar, such as glob(*)
        return
    for name in value.strip("[]").split(","):
        if name.strip("'\" ") not in (*known, "null"):
            raise unknown_name(key, name.strip("'\" "), known)


def _check_key(key: str, conf: Path) -> None:
    known = set(_schema_keys(Config, ""))
    if key not in known:
        known.update(_yaml_keys(conf))
    if key in known:
        return
    parent = key
    while parent not in known:
        parent = parent.rpartition(".")[0]
        if not parent:
            break
    depth = len(parent) + 1 if parent else 0
    near = {
        name[depth:].split(".")[0] for name in known if name.startswith(parent and f"{parent}.")
    }
    wrong = key[depth:]
    if not near:
        raise InputError(f"unknown key {key!r}; {parent} has no settings")
    raise unknown_name(f"setting of {parent}" if parent else "key", wrong, sorted(near))


def _schema_keys(node: type, prefix: str) -> Iterator[str]:
    hints = get_type_hints(node)
    for entry in fields(node):
        yield prefix + entry.name
        kinds = [hints[entry.name], *getattr(hints[entry.name], "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and is_dataclass(kind):
                yield from _schema_keys(kind, f"{prefix}{entry.name}.")


def _yaml_keys(conf: Path) -> Iterator[str]:
    for path in conf.rglob("*.yaml"):
        group = path.parent.relative_to(conf).as_posix().replace("/", ".")
        everywhere = path.parent == conf or path.read_text().startswith("# @package _global_")
        if group.startswith("hydra"):
            continue
        yield from _leaves(OmegaConf.load(path), "" if everywhere else f"{group}.")


def _leaves(node: Any, prefix: str) -> Iterator[str]:
    for key in node if OmegaConf.is_dict(node) else ():
        if not prefix and key in ("defaults", "hydra"):
            continue
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            yield from _leaves(node[key], f"{prefix}{key}.")


def _headline(path: Path) -> str:
    for line in path.read_text().splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""
