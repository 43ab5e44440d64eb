"""Read the command line before Hydra composes it, and say what is wrong with it in one line."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from attnguide.errors import InputError, command, unknown_name
from attnguide.runs.foreign import check_folder
from attnguide.runs.plugins import CONF, names_in, plugins_folder
from attnguide.runs.secrets import hide
from attnguide.runs.settings import FREE, NODES, RANK, SHARES, Settings

ALL_FIGURES = "all_figures"
PLUGINS = "plugins"
GLOBAL = "# @package _global_"
EMPTY = ("rule",)  # groups that may be null, which they are by default
# What in a config makes Hydra or logging call something, or fetch configs from elsewhere.
CALLS = ("_target_", "searchpath", '"()"', "'()'", "():")
OF_LIGHTNING = ("hydra.run.dir", "hydra.job.name", "hydra.output_subdir")  # for such processes
OF_HYDRA = r"hydra/launcher|hydra\.(launcher\.\w+(\.\w+)*|sweep\.dir|mode|verbose)"


def prepare(args: Sequence[str], conf: Path) -> list[str] | None:
    """The words for Hydra, after all that can be told from them was checked.

    Settings of objects get Hydra's `++`, so that those can be set that stand in no yaml.

    Args:
        args: Words after `run.py`.
        conf: Folder of the configs.

    Returns:
        None where nothing is asked for.

    Raises:
        ValueError: the first wrong word, with the closest names; or no experiment.
    """
    if not args:
        return None
    flags, given = _parse(args)
    plugins = plugins_of(args, conf)
    _check_flags(flags, conf, plugins)
    places = [conf, *([Path(flags.config_dir)] if flags.config_dir else [])]
    if plugins is not None:
        places = [conf, plugins / CONF]
        check_folder(places[1], names_in(plugins))
    asked = {override.key_or_group for override in given}
    if not {"experiment", "stage"} & asked and given:
        raise InputError(f"no experiment is named\n{list_experiments(*places)}")
    for override in given:
        _check(override, places)
    if "method" in asked and any(o.key_or_group == "rule" and o.value() for o in given):
        raise InputError(
            "rule and method name the same thing twice; pass one of them (rule=positive is "
            "method=gae)"
        )
    _check_launcher(given, multirun=flags.multirun)
    words = list(args)
    for override in given:  # behind all flags, where Hydra wants them
        line = str(override.input_line)
        words.remove(line)
        if override.key_or_group in EMPTY and override.value() is None:
            continue  # Hydra has no word for it
        if override.key_or_group == PLUGINS:
            line = f"++{PLUGINS}='{plugins}'"
        made = override.key_or_group.split(".")[0] in NODES and "." in override.key_or_group
        words.append(f"++{line}" if made and line[0] not in "+~" else line)
    if plugins is not None and flags.config_dir is None:
        words.insert(0, f"--config-dir={plugins / CONF}")
    return sorted(words + _sweep_words(given, places, multirun=flags.multirun), key=_is_multirun)


def _is_multirun(word: str) -> bool:
    """Sorts the flag to the front."""
    return word != "--multirun"


def plugins_of(args: Sequence[str], conf: Path) -> Path | None:
    """The folder that the words name by `plugins=PATH`.

    Raises:
        ValueError: several of them, or one that is not such a folder.
    """
    named = [o for o in _parse(args)[1] if o.key_or_group == PLUGINS and o.value() is not None]
    if len(named) > 1 or any(override.is_sweep_override() for override in named):
        raise InputError("plugins takes one folder; put what is yours into one")
    return plugins_folder(str(named[0].value()), conf) if named else None


def _parse(args: Sequence[str]) -> tuple[Any, list[Override]]:
    """Hydra's flags, and the overrides."""
    flags = get_args_parser().parse_intermixed_args(list(args))
    for word in flags.overrides:
        if "=" not in word and not word.startswith("~"):
            raise InputError(f"expected key=value, got {word!r}; see {command()} --help")
    return flags, OverridesParser.create().parse_overrides(flags.overrides)


def _check_flags(flags: Any, conf: Path, plugins: Path | None) -> None:
    """Refuse flags of Hydra's that would run what a file says."""
    if flags.experimental_rerun is not None:
        raise InputError("--experimental-rerun is not accepted: it would run what a file says")
    if plugins is not None and flags.config_dir == str(plugins / CONF):
        return  # of the process of a further device
    if plugins is not None and flags.config_dir is not None:
        raise InputError("plugins and --config-dir both bring configs; put them into one folder")
    for folder in filter(None, (flags.config_dir, flags.config_path)):
        if "://" in folder:
            raise InputError(f"{folder} is not accepted; configs are read from folders")
        found = [path for path in (Path(folder), conf.parent / folder) if path.is_dir()]
        if not found:
            raise InputError(f"there is no folder of configs {folder!r}; pass its whole path")
        for path in found:  # Hydra looks from either
            if path.resolve() != conf.resolve():
                check_folder(path)


def _check(override: Override, places: Sequence[Path]) -> None:
    key, line = override.key_or_group, str(override.input_line)
    for word in CALLS:
        if word in line:
            raise InputError(f"{key}: `{word}` is not accepted; settings are names and numbers")
    if key.split("/")[0].split(".")[0] == "hydra":
        if RANK in os.environ and key in OF_LIGHTNING:
            return
        if not re.fullmatch(OF_HYDRA, key) or "${" in line:
            raise InputError(
                f"{key} is not accepted: of Hydra's own settings only launcher, sweep.dir, mode "
                "and verbose are"
            )
        return
    folders = [place / key for place in places if (place / key).is_dir()]
    if folders:
        files = {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
        _check_choice(key, line.partition("=")[2], files)
    else:
        _check_key(key)


def _check_choice(key: str, value: str, known: Mapping[str, Path]) -> None:
    if re.search(r"[({$]", value):  # Hydra's own grammar, such as glob(*)
        return
    names = [name.strip("'\" ") for name in value.strip("[]").split(",")]
    for name in names:
        if name not in known and not (names == ["null"] and key in EMPTY):
            raise unknown_name(key, name, sorted(known))
        if key == "experiment" and name in known:
            lines = known[name].read_text(encoding="utf-8").splitlines() or [""]
            if lines[0].strip() != GLOBAL:
                raise InputError(
                    f"{known[name]} must begin with the line `{GLOBAL}`, and does with "
                    f"{lines[0]!r}; without it Hydra puts its settings where nobody reads them"
                )


def _check_key(key: str) -> None:
    """Refuse unknown settings; those of objects are checked where these are made."""
    first, _, rest = key.partition(".")
    plain = [entry.name for entry in fields(Settings) if entry.name not in SHARES]
    if first not in (*plain, *NODES):
        raise unknown_name("key", first, sorted([*plain, *NODES]))
    if rest and first in plain:
        raise InputError(f"unknown key {key!r}; {first} has no settings")


def _check_launcher(given: Sequence[Override], *, multirun: bool) -> None:
    """Refuse a sweep on SLURM where none can be submitted."""
    chosen = {override.key_or_group: override.value() for override in given}
    if chosen.get("hydra/launcher") != "slurm":
        return
    if not multirun and chosen.get("hydra.mode") != "MULTIRUN":
        raise InputError("hydra/launcher=slurm submits a sweep; add --multirun")
    if not find_spec("hydra_plugins") or not find_spec("hydra_plugins.hydra_submitit_launcher"):
        raise InputError("hydra/launcher=slurm needs a plugin; run pip install '.[slurm]'")
    if which("sbatch") is None:
        raise InputError(
            "hydra/launcher=slurm finds no SLURM here (no sbatch on PATH); run it on a login node, "
            "or leave hydra/launcher out to sweep on this machine"
        )


def _sweep_words(given: Sequence[Override], places: Sequence[Path], *, multirun: bool) -> list[str]:
    """Where a sweep keeps its jobs, for Hydra: in `run_dir`, or beside the experiment's runs.

    It depends on the words alone, so that the same command goes on with what was interrupted.
    `experiment=all_figures` is a sweep over all figures.
    """
    chosen = {override.key_or_group: override for override in given}
    experiment = chosen["experiment"].value() if "experiment" in chosen else ""
    words = []
    if experiment == ALL_FIGURES:
        names = sorted(p.stem for conf in places for p in (conf / "experiment").glob("fig*.yaml"))
        words = [*([] if multirun else ["--multirun"]), f"experiment={','.join(names)}"]
    elif not multirun:
        return []
    if "hydra.sweep.dir" in chosen:
        return words
    named = str(chosen["run_dir"].input_line).partition("=")[2] if "run_dir" in chosen else ""
    beside = f"{experiment}/" if re.fullmatch(r"\w+", str(experiment)) else ""
    folder = named or (f"outputs/{ALL_FIGURES}" if words else f"outputs/{beside}sweep")
    return [*words, f"hydra.sweep.dir={folder}"]


def figures_folder(args: Sequence[str], words: Sequence[str]) -> Path | None:
    """Where the sweep over all figures lies, if that is what was asked for.

    Args:
        args: Words after `run.py`.
        words: What `prepare` made of them.
    """
    _, given = _parse(args)
    if not any(o.key_or_group == "experiment" and o.value() == ALL_FIGURES for o in given):
        return None
    _, made = _parse(words)
    [folder] = [str(o.value()) for o in made if o.key_or_group == "hydra.sweep.dir"]
    return Path(folder).expanduser()


def swept_keys(args: Sequence[str]) -> set[str]:
    """Keys that have several values on the command line."""
    _, given = _parse(args)
    return {override.key_or_group for override in given if override.is_sweep_override()}


def folder_name(words: Sequence[str], number: int, swept: set[str]) -> str:
    """What one job of a sweep calls its folder: its settings, so that the same command finds it.

    Args:
        words: The job's overrides.
        number: Of the job, for a name where nothing else is left.
        swept: Keys that differ between jobs; these are always named.
    """
    named = []
    for word in sorted(hide(word.lstrip("+")) for word in words):
        key = word.partition("=")[0]
        if key in swept or not key.startswith(FREE):
            named.append(word)
    experiments = [word for word in named if word.startswith("experiment=")]
    if swept == {"experiment"} and len(experiments) == 1 and len(named) == 1:
        named = [experiments[0].removeprefix("experiment=")]
    name = re.sub(r"(\.\.|[^\w=.,\[\]-])+", "_", ",".join(named))
    if len(name) > 120:
        name = f"{name[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name or str(number)


def list_experiments(*folders: Path) -> str:
    """Name and first comment line of every experiment of these folders of configs."""
    files = sorted(path for conf in folders for path in (conf / "experiment").glob("*.yaml"))
    width = max((len(path.stem) for path in files), default=0)
    lines = [f"  {path.stem:<{width}}  {_headline(path)}" for path in files]
    return "\n".join([f"Experiments, for {command()} experiment=NAME:", *lines])


def _headline(path: Path) -> str:
    for line in path.read_text().splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""
