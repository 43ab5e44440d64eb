"""Finding photographs: folders, tables beside them, ImageNet's devkit, parquet, tar, the hub."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from attnguide.data.encoded import fetch_hub, list_encoded
from attnguide.data.listing import Listing, is_wnid, make_listing, picture_id, readable
from attnguide.data.picture_tables import as_name, classes_of, read_table
from attnguide.errors import InputError
from attnguide.models.reader import SUFFIXES

HUB = "hf://"
IMAGENET_ON_HUB = "ILSVRC/imagenet-1k"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_VALIDATION_FOLDERS = ("val", "validation", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val")
_DEVKITS = ("", "data", "devkit", "devkit/data", "ILSVRC2012_devkit_t12/data")
# Files that lie beside pictures and are none.
_COMPANIONS = frozenset(
    (".csv", ".txt", ".json", ".xml", ".yaml", ".yml", ".mat", ".md", ".parquet", ".db", "")
)


def find_photographs(name: str, root: str | os.PathLike[str] | None = None) -> Listing:
    """What lies at a root, without opening a picture: cheap enough to check before a model loads.

    Args:
        name: What the pictures are called in messages.
        root: Folder, parquet or tar file, picture, or "hf://owner/dataset"; else the
            environment's IMAGENET_DIR.

    Raises:
        ValueError: nothing there; says what was expected and what to do.
    """
    place = os.fspath(root) if root is not None else os.environ.get("IMAGENET_DIR")
    if not place:
        raise InputError(
            f"data {name!r} needs pictures: set data.root (or IMAGENET_DIR) to a folder of "
            "pictures, of <wnid>/ folders or of parquet files, or set data.root="
            f"{HUB}{IMAGENET_ON_HUB} (gated: needs its licence accepted and HF_TOKEN)"
        )
    dataset = place.removeprefix(HUB).removeprefix("datasets/")
    if place.startswith(HUB) or (place == IMAGENET_ON_HUB and not Path(place).exists()):
        listing = list_encoded(fetch_hub(dataset), f"{dataset} on the Hugging Face hub")
    else:
        listing = _find_local(Path(place).expanduser())
    twice = [name for name, count in Counter(listing.column("id")).items() if count > 1]
    if twice:
        raise InputError(
            f"the picture {twice[0]} appears twice in: {listing.form}; remove one"
            + (f" (and {len(twice) - 1} others likewise)" if len(twice) > 1 else "")
        )
    return listing


def _find_local(root: Path) -> Listing:
    """The form of what lies in a local folder, or in a single file."""
    if not root.exists():
        raise InputError(f"data.root {str(root)!r} does not exist; pass a folder of pictures")
    try:
        listing = _find_file(root) if root.is_file() else _find_in_folder(root)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot read data.root {str(root)!r}: {reason}") from error
    if listing is None or not len(listing.dataset):
        raise InputError(
            f"no pictures in {str(root)!r}: expected picture files (.jpg, .jpeg, .png, ...) in it, "
            "in folders named by class or wnid, in val/, or parquet files"
        )
    return listing


def _find_file(root: Path) -> Listing:
    if root.suffix in (".parquet", ".tar"):
        return list_encoded([root], str(root))
    return make_listing(f"the picture {root}", [picture_id(root.name)], None, [root])


def _find_in_folder(root: Path) -> Listing | None:
    """Parquet files, else pictures, else tar files: ImageNet's archive may lie beside pictures."""
    shards = _validation_files(root, "parquet")
    if shards:
        return list_encoded(shards, str(root))
    below = [root / part for part in _VALIDATION_FOLDERS if (root / part).is_dir()]
    for folder in (*below, root):
        devkits = [place / part for place in (folder, root, root.parent) for part in _DEVKITS]
        listing = list_flat(folder, (folder, root), devkits) or list_folder(folder)
        if listing is not None:
            return listing
    archives = _validation_files(root, "tar")
    return list_encoded(archives, str(root)) if archives else None


def _validation_files(root: Path, suffix: str) -> list[Path]:
    """Files in a folder or its data/; those of a validation split, if they say so."""
    found = sorted(root.glob(f"*.{suffix}")) or sorted(root.glob(f"data/*.{suffix}"))
    return [file for file in found if file.name.startswith("val")] or found


def list_folder(root: Path) -> Listing | None:
    """Pictures of the class folders of `root`, however deep, and in `root` itself without a class.

    A class is called as its folder, also where that is `train` or `test`. Hidden files and the
    folders of runs are left alone; files of other kinds are counted and named by their ending.

    Returns:
        None if there are no pictures.
    """
    others: Counter[str] = Counter()
    _, folders, names = next(_walk(root))
    beside = _pictures(names, others)
    paths, keys = [], []
    for folder in folders:
        for place, _, names in _walk(root / folder):
            found = [str((place / name).relative_to(root)) for name in _pictures(names, others)]
            paths += found
            keys += [folder] * len(found)
    if not paths and not beside:
        return None
    form = f"{len(beside)} pictures in the folder {root}"
    if paths:
        kind = "wnid" if all(map(is_wnid, keys)) else "class-named"
        more = f", and {len(beside)} beside them" if beside else ""
        form = f"{len(paths)} pictures in {len(set(keys))} {kind} folders of {root}{more}"
    labels = [*map(readable, keys), *[None] * len(beside)]
    return _file_listing(form + _left_out(others), root, paths + beside, labels)


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
    names = _pictures(next(_walk(folder))[2], others)
    if not names:
        return None
    full = [as_name(readable(name)) for name in names]
    known = {*full, *(Path(name).stem for name in full)}
    form = f"{len(names)} pictures in {folder}{_left_out(others)}"
    for table in dict.fromkeys(file for place in tables for file in sorted(place.glob("*.csv"))):
        entries = read_table(table, lambda name: name.rpartition("/")[2] in known)
        if entries is not None:
            keys = classes_of(names, entries, table)
            return _file_listing(f"{form}, classes from {table.name}", folder, names, keys)
    for place in devkits:
        if (place / GROUND_TRUTH).is_file():
            keys = _devkit_classes(names, place)
            return _file_listing(f"{form}, classes from the devkit in {place}", folder, names, keys)
    return None


def _file_listing(
    form: str, root: Path, paths: Sequence[str], keys: Sequence[str | None]
) -> Listing:
    return make_listing(form, [*map(picture_id, paths)], keys, [root / path for path in paths])


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, sorted, without what is hidden or the folder of a run; errors are raised."""

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(root, onerror=fail):
        folders[:] = sorted(f for f in folders if f[0] != "." and not _is_run(Path(place, f)))
        yield Path(place), folders, sorted(name for name in names if name[0] != ".")


def _is_run(folder: Path) -> bool:
    """Whether a run was stored here, whose figures are no pictures to explain."""
    return (folder / "config.yaml").is_file() and (folder / "parts").is_dir()


def _pictures(names: Sequence[str], others: Counter[str]) -> list[str]:
    """Names of picture files; `others` counts the files of other kinds by their ending."""
    suffixes = {name: Path(name).suffix.lower() for name in names}
    others.update(s for s in suffixes.values() if s not in SUFFIXES | _COMPANIONS)
    return [name for name, suffix in suffixes.items() if suffix in SUFFIXES]


def _left_out(others: Counter[str]) -> str:
    """What to say about files of other kinds; "" if there are none."""
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    return f"; files of other kinds left out: {kinds}" if kinds else ""


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
    """Wnid by the devkit's class number, 1 to 1000, which differs from every model's.

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
