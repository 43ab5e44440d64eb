"""Pictures in folders: one folder per class, or all in one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from attnguide.data.pictures import SUFFIXES, Listing, read_picture

_VALIDATION = re.compile(r"(ILSVRC2012_val_\d{8})(?:_n\d{8})?\.[A-Za-z]+$")
_WNID = re.compile(r"n\d{8}")


def is_wnid(name: str) -> bool:
    """Whether this is a WordNet id, such as n02391049."""
    return _WNID.fullmatch(name) is not None


def picture_id(path: str) -> str:
    """What a picture is called in tables.

    Pictures of ImageNet's validation set are called the same in every form they come in; all
    others by their path below the root.
    """
    match = _VALIDATION.search(path)
    return f"{match.group(1)}.JPEG" if match else path


def list_folder(root: Path) -> Listing | None:
    """Pictures in `<class>/` folders of `root`, and in `root` itself; None if there are none.

    Hidden files, and files that are no pictures by their name, are left alone.
    """
    folders = sorted(entry.name for entry in os.scandir(root) if _visible_folder(entry))
    inside = [(folder, name) for folder in folders for name in picture_names(root / folder)]
    beside = picture_names(root)
    if not inside and not beside:
        return None
    files = [f"{folder}/{name}" for folder, name in inside] + beside
    keys = [folder for folder, _ in inside] + [None] * len(beside)
    if not inside:
        return file_listing(f"{len(beside)} pictures in the folder {root}", root, files, keys)
    kind = "wnid" if all(is_wnid(folder) for folder, _ in inside) else "class-named"
    count = len({folder for folder, _ in inside})
    more = f", and {len(beside)} beside them" if beside else ""
    form = f"{len(inside)} pictures in {count} {kind} folders of {root}{more}"
    return file_listing(form, root, files, keys)


def file_listing(
    form: str, root: Path, files: Sequence[str], keys: Iterable[str | None] | None = None
) -> Listing:
    """A listing of files given by their paths below `root`; without keys, of no class."""
    paths = tuple(files)
    return Listing(
        form=form,
        ids=tuple(picture_id(path) for path in paths),
        keys=tuple(keys) if keys is not None else (None,) * len(paths),
        load=partial(_load, root, paths),
    )


def picture_names(folder: Path) -> list[str]:
    """Names of the picture files directly in a folder, sorted."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.name[0] != "." and Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file()
    )


def _load(root: Path, paths: tuple[str, ...], index: int) -> Image.Image:
    return read_picture(root / paths[index], paths[index])


def _visible_folder(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_dir()
