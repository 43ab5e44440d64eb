"""The program behind `python run.py` and the command `attnguide`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from attnguide.runs import commandline, messages
from attnguide.runs.compose import plain, storable
from attnguide.runs.plugins import adopt
from attnguide.runs.secrets import hide_in_file

SWEPT = "ATTNGUIDE_SWEPT"  # keys with several values; launchers start jobs with words of their own
RUN_DIR = "ATTNGUIDE_RUN_DIR"  # for the processes of further devices; the default has the time
PACKAGE = Path(__file__).resolve().parents[1]
# Configs and experiments: inside an installed package, or beside `src` in a checkout.
HOME = PACKAGE / "home" if (PACKAGE / "home").is_dir() else PACKAGE.parents[1]
CONF = HOME / "conf"
failed: dict[str, str] = {}  # jobs of a sweep, and why; the others go on


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> None:
    """Hand the composed config over as plain values."""
    here = HydraConfig.get()
    sweep = here.mode is RunMode.MULTIRUN
    words = [word.lstrip("+~").partition("=")[0] for word in here.overrides.task]
    name = ""
    try:
        config = plain(cfg)
        if int(os.environ.get("LOCAL_RANK", 0)):  # of a further device: as the first one says
            config["run_dir"] = os.environ.get(RUN_DIR, config["run_dir"])
        os.environ[RUN_DIR] = config["run_dir"]
        run_dir = Path(config["run_dir"])
        if sweep:
            keys = set(os.environ.get(SWEPT, "").split())
            name = commandline.folder_name(here.overrides.task, here.job.num, keys)
            run_dir = Path(here.sweep.dir) / name
            hide_in_file(Path(here.sweep.dir) / "multirun.yaml")
        from attnguide.runs.lifecycle import run  # torch takes seconds, a wrong key should not

        adopt(HOME, commandline.plugins_of(here.overrides.task, CONF))
        run(config, words, run_dir.expanduser(), sweep=sweep, stored=storable(cfg))
    except Exception as error:
        if not sweep:
            messages.report(error)
            sys.exit(1)
        message = messages.readable(error)
        failed[name or str(here.job.num)] = message or repr(error)
        messages.report(error, f"\n  in job #{here.job.num} {' '.join(here.overrides.task)}")
        if message:
            raise messages.JobError(message) from error
        raise  # to the launcher, which collects errors


def run_all(args: list[str]) -> None:
    """Do what the words say; after a sweep over all figures, write their page."""
    asked = commandline.prepare(args, CONF)
    if asked is None:
        print(commandline.list_experiments(CONF))
        return
    sys.argv[1:] = asked
    os.environ[SWEPT] = " ".join(commandline.swept_keys(asked))
    folder = commandline.figures_folder(args, asked)
    try:
        job()
    finally:
        if folder is not None and folder.is_dir() and not int(os.environ.get("LOCAL_RANK", 0)):
            from attnguide.runs.aggregate import write_index

            print(f"Index  {write_index(folder, failed, 'All figures')}")


def main() -> None:
    """Do what the command line says, and exit with its status."""
    wanted = os.environ.get("HYDRA_FULL_ERROR")
    if "LOCAL_RANK" not in os.environ:
        os.environ["HYDRA_FULL_ERROR"] = "all" if wanted == "1" else "1"  # Hydra hands errors on
    try:
        run_all(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if failed:
            sys.exit(f"{len(failed)} of the sweep's jobs failed; the same command runs them again")
        messages.report(error)
        sys.exit(1)
