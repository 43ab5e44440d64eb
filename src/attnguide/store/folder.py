"""The folder of a run: the names of its files, its config, and whether it may be written to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from attnguide.errors import InputError

# Written before the run begins; a folder that holds nothing else is free.
FAILED = "failed.txt"  # why a job of a sweep failed, until it has run
OF_LAUNCHERS = ("logs", "multirun.yaml", FAILED)
MAX_BYTES, MAX_DEPTH = 2**20, 50  # of a stored config
PART = re.compile(r"\d{4,}-\d+-\d{6,}\.parquet")  # shard, device, number


class _Shares(BaseModel, strict=True):
    num_shards: Annotated[int, Field(ge=1, le=10**6)] = 1


class _StoredConfig(BaseModel, strict=True):
    """Settings that are read from a stored config, and what they may be; there are others."""

    experiment: str | None = None
    seed: int = 0
    data: _Shares = _Shares()
    method: dict[str, JsonValue] | None = None
    runner: dict[str, JsonValue] | None = None


_PLAIN = TypeAdapter(dict[str, JsonValue])


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
        self.summary = self.path / "summary.csv"
        self.claims = self.path / "claims.csv"
        self.figure = self.path / "figure.png"
        self.parts = self.path / "parts"

    def provenance(self, shard: int = 0, num_shards: int = 1) -> Path:
        """Of the run, or of one of its shards."""
        name = "provenance.json" if num_shards == 1 else f"parts/{shard:04d}.json"
        return self.path / name

    def lock(self, name: str) -> Path:
        """A lock file: of a shard, or of `inputs.json`."""
        return self.parts / f"{name}.lock"

    def part_files(self, shard: int | None = None) -> list[Path]:
        """The parts of the results, of one shard or of all, by name."""
        files = self.parts.glob("*.parquet" if shard is None else f"{shard:04d}-*.parquet")
        return sorted(path for path in files if PART.fullmatch(path.name))

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

    def make(self, name: str = "parts") -> Path:
        """Make the folder, and one inside it.

        Raises:
            ValueError: a link, through which files elsewhere would be written.
        """
        inside = self.path / name
        if inside.is_symlink():
            raise InputError(
                f"{inside} is a link, and a run writes only inside its own folder; remove the "
                "link, or pass another run_dir"
            )
        inside.mkdir(parents=True, exist_ok=True)
        return inside

    def remove_leftovers(self) -> None:
        """Delete what processes that were killed have begun to write; no other may write here."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink()

    def load_config(self) -> dict[str, Any]:
        """The stored config, plain values; nothing in it is looked up, resolved or called.

        Raises:
            FileNotFoundError: no run there.
            ValueError: the file is damaged, or no config of a run.
        """
        if not self.config.is_file():
            raise FileNotFoundError(
                f"{self.path} is not a run: it has no config.yaml; pass run_dir=PATH"
            )
        try:
            values = _PLAIN.validate_python(_read_yaml(self.config))
            _StoredConfig.model_validate(values)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "all of it"
            raise InputError(f"{self.config} is damaged ({where}: {fault['msg']})") from None
        except (yaml.YAMLError, ValueError, TypeError, LookupError) as error:
            why = str(error).splitlines()[0]
            raise InputError(f"{self.config} is damaged ({why})") from error
        return values


def _read_yaml(path: Path) -> Any:
    """Values of a file that may come from somebody else, and would grow while it is read."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    text, depth = path.read_text(encoding="utf-8"), 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
            raise ValueError("aliases, or too many brackets in each other")
    return yaml.safe_load(text)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, as the command line writes them."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            settings |= flat(value, f"{prefix}{key}.")
        else:
            settings[f"{prefix}{key}"] = value
    return settings
