"""The config of a run on disk, and whether a folder may be gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from attnguide.errors import InputError
from attnguide.store.files import write_atomic


def open_run(run_dir: Path, config: Mapping[str, Any], free: tuple[str, ...] = ()) -> None:
    """Begin a run, or go on with one of the same config.

    Args:
        run_dir: Of the run.
        config: Every setting, plain values.
        free: Beginnings of dotted names that may differ between the lives of a run.

    Raises:
        ValueError: the folder holds a run of another config, or something else.
    """
    path = run_dir / "config.yaml"
    if path.is_file():
        stored, now = flat(load_config(run_dir)), flat(config)
        keys = [key for key in {**stored, **now} if not key.startswith(free)]
        differ = [
            f"{key} (there {stored.get(key)}, now {now.get(key)})"
            for key in keys
            if stored.get(key) != now.get(key)
        ]
        if differ:
            raise InputError(
                f"{run_dir} holds a run of another config: {'; '.join(differ[:8])}; pass the same "
                "settings to go on with it, or another run_dir"
            )
        return
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"run_dir={run_dir} is a file; pass a folder")
    if run_dir.exists():
        foreign = [p.name for p in run_dir.glob("[!.]*") if p.name not in ("logs", "multirun.yaml")]
        if foreign:
            raise InputError(
                f"{run_dir} holds {foreign[0]} but no config.yaml: it is not a run of ours; pass "
                "a new folder as run_dir"
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(path, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).encode())


def load_config(run_dir: Path) -> dict[str, Any]:
    """The stored config, plain values; nothing in it is looked up or called.

    Raises:
        FileNotFoundError: no run there.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} is not a run: it has no config.yaml; pass run_dir=PATH")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged: it holds no settings")
    return {str(key): value for key, value in values.items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, as the command line writes them."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
