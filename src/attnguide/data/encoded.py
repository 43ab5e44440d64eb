"""Pictures in parquet or webdataset (tar) files, on disk or from the Hugging Face hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnguide.data.listing import Listing, Photograph, picture_id
from attnguide.data.picture_tables import CLASSES
from attnguide.errors import InputError
from attnguide.models.reader import UnreadableImage
from attnguide.store.files import checksum, stamp

_IN_PATH = re.compile(r"(?:^|[_/])(n\d{8})(?:[_./]|$)")
_PICTURES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture")  # the most telling first
_HIDDEN = -1  # the hub's mark of a label that is not told


def list_encoded(files: Sequence[Path], origin: str) -> Listing:
    """Pictures in parquet or tar files: a column of encoded images, and their classes.

    Classes come from a column `wnid`, from wnids in the pictures' names, or from the class names
    that the `datasets` library stores with its numbers. Numbers without names are the model's.

    Args:
        files: All parquet, or all tar; in order.
        origin: What the log calls them.

    Raises:
        ValueError: a file that cannot be read, or has no pictures; a class that is none.
    """
    from datasets import Image

    kind = "tar" if files[0].suffix == ".tar" else "parquet"
    rows = load_rows(kind, files)
    column = _image_column(rows.features, files[0])
    encoded = rows.select_columns(column).cast_column(column, Image(decode=False))
    parts = encoded.flatten()
    if len(parts) and parts.data[f"{column}.bytes"].null_count == len(parts):
        raise InputError(
            f"{files[0]} holds the paths of its pictures but not their bytes; write it with the "
            "images embedded, or point data.root at the pictures"
        )
    places = _places(kind, files, rows)
    stored = zip(parts[f"{column}.path"][:], places, strict=True)
    paths = [path or place for path, (_, place) in stored]
    ids = [picture_id(path) for path in paths]
    if len(set(ids)) < len(ids):  # the same file name in several classes
        ids = [f"{place}-{name}" for (_, place), name in zip(places, ids, strict=True)]
    keys, are_indices = _keys(rows, paths)
    pictures = [
        Photograph(name, key, str(file.absolute()), row)
        for row, (name, key, (file, _)) in enumerate(zip(ids, keys, places, strict=True))
    ]
    form = f"{len(ids)} pictures in {len(files)} {kind} files of {origin}"
    if kind == "tar" and not any(keys) and any("/" in path for path in paths):
        form += ", whose folders count as classes once it is unpacked"
    return Listing(form, pictures, encoded, are_indices)


def load_rows(kind: str, files: Sequence[Path]) -> Any:
    """The rows as the `datasets` library reads them: once, into its cache, mapped into memory.

    Its cache tells files apart by their time alone, so the entry is named by their stamps.

    Raises:
        ValueError: a file that cannot be read; files of different columns.
    """
    from datasets import load_dataset
    from datasets.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # errors are told once, below
    try:
        return load_dataset(
            "webdataset" if kind == "tar" else kind,
            name=checksum(repr([(str(file), stamp(file)) for file in files])),
            data_files=[glob.escape(str(file.absolute())) for file in files],
            split="train",  # of data files without a split
        )
    except Exception as error:  # the library has a decoder for every ending in a tar file
        names = ", ".join(map(str, files[:3])) + (", ..." if len(files) > 3 else "")
        reason = error.__cause__ or error
        raise InputError(f"cannot read the {kind} file {names}: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)


def _image_column(features: Any, file: Path) -> str:
    """The column of images (or of `bytes` and `path`), else of bytes: by its name, or the only one.

    Raises:
        ValueError: none, or several of which none is called as pictures usually are.
    """
    from datasets import Image

    images, binary = [], []
    for name, feature in features.items():
        is_pair = isinstance(feature, dict) and {"bytes", "path"} <= feature.keys()
        if isinstance(feature, Image) or is_pair:
            images.append(name)
        elif getattr(feature, "dtype", None) in ("binary", "large_binary"):
            binary.append(name)
    found = images or binary
    named = [name for name in _PICTURES if name in found]
    if not named and len(found) != 1:
        kind = "several columns" if found else "no column"
        raise InputError(
            f"{file} has {kind} of encoded pictures, but {', '.join(found or features)}; write it "
            "with the `datasets` library, with a column `image` of embedded images"
        )
    return str((named or found)[0])


def _places(kind: str, files: Sequence[Path], rows: Any) -> list[tuple[Path, str]]:
    """File of every row, and what a row without a name is called: FILE-GROUP-NUMBER."""
    if kind == "tar":
        urls = map(Path, rows["__url__"][:])
        return [(url, f"{url.stem}-{number}") for number, url in enumerate(urls)]
    from pyarrow.parquet import read_metadata

    found = []
    for file in files:
        stored = read_metadata(file)
        for group in range(stored.num_row_groups):
            count = stored.row_group(group).num_rows
            found += [(file, f"{file.stem}-{group}-{number}") for number in range(count)]
    return found


def _keys(rows: Any, paths: Sequence[str]) -> tuple[list[str | None], bool]:
    """Class of every row as text, None where it has none; and whether these are numbers.

    Raises:
        ValueError: several classes, or a number that the stored names do not have.
    """
    column = next((name for name in CLASSES if name in rows.features), "")
    names = getattr(rows.features.get(column), "names", None)  # of `datasets.ClassLabel`
    labels = rows[column][:] if column else [None] * len(paths)
    keys: list[str | None] = []
    for path, label in zip(paths, labels, strict=True):
        in_path = None if column == "wnid" and label else _IN_PATH.search(path)
        keys.append(in_path.group(1) if in_path else _key(label, names, f"{column} of {path}"))
    return keys, names is None and any(isinstance(label, (int, float)) for label in labels)


def _key(label: Any, names: Sequence[str] | None, what: str) -> str | None:
    """A label as text; None where it is missing or hidden."""
    if isinstance(label, float) and label.is_integer():  # as pandas writes numbers with gaps
        label = int(label)
    if label is None or label != label or label == _HIDDEN:
        return None
    if isinstance(label, str):
        return label.strip() or None
    if not isinstance(label, int) or label < 0 or (names is not None and label >= len(names)):
        expected = "a class number" + (f" from 0 to {len(names) - 1}" if names else "")
        raise InputError(
            f"{what} must be {expected}, got {label!r}; correct it, or use {_HIDDEN} for pictures "
            "without a class"
        )
    return str(label) if names is None else names[label]


def encoded_bytes(encoded: Any, row: int, name: str) -> bytes:
    """The encoded picture in a row of `Listing.encoded`.

    Raises:
        UnreadableImage: no bytes.
    """
    (picture,) = encoded[row].values()
    content: bytes | None = picture["bytes"]
    if not content:
        raise UnreadableImage(name, "the data hold its path but not its bytes")
    return content


def fetch_hub(dataset: str) -> list[Path]:
    """The validation files of a dataset on the Hugging Face hub, downloaded or from its cache.

    Raises:
        ValueError: no access, no network, or no validation files; says what to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    patterns = ["*validation*.parquet", "*validation*.tar"]
    try:
        folder = snapshot_download(dataset, repo_type="dataset", allow_patterns=patterns)
    except (OSError, HfHubHTTPError) as error:
        raise InputError(
            f"cannot fetch the dataset {dataset} from the Hugging Face hub "
            f"({type(error).__name__}). ImageNet is gated: accept its licence once at "
            f"https://huggingface.co/datasets/{dataset}, create a token and set HF_TOKEN (or run "
            "`hf auth login`), and run this on a machine with network, without HF_HUB_OFFLINE; "
            "compute nodes then find it in the cache (HF_HOME). Or point data.root at a local copy"
        ) from error
    files = sorted(Path(folder).rglob("*.parquet")) or sorted(Path(folder).rglob("*.tar"))
    if not files:
        raise InputError(f"the dataset {dataset} has no parquet files of a validation split")
    return files
