"""The folder of a run: the names of its files, and whether it may be written to."""

from __future__ import annotations

from pathlib import Path

from attnguide.errors import InputError
from attnguide.store.files import subfolder

# Written by Hydra's launchers before the run begins; a folder that holds nothing else is free.
OF_LAUNCHERS = ("logs", "multirun.yaml")


class RunFolder:
    """Where each file of a run lies.

    Args:
        path: The run's folder, `run_dir`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.inputs = self.path / "inputs.json"
        self.results = self.path / "results.parquet"
        self.maps = self.path / "maps.npz"
        self.findings = self.path / "findings.json"
        self.parts = self.path / "parts"

    def provenance(self, shard: int = 0, num_shards: int = 1) -> Path:
        """Of the run, or of one of its shards."""
        name = "provenance.json" if num_shards == 1 else f"parts/{shard:04d}.json"
        return self.path / name

    def lock(self, name: str) -> Path:
        """A lock file: of a shard, or of `inputs.json`."""
        return self.parts / f"{name}.lock"

    def table(self, name: str, kind: str = "csv") -> Path:
        """`summary.csv`, `summary.md`, `summary.tex` or `claims.csv`."""
        return self.path / f"{name}.{kind}"

    def figure(self, kind: str) -> Path:
        """`figure.png` or `figure.pdf`."""
        return self.path / f"figure.{kind}"

    def part_files(self, shard: int | None = None) -> list[Path]:
        """The parts of the results, of one shard or of all, by name."""
        return sorted(self.parts.glob("*.parquet" if shard is None else f"{shard:04d}-*.parquet"))

    def refuse_foreign(self) -> None:
        """Refuse to begin a run in a folder that holds something else.

        Raises:
            ValueError: a file, or a folder with foreign files.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"run_dir={self.path} is a file; pass a folder")
        if not self.path.is_dir() or self.config.is_file():
            return
        foreign = [p.name for p in self.path.glob("[!.]*") if p.name not in OF_LAUNCHERS]
        if foreign and foreign != [self.parts.name]:
            raise InputError(
                f"{self.path} holds {foreign[0]} but no config.yaml: it is not an attnguide run; "
                "pass a new folder as run_dir"
            )

    def make(self) -> None:
        """Make the folder and the one of its parts.

        Raises:
            ValueError: the parts' folder is a link.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        subfolder(self.path, self.parts.name)
