"""A folder of the user's own, named on his command line: what it holds, and how it is found."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from attnguide.errors import InputError

CONF = "conf"
NOT_MODULES = (CONF, "methods", "experiments")  # folders of it that have another place
adopted: list[Path] = []


def plugins_folder(name: str, conf: Path) -> Path:
    """The folder of a user's own configs, methods, experiments and modules.

    Args:
        name: As the user writes it.
        conf: Folder of our configs; one of the same place and name would never be read.

    Raises:
        ValueError: it is none; a config that has the name of one of ours.
    """
    folder = Path(name).expanduser().resolve()
    if not (folder / CONF).is_dir():
        raise InputError(
            f"plugins={name} must be a folder with a folder conf in it, laid out as conf, "
            f"experiments, methods of this project; {folder / CONF} does not exist"
        )
    for path in sorted((folder / CONF).rglob("*.yaml")):
        if (conf / path.relative_to(folder / CONF)).is_file():
            raise InputError(f"{path} has the name of a config of this project; rename it")
    return folder


def names_in(plugins: Path) -> list[str]:
    """Names by which the modules and packages of such a folder are imported."""
    own = [
        path.stem
        for path in sorted(plugins.iterdir())
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    ]
    return [name for name in own if name.isidentifier() and name not in NOT_MODULES]


def adopt(home: Path, plugins: Path | None) -> None:
    """Make importable what configs may name: the experiments, and what is in the user's folder.

    Of this folder `methods` belongs to `attnguide.methods`, `experiments` to `experiments`; other
    modules and packages have their own names.

    Args:
        home: Folder that holds the experiments.
        plugins: The user's folder.
    """
    if str(home) not in sys.path:
        sys.path.insert(0, str(home))
    if plugins is None or plugins in adopted:
        return
    adopted.append(plugins)
    sys.path.append(str(plugins))
    for package, inside in (("attnguide.methods", "methods"), ("experiments", "experiments")):
        import_module(package).__path__.append(str(plugins / inside))


def owners_of(path: str) -> list[Path]:
    """The adopted folders that hold what a dotted path begins with."""
    return [folder for folder in adopted if path.partition(".")[0] in names_in(folder)]
