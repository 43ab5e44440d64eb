"""Pictures in folders: one folder per class, or all in one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from attnguide.data.dataset import Listing, is_wnid, make_listing, picture_id, readable
from attnguide.models.reader import SUFFIXES

# Files that lie beside pictures and are none.
_COMPANIONS = frozenset(
    (".csv", ".txt", ".json", ".xml", ".yaml", ".yml", ".mat", ".md", ".parquet", ".db", "")
)


def list_folder(root: Path) -> Listing | None:
    """Pictures in `<class>/` folders of `root`, and in `root` itself; None if there are none.

    Hidden files and the folders of runs are left alone; files of other kinds are counted and named
    by their ending.
    """
    folders = sorted(entry.name for entry in os.scandir(root) if _visible_folder(entry))
    others: Counter[str] = Counter()
    inside = []
    for folder in folders:
        inside += [(folder, name) for name in picture_names(root / folder, others)]
    beside = picture_names(root, others)
    if not inside and not beside:
        return None
    files = [f"{folder}/{name}" for folder, name in inside] + beside
    keys = [readable(folder) for folder, _ in inside] + [None] * len(beside)
    if inside:
        kind = "wnid" if all(is_wnid(folder) for folder, _ in inside) else "class-named"
        count = len({folder for folder, _ in inside})
        more = f", and {len(beside)} beside them" if beside else ""
        form = f"{len(inside)} pictures in {count} {kind} folders of {root}{more}"
    else:
        form = f"{len(beside)} pictures in the folder {root}"
    return file_listing(form + left_out(others), root, files, keys)


def file_listing(
    form: str, root: Path, files: Sequence[str], keys: Sequence[str | None] | None = None
) -> Listing:
    """A listing of files given by their paths below `root`; without keys, of no class."""
    place = root.absolute()  # workers may stand in another folder
    return make_listing(
        form,
        [picture_id(path) for path in files],
        [None] * len(files) if keys is None else keys,
        [os.fsencode(place / path) for path in files],
    )


def picture_names(folder: Path, others: Counter[str] | None = None) -> list[str]:
    """Names of the picture files directly in a folder, sorted.

    Args:
        folder: Where to look.
        others: Counts the files of other kinds by their ending.
    """
    names = []
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or not (entry.is_file() or entry.is_symlink()):
            continue
        suffix = Path(entry.name).suffix.lower()
        if suffix in SUFFIXES and not entry.is_dir():
            names.append(entry.name)
        elif others is not None and suffix not in _COMPANIONS and not entry.is_dir():
            others[suffix] += 1
    return sorted(names)


def left_out(others: Counter[str]) -> str:
    """What to say about files of other kinds; "" if there are none."""
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    return f"; files of other kinds left out: {kinds}" if kinds else ""


def _visible_folder(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_dir() and not _is_run(Path(entry.path))


def _is_run(folder: Path) -> bool:
    """Whether a run was stored here, whose figures are no pictures to explain."""
    return (folder / "config.yaml").is_file() and (folder / "parts").is_dir()
