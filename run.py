"""Run an experiment: python run.py experiment=NAME key=value ...; alone, it lists them."""

import os
import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from attnguide.commandline import check_words, folder_name, list_experiments, readable
from attnguide.config import Config, check

CONF = Path(__file__).parent / "conf"
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"
ConfigStore.instance().store("schema", node=Config)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Check the config, then hand it over as plain objects."""
    try:
        config = check(OmegaConf.to_object(cfg))
        job = HydraConfig.get()
        run_dir = Path(config.run_dir)
        if job.mode is RunMode.MULTIRUN:
            run_dir /= folder_name(job.overrides.task, job.job.num)
        from attnguide.runner.lifecycle import run  # torch takes seconds, a wrong key should not

        run(config, run_dir)
    except Exception as error:
        if "SUBMITIT_EXECUTOR" in os.environ:  # the launcher collects errors itself
            raise
        tell(error)


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
            main()
        else:
            print(list_experiments(CONF))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        tell(error)
