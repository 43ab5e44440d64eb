"""Pictures in one folder whose classes stand elsewhere: in a csv, or in ImageNet's devkit.

The devkit's own numbers of classes differ from every model's, so they are turned into wnids.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from attnguide.data.folders import file_listing, is_wnid, picture_names
from attnguide.data.pictures import Listing
from attnguide.errors import InputError

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_NAME_COLUMNS = ("filename", "file_name", "file", "image", "image_id", "imageid")
_CLASS_COLUMNS = ("wnid", "synset", "predictionstring", "label", "class")


def list_flat(folder: Path, tables: Iterable[Path], devkits: Iterable[Path]) -> Listing | None:
    """Pictures directly in a folder with their classes from a csv or from the devkit.

    Args:
        folder: Where the pictures are.
        tables: Folders in which a csv may lie.
        devkits: Folders in which the devkit's files may lie.

    Returns:
        None if there are no pictures, or neither csv nor devkit.

    Raises:
        ValueError: a table that does not fit the pictures.
    """
    names = picture_names(folder)
    if not names:
        return None
    for table in dict.fromkeys(file for place in tables for file in sorted(place.glob("*.csv"))):
        classes = _read_csv(table)
        if classes is not None:
            keys = _csv_classes(names, classes, table)
            numbers = " (numbers are the model's)" if any(k.isdigit() for k in keys) else ""
            form = f"{len(names)} pictures in {folder}, classes from {table.name}{numbers}"
            return file_listing(form, folder, names, keys)
    for place in devkits:
        if (place / GROUND_TRUTH).is_file():
            form = f"{len(names)} pictures in {folder}, classes from the devkit in {place}"
            return file_listing(form, folder, names, _devkit_classes(names, place))
    return None


def _csv_classes(names: Sequence[str], classes: dict[str, str], table: Path) -> list[str]:
    missing = [name for name in names if Path(name).stem not in classes]
    if missing:
        raise InputError(
            f"{table} has no line for {len(missing)} of {len(names)} pictures, such as "
            f"{missing[0]}; add them, or move the pictures away"
        )
    return [classes[Path(name).stem] for name in names]


def _read_csv(table: Path) -> dict[str, str] | None:
    """Class by file name without ending; None if this csv is about something else."""
    with table.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
        file = next((columns[name] for name in _NAME_COLUMNS if name in columns), None)
        key = next((columns[name] for name in _CLASS_COLUMNS if name in columns), None)
        if file is None or key is None:
            return None
        rows = [(row[file] or "", row[key] or "") for row in reader]
    if key.strip().lower() == "predictionstring":  # "n01440764 83 1 99 272": class, then boxes
        rows = [(name, text.split()[0] if text.split() else "") for name, text in rows]
    empty = [number for number, row in enumerate(rows, 2) if not all(part.strip() for part in row)]
    if empty:
        raise InputError(f"{table} line {empty[0]}: file name or class is missing")
    return {Path(name.strip()).stem: text.strip() for name, text in rows}


def _devkit_classes(names: Sequence[str], devkit: Path) -> list[str]:
    """Wnid of each picture: line of the ground truth, then the devkit's own order of classes."""
    order = devkit_order(devkit)
    lines = (devkit / GROUND_TRUTH).read_text().split()
    keys = []
    for name in names:
        digits = re.search(r"_(\d{8})\.", name)
        if digits is None or not 1 <= int(digits.group(1)) <= len(lines):
            raise InputError(
                f"{GROUND_TRUTH} has {len(lines)} lines and the picture {name} belongs to none; "
                "expected names such as ILSVRC2012_val_00000001.JPEG"
            )
        keys.append(order[int(lines[int(digits.group(1)) - 1])])
    return keys


def devkit_order(devkit: Path) -> dict[int, str]:
    """Wnid by the devkit's class number, 1 to 1000.

    It is read from meta.mat, or from a text file such as map_clsloc.txt whose lines hold
    "<wnid> <number>" or just the wnids in the devkit's order.

    Raises:
        ValueError: no such file, or only one in another order.
    """
    if (devkit / "meta.mat").is_file():
        from scipy.io import loadmat

        synsets = loadmat(devkit / "meta.mat", squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    sorted_file = None
    for file in sorted(devkit.glob("*.txt")):
        words = [line.split() for line in file.read_text(errors="replace").splitlines() if line]
        if not words or not all(line and is_wnid(line[0]) for line in words):
            continue
        wnids = [line[0] for line in words]
        if all(len(line) > 1 and line[1].isdigit() for line in words):
            return {int(line[1]): line[0] for line in words}
        if len(words) > 1 and all(a < b for a, b in pairwise(wnids)):
            sorted_file = file  # alphabetical: the order of the models, not of the devkit
            continue
        return dict(enumerate(wnids, 1))
    hint = f"; {sorted_file.name} is alphabetical, which the devkit is not" if sorted_file else ""
    raise InputError(
        f"{devkit / GROUND_TRUTH} numbers the classes in the devkit's own order, and no file there "
        f"says which wnid has which number{hint}; put the devkit's meta.mat (or map_clsloc.txt) "
        "beside it"
    )
