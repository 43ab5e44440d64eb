"""Run an experiment: python run.py experiment=NAME key=value ...; alone, it lists them."""

import os
import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from attnguide.config import Config, check
from attnguide.runs.commandline import (
    JobError,
    check_launcher,
    check_words,
    folder_name,
    list_experiments,
    readable,
    sweep_words,
)

CONF = Path(__file__).parent / "conf"
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"
failed: list[str] = []  # jobs of a sweep; the others go on
ConfigStore.instance().store("schema", node=Config)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Check the config, then hand it over as plain objects."""
    job = HydraConfig.get()
    sweep = job.mode is RunMode.MULTIRUN
    try:
        config = check(OmegaConf.to_object(cfg))
        run_dir = Path(config.run_dir)
        if sweep:
            run_dir = Path(job.sweep.dir) / folder_name(job.overrides.task, job.job.num)
        from attnguide.runs.lifecycle import run  # torch takes seconds, a wrong key should not

        run(config, run_dir, sweep=sweep)
    except Exception as error:
        if not sweep:
            tell(error)
        report_job(error, f"#{job.job.num} {' '.join(job.overrides.task)}")
        if message := readable(error):
            raise JobError(message) from error
        raise  # to the launcher, which collects errors


def report_job(error: Exception, job: str) -> None:
    """Say at once which job of a sweep failed, and why."""
    failed.append(job)
    message = readable(error)
    if FULL_ERROR or message is None:
        traceback.print_exception(error)
        message = repr(error)
    print(f"error: {message}\n  in job {job}", file=sys.stderr, flush=True)


def tell(error: Exception) -> None:
    """End with one readable line, or with the whole traceback where that is of more use."""
    message = readable(error)
    if FULL_ERROR or message is None:
        raise error
    sys.exit(f"error: {message}")


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on to us
    try:
        if check_words(sys.argv[1:], CONF):
            check_launcher(sys.argv[1:])
            sys.argv += sweep_words(sys.argv[1:])
            main()
        else:
            print(list_experiments(CONF))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if failed:
            sys.exit(f"{len(failed)} of the sweep's jobs failed; the same command runs them again")
        tell(error)
