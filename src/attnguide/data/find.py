"""Finding photographs: folders, tables beside them, ImageNet's devkit, parquet, tar, the hub."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from attnguide.data.encoded import fetch_hub, list_encoded
from attnguide.data.listing import Listing, Photograph, is_wnid, picture_id, readable
from attnguide.data.picture_tables import TABLES, with_classes
from attnguide.errors import InputError
from attnguide.models.reader import SUFFIXES

HUB = "hf://"
IMAGENET_ON_HUB = "ILSVRC/imagenet-1k"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_VALIDATION_FOLDERS = ("val", "validation", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val")
_DEVKITS = ("", "data", "devkit", "devkit/data", "ILSVRC2012_devkit_t12/data")
# What is not read, by ending: what it is, and what to do.
_ARCHIVE = "an archive; unpack it"
_LIST = "a list of pictures; pass data.root=FOLDER data.list=FILE"
_ARRAYS = "a file of arrays or records; save the pictures as files (.png), a folder per class"
_COCO = "of COCO (annotations), which is not read; write a csv with filename and label"
_NOT_READ = {
    ".arrow": "of `datasets` (save_to_disk); write load_from_disk(FOLDER).to_parquet(FILE)",
    **dict.fromkeys((".zip", ".gz", ".tgz", ".xz", ".bz2", ".zst", ".7z", ".rar"), _ARCHIVE),
    **dict.fromkeys((".csv", ".tsv", ".json", ".jsonl", ".txt"), _LIST),
    **dict.fromkeys((".npy", ".npz", ".mat", ".h5", ".hdf5", ".pkl", ".pt"), _ARRAYS),
    **dict.fromkeys((".mdb", ".tfrecord", ".rec", ".beton", ".bin"), _ARRAYS),
}
# Files that lie beside pictures and are none.
_COMPANIONS = {*TABLES, ".txt", ".json", ".xml", ".yaml", ".yml", ".mat", ".md", ".parquet", ".db"}


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
    ids = Counter(picture.id for picture in listing.photographs)
    twice = [name for name, count in ids.items() if count > 1]
    if twice:
        more = f" (and of {len(twice) - 1} others)" if len(twice) > 1 else ""
        raise InputError(f"{twice[0]} appears twice in: {listing.form}; remove one{more}")
    return listing


def _find_local(root: Path) -> Listing:
    """The form of what lies in a local folder, or in a single file."""
    if not root.exists():
        raise InputError(f"data.root {str(root)!r} does not exist; pass a folder of pictures")
    try:
        if root.is_dir():
            listing = _find_in_folder(root)
        elif root.suffix in (".parquet", ".tar"):
            listing = list_encoded([root], str(root))
        elif root.suffix.lower() in _NOT_READ:
            listing = None
        else:
            picture = Photograph(picture_id(root.name), None, str(root.absolute()))
            listing = Listing(f"the picture {root}", [picture])
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot read data.root {str(root)!r}: {reason}") from error
    if listing is None or not listing.photographs:
        raise InputError(
            f"no pictures in {str(root)!r}: {_what_is_there(root)}expected picture files (.jpg, "
            ".jpeg, .png, ...) in it, in folders named by class or wnid, in val/, or parquet files"
        )
    return listing


def _what_is_there(root: Path) -> str:
    """Files of forms that are not read, or that lie deeper than they are looked for."""
    files = [p / name for p, _, names in _walk(root) for name in names] if root.is_dir() else [root]
    shards = [file for file in files if file.suffix in (".parquet", ".tar")]
    if shards:
        places = sorted({str(file.parent) for file in shards})[:5]
        return f"pass the folder of its {shards[0].suffix} files, {' or '.join(places)}; "
    for ending, what in _NOT_READ.items():
        found = [file for file in files if file.suffix.lower() == ending]
        if found:
            return f"{found[0].name} is {_COCO if _is_coco(found[0]) else what}; "
    return ""


def _is_coco(file: Path) -> bool:
    """Whether a file begins as annotations of COCO do, which may be large."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        head = opened.read(1 << 16)
    return re.search(rb'"(images|annotations)"\s*:\s*\[', head) is not None


def _find_in_folder(root: Path) -> Listing | None:
    """Parquet files, else pictures, else tar files: ImageNet's archive may lie beside pictures."""
    if shards := _validation_files(root, "parquet"):
        return list_encoded(shards, str(root))
    below = [root / part for part in _VALIDATION_FOLDERS if (root / part).is_dir()]
    for folder in (*below, root):
        if listing := list_folder(folder):
            return _labelled(listing, folder, root)
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
    It is not read by `datasets`, whose "imagefolder" takes such folders for splits.

    Returns:
        None if there are no pictures.
    """
    others: Counter[str] = Counter()
    _, folders, beside = next(_walk(root))
    inside = ((readable(f), *found) for f in folders for found in _walk(root / f))
    pictures = []
    for key, place, _, names in (*inside, (None, root, folders, beside)):
        for path in (place / name for name in names):
            if path.suffix.lower() in SUFFIXES:
                relative = picture_id(str(path.relative_to(root)))
                pictures.append(Photograph(relative, key, str(path.absolute())))
            else:
                others[path.suffix.lower()] += 1
    if not pictures:
        return None
    keys = {picture.key for picture in pictures} - {None}
    alone = sum(picture.key is None for picture in pictures)
    form = f"{alone} pictures in the folder {root}"
    if keys:
        kind = "wnid" if all(is_wnid(str(key)) for key in keys) else "class-named"
        more = f", and {alone} beside them" if alone else ""
        form = f"{len(pictures) - alone} pictures in {len(keys)} {kind} folders of {root}{more}"
    left = [f"{others[kind]} {kind}" for kind in sorted(others) if kind not in _COMPANIONS | {""}]
    form += f"; files of other kinds left out: {', '.join(left)}" if left else ""
    return Listing(form, pictures)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, sorted, without what is hidden or the folder of a run; errors are raised.

    Links to folders are followed, but into no folder twice, nor into one that holds the root.
    """

    def fail(error: OSError) -> None:
        raise error

    entered = {*root.resolve().parents}
    for place, folders, names in os.walk(root, onerror=fail, followlinks=True):
        real = Path(place).resolve()
        folders[:] = sorted(f for f in folders if f[0] != "." and not _is_run(Path(place, f)))
        if real in entered:
            folders.clear()
        else:
            entered.add(real)
            yield Path(place), folders, sorted(name for name in names if name[0] != ".")


def _is_run(folder: Path) -> bool:
    """Whether a run was stored here, whose figures are no pictures to explain."""
    return (folder / "config.yaml").is_file() and (folder / "parts").is_dir()


def _labelled(listing: Listing, folder: Path, root: Path) -> Listing:
    """The pictures with the classes of a table or of the devkit; else those of their folders."""
    beside = dict.fromkeys((folder, root))
    kinds = (*TABLES, ".txt")  # with "PATH CLASS" in every line
    tables = [f for place in beside for f in sorted(place.iterdir()) if f.suffix in kinds]
    from_table = with_classes(listing, tables)
    if from_table is not None:
        return from_table
    pictures = [picture for picture in listing.photographs if picture.key is None]
    for devkit in (place / part for place in (*beside, root.parent) for part in _DEVKITS):
        if pictures and (devkit / GROUND_TRUTH).is_file():
            keys = _devkit_classes(pictures, devkit)
            labelled = [p._replace(key=key) for p, key in zip(pictures, keys, strict=True)]
            form = f"{len(pictures)} pictures in {folder}, classes from the devkit in {devkit}"
            return replace(listing, form=form, photographs=labelled)
    for place in (*beside, *(p / "annotations" for p in (*beside, root.parent))):
        for file in sorted(place.glob("*.json"))[:5]:
            if _is_coco(file):
                return replace(listing, form=f"{listing.form}; {file} is {_COCO}")
    return listing


def _devkit_classes(pictures: Sequence[Photograph], devkit: Path) -> list[str]:
    """Wnid of each picture: line of the ground truth, then the devkit's own order of classes."""
    order = devkit_order(devkit)
    lines = (devkit / GROUND_TRUTH).read_text().split()
    keys = []
    for picture in pictures:
        digits = re.search(r"_(\d{8})\.", picture.id)
        if digits is None or not 1 <= int(digits.group(1)) <= len(lines):
            raise InputError(
                f"{GROUND_TRUTH} has {len(lines)} lines and the picture {picture.id} belongs to "
                "none; expected names such as ILSVRC2012_val_00000001.JPEG"
            )
        keys.append(order[int(lines[int(digits.group(1)) - 1])])
    return keys


def devkit_order(devkit: Path) -> dict[int, str]:
    """Wnid by the devkit's class number, 1 to 1000, which differs from every model's.

    It is read from meta.mat, or from a text file such as map_clsloc.txt whose lines hold
    "<wnid> <number>", from 1. Wnids without numbers may stand in any order.

    Raises:
        ValueError: no such file.
    """
    if (devkit / "meta.mat").is_file():
        from scipy.io import loadmat

        synsets = loadmat(devkit / "meta.mat", squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    for file in sorted(devkit.glob("*.txt")):
        lines = filter(str.strip, file.read_text(errors="replace").splitlines())
        found = [re.match(r"(n\d{8})\s+([1-9]\d*)(\s|$)", line) for line in lines]
        if found and all(found):
            return {int(line[2]): line[1] for line in found if line}
    raise InputError(
        f"{devkit / GROUND_TRUTH} numbers the classes in the devkit's own order, and no file there "
        "says which wnid has which number; put the devkit's meta.mat (or map_clsloc.txt) beside it"
    )
