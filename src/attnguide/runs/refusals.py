"""What keeps a run from beginning: faults told all at once, and several tasks of one allocation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from attnguide.errors import InputError


class Faults:
    """What cannot work, gathered so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Errors that a user can mend are kept; others are raised."""
        try:
            yield
        except (InputError, OSError) as error:
            self.found.append(str(error))

    def tell(self) -> None:
        """Raise them all as one.

        Raises:
            ValueError: there are some.
        """
        if len(self.found) == 1:
            raise InputError(self.found[0])
        if self.found:
            lines = "".join(f"\n  {number}. {why}" for number, why in enumerate(self.found, 1))
            raise InputError(f"{len(self.found)} things cannot work:{lines}")


def check_allocation() -> None:
    """Refuse several tasks of SLURM that would all do the same run.

    Raises:
        ValueError: this process is one of several tasks.
    """
    tasks = os.environ.get("SLURM_NTASKS", "1")
    inside = "SLURM_STEP_ID" in os.environ or "SLURM_PROCID" in os.environ
    if inside and tasks.isdigit() and int(tasks) > 1 and os.environ.get("SLURM_PROCID", "0") != "0":
        raise InputError(
            f"this is task {os.environ['SLURM_PROCID']} of {tasks} in one allocation, and all "
            "would do the same run; use srun -n 1 with devices=N, or slurm/array.sbatch for shards"
        )
