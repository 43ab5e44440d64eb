"""Pictures in one folder whose classes stand elsewhere: in a csv, or in ImageNet's devkit.

The devkit's own numbers of classes differ from every model's, so they are turned into wnids.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from attnguide.data.dataset import Listing, is_wnid, readable
from attnguide.data.folders import file_listing, left_out, picture_names
from attnguide.data.tables import as_name, classes_of, read_table
from attnguide.errors import InputError

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


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
    others: Counter[str] = Counter()
    names = picture_names(folder, others)
    if not names:
        return None
    known = {
        part for n in names for part in (as_name(readable(n)), as_name(Path(readable(n)).stem))
    }
    form = f"{len(names)} pictures in {folder}{left_out(others)}"
    for table in dict.fromkeys(file for place in tables for file in sorted(place.glob("*.csv"))):
        entries = read_table(table, lambda name: name.rpartition("/")[2] in known)
        if entries is not None:
            keys = classes_of(names, entries, table)
            return file_listing(f"{form}, classes from {table.name}", folder, names, keys)
    for place in devkits:
        if (place / GROUND_TRUTH).is_file():
            keys = _devkit_classes(names, place)
            return file_listing(f"{form}, classes from the devkit in {place}", folder, names, keys)
    return None


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
