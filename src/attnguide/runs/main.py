"""The program behind `python run.py` and the command `attnguide`: Hydra composes, then it runs."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
import traceback
import webbrowser
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from attnguide.errors import InputError, command, unknown_name
from attnguide.runs.settings import CONF as CONF
from attnguide.runs.settings import HOME, METHODS, NOT_COMPARED, default_settings, hide
from attnguide.store.files import write_atomic
from attnguide.store.folder import FAILED

ALL_FIGURES = ["--multirun", "experiment=glob(fig*)"]  # what experiment=all_figures stands for
GENERAL = "corrected_rollout"  # gae, complete, absolute and rollout are this method with a rule
LONGEST = 120  # letters of a folder's name
WHOLE = "ATTNGUIDE_FULL_ERROR"  # what the user set HYDRA_FULL_ERROR to
LAUNCHERS = ("submitit", "hydra", "hydra_plugins", "optuna")  # what they refuse, they say
# What agents of sweeps write before key=value, and Hydra does not take; it has flags of its own
DASHES = re.compile(r"^--(?!(cfg|info|package)=)(?=[\w.@/]+=)")
sweeps: list[Path] = []  # the folder of the sweep that this process has begun
failed: list[str] = []  # why jobs failed that this process has reported; the others go on


def fixed(words: Sequence[str]) -> dict[str, str]:
    """Overrides of a sweep that are the same in all jobs, by their key, but for Hydra's own."""
    overrides = [word for word in words if re.match(r"~|[^-].*=", word)]  # the others are flags
    found = OverridesParser.create().parse_overrides(overrides)
    own = {o.key_or_group: str(o.input_line) for o in found if not o.is_sweep_override()}
    return {key: line for key, line in own.items() if not re.match("hydra[./]", key)}


def sweep_dir(run_dir: Any, experiment: Any, words: Sequence[str]) -> str:
    """Folder of a sweep: it depends on the command alone, so that the same command resumes it.

    Args:
        run_dir: The user's; None for one named by what all jobs share.
        experiment: None where there are several.
        words: Overrides of the sweep.
    """
    if isinstance(run_dir, str):
        return str(Path(run_dir).expanduser())
    left = ("experiment", *NOT_COMPARED)
    same = [line for key, line in fixed(words).items() if not key.startswith(left)]
    name = job_dir(",".join(["sweep", *same]), 0)
    return f"outputs/{name}" if experiment is None else f"outputs/{experiment}/{name}"


def job_dir(overrides: str, number: Any) -> str:
    """Folder of one job of a sweep: what is swept, with a digest where this is no file name.

    Args:
        overrides: Hydra's `override_dirname`.
        number: Of the job, for a job without overrides.
    """
    overrides = hide(overrides)
    if re.fullmatch(r"experiment=\w+", overrides):
        return overrides.removeprefix("experiment=")
    name = re.sub(r"[^\w=.,\[\]+-]+", "_", overrides)
    if name != overrides or len(name) > LONGEST or name.startswith("."):
        digest = hashlib.sha256(overrides.encode()).hexdigest()[:8]
        name = f"{name[: LONGEST - 20].lstrip('.')}-{digest}"
    return name or str(number)


def _register(*folders: Path) -> None:
    """Make known what stands in no yaml: defaults, folders of sweeps, `method=all`, own modules.

    The current folder comes last on the path, so that a module there shadows no library.
    """
    sys.path += [folder for folder in (str(HOME), os.getcwd()) if folder not in sys.path]
    names = {path.stem for folder in folders for path in (folder / "method").glob("*.yaml")}
    others = sorted(names - {*METHODS, GENERAL})
    store = ConfigStore.instance()
    store.store("settings", default_settings())
    store.store("all", {"defaults": [*METHODS, *others]}, group="method")
    OmegaConf.register_new_resolver("sweep_dir", sweep_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("job_dir", job_dir, replace=True)


_register(CONF)


def as_values(cfg: DictConfig) -> dict[str, Any]:
    """The composed config as plain values.

    Raises:
        OmegaConfBaseException: an interpolation that leads nowhere.
    """
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def as_stored(cfg: DictConfig) -> dict[str, Any]:
    """The same for records: `${oc.env:NAME}` stays as it is written, secrets are blotted."""

    def text(*args: Any) -> str:
        return f"${{oc.env:{','.join('null' if arg is None else str(arg) for arg in args)}}}"

    OmegaConf.register_new_resolver("oc.env", text, replace=True)
    try:
        return dict(hide(as_values(cfg)))
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


class SweepEnd(Callback):
    """Hydra's callback that says where a sweep lies, for the page that is written at its end."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Keep the folder."""
        sweeps.append(Path(config.hydra.sweep.dir))


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> float | None:
    """One run; what it returns is for sweepers that optimise."""
    here = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(here.overrides.task, resolve=False)
    sweep, reason = here.mode is RunMode.MULTIRUN, None
    try:
        run_dir = _run_dir(cfg)
        reason = run_dir / FAILED if sweep or "WANDB_SWEEP_ID" in os.environ else None
        if reason:
            reason.unlink(missing_ok=True)
        return _run(cfg, list(map(str, overrides)), run_dir)
    except Exception as error:
        message = readable(error)
        failed.append(message or repr(error))
        report(error, f"\n  in job #{here.job.num} {' '.join(overrides)}" if sweep else "")
        if reason:
            reason.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(reason, hide(message or repr(error)).encode())
        if not sweep:
            sys.exit(1)
        if message:
            raise InputError(message) from None  # can be sent from a launcher's process
        raise


def _run_dir(cfg: DictConfig) -> Path:
    """Where the run goes."""
    here = HydraConfig.get()
    if here.mode is RunMode.MULTIRUN:
        return Path(here.sweep.dir) / here.sweep.subdir
    if cfg.run_dir or here.run.dir != ".":
        return Path(cfg.run_dir or here.runtime.output_dir).expanduser()
    home, now = Path("outputs") / str(cfg.experiment), f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    names = (f"{now}-{number}" if number else now for number in count())
    return next(home / name for name in names if not (home / name).exists())


def _run(cfg: DictConfig, overrides: Sequence[str], run_dir: Path) -> float | None:
    here = HydraConfig.get()
    config, stored = as_values(cfg), as_stored(cfg)
    if config["experiment"] is None and config["stage"] in ("run", "check"):
        raise InputError(f"no experiment is named; pass experiment=NAME ({command()} lists them)")
    sweep = here.mode is RunMode.MULTIRUN
    if sweep:
        _hide_in(Path(here.sweep.dir) / "multirun.yaml")
    config["run_dir"] = stored["run_dir"] = str(run_dir)
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    if "torch" not in sys.modules:  # which takes seconds, a wrong key should not
        print("loading PyTorch ...", flush=True)
    from attnguide.runs.run import run

    run(config, keys, run_dir, sweep=sweep, stored=stored)
    return objective(run_dir, config["objective"])


def _hide_in(path: Path) -> None:
    """Take secrets out of what Hydra wrote."""
    if path.is_file() and not path.is_symlink():
        text = path.read_text(errors="surrogateescape")
        if hide(text) != text:
            write_atomic(path, hide(text).encode(errors="surrogateescape"))


def objective(run_dir: Path, name: str | None) -> float | None:
    """A number of a run's `summary.csv`; None where there is none.

    Args:
        run_dir: Of the run.
        name: Neighbouring words of the row joined by dots, `complete.negative.accuracy`; None: the
            first row.

    Raises:
        ValueError: no row with these words.
    """
    path = run_dir / "summary.csv"
    if not path.is_file():
        return None
    import pandas as pd

    table = pd.read_csv(path, keep_default_na=False, na_values=[""])  # a class may be "NA"
    texts = table.select_dtypes(exclude="number").fillna("").astype(str)
    rows = [".".join(filter(None, row)) for row in texts.itertuples(index=False)]
    named = table[[name is None or f".{name}." in f".{row}." for row in rows]]
    if named.empty:
        known = ", ".join(sorted(rows)[:12])
        raise InputError(f"objective={name} names no row of {path}; rows: {known}")
    numbers = named.drop(columns=texts.columns)
    return float(numbers[next(n for n in ("auc", "value", *numbers) if n in numbers)].iloc[0])


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
        key, owner = (str(getattr(cause, name, "")) for name in ("key", "full_key"))
        owner = owner.rpartition(".")[0]
        names = sorted(str(name) for name in node if str(name)[0] != "_")
        if owner == "guide" and not names:
            return f"guide=none has no {key}; add guide=right"
        hint = "; +KEY=VALUE adds one" if owner else ""
        if owner and key in default_settings():
            hint = f"; {key} is set by itself: {key}=VALUE"
        return f"{unknown_name(f'setting of {owner}' if owner else 'key', key, names)}{hint}"
    if isinstance(error, OverrideParseException):
        return _quoted(str(error.override), str(error))
    lines = [*str(error).splitlines(), *str(cause or "").splitlines()]
    kept = [line.strip() for line in lines if line.strip()]
    return "\n  ".join(dict.fromkeys(kept))


def _quoted(override: str, message: str) -> str:
    """How to write what Hydra's grammar cannot read, such as umlauts and signs."""
    key, sign, value = override.partition("=")
    if not sign:
        return f"cannot read {override!r}; write {key}=VALUE"
    if value[:1] in ("[", "{"):
        return f"cannot read {override!r}: {message.splitlines()[0]}"
    right = f"'{key}=\"{value}\"'" if "'" not in value else f'"{key}=\\"{value}\\""'
    return f"cannot read {override!r}; quote the value for the shell and for Hydra: {right}"


def view(run_dir: Path) -> None:
    """Open the page of a run, or of many, in the browser, and say where it lies.

    Raises:
        ValueError: no page there.
    """
    for name in ("report.html", "aggregate.html", "index.html"):
        page = run_dir.expanduser().resolve() / name
        if page.is_file():
            print(page)
            webbrowser.open(page.as_uri())
            return
    raise InputError(f"{run_dir} has no page; pass the folder of a run: {command()} view DIR")


def _end_sweep(folder: Path) -> None:
    """Write the page of a sweep; say which jobs failed, and what comes next."""
    if not [path for name in ("config.yaml", FAILED) for path in folder.glob(f"*/{name}")]:
        return
    from attnguide.runs.aggregate import write_index

    print("Index ", write_index(folder, "All runs of a sweep"))
    print(f"Compare {command()} stage=aggregate run_dir={shlex.quote(str(folder))}")
    if names := sorted(path.parent.name for path in folder.glob(f"*/{FAILED}")):
        told = ", ".join(map(shlex.quote, names))
        print(f"{len(names)} of the sweep's jobs failed: {told}; the same command runs them again")


def main() -> None:
    """Do what the command line says, and exit with its status."""
    os.environ.setdefault(WHOLE, os.environ.get("HYDRA_FULL_ERROR", ""))  # what the user wants
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises its errors
    try:
        _main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not failed:
            report(error)
        sys.exit(1)
    finally:
        for folder in sweeps[-1:]:
            _end_sweep(folder)


def _main(args: list[str]) -> None:
    if not args:
        print(list_experiments(CONF))
    elif args == ["--version"]:
        print("attnguide", version("attnguide"))
    elif args[0] == "view":
        view(Path(*args[1:]))
    elif args in (["-m"], ["--multirun"]):
        raise InputError(f"{args[0]} sweeps over values; add experiment=NAME method=gae,complete")
    else:
        words = [DASHES.sub("", arg) for arg in args]
        if (every := "experiment=all_figures") in words:
            others = [word for word in words if word not in (every, "-m", *ALL_FIGURES)]
            if not any(word.startswith(("run_dir=", "hydra.sweep.dir=")) for word in others):
                others.append("hydra.sweep.dir=outputs/all_figures")
            words = [*ALL_FIGURES, *others]
        parser = ArgumentParser(add_help=False)
        parser.add_argument("--config-dir", "-cd", type=Path)
        parser.add_argument("--multirun", "-m", action="store_true")
        flags, others = parser.parse_known_args(words)
        if flags.multirun:  # a job's folder is named by what is swept
            same = ",".join([*fixed(others), "run_dir", "stage"])
            words.append(f"hydra.job.config.override_dirname.exclude_keys=[{same}]")
        sys.argv[1:] = words
        _register(*filter(None, (CONF, flags.config_dir)))
        job()
