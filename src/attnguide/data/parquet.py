"""Pictures in parquet shards, on disk or from the Hugging Face hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from attnguide.data.dataset import Listing, make_listing, picture_id
from attnguide.errors import InputError
from attnguide.models.reader import UnreadableImage, read_picture

_IN_PATH = re.compile(r"(?:^|[_/])(n\d{8})(?:[_./]|$)")
_CLASSES = ("label", "labels", "class", "target", "category", "fine_label")
_HIDDEN = -1  # the hub's mark of a label that is not told


def list_parquet(files: Sequence[Path], origin: str) -> Listing:
    """Pictures in parquet shards: a column of encoded images, and their classes.

    Classes come from a column `wnid`, from wnids in the pictures' names, or from the class names
    that the `datasets` library stores with its numbers. Numbers without names are the model's.

    Args:
        files: Shards, in order.
        origin: What the log calls them.

    Raises:
        ValueError: a file that is no parquet, or has no pictures; a class that is none.
    """
    ids: list[str] = []
    keys: list[str | None] = []
    places: list[Path] = []
    groups: list[int] = []
    numbers: list[int] = []
    unnamed = False
    for file in files:
        shard = _open(file)
        columns = _columns(shard.schema_arrow, file)
        for group in range(shard.num_row_groups):
            rows = shard.read_row_group(group, columns=columns.light()).to_pylist()
            for number, row in enumerate(rows):
                path = columns.path(row) or f"{file.stem}-{group}-{number}"
                unnamed |= columns.names is None and isinstance(columns.class_of(row), (int, float))
                ids.append(picture_id(path))
                keys.append(_row_class(row, path, columns, file))
                places.append(file)
                groups.append(group)
                numbers.append(number)
    if len(set(ids)) < len(ids):  # the same file name in several classes
        parts = zip(places, groups, numbers, ids, strict=True)
        ids = [f"{file.stem}-{group}-{number}-{name}" for file, group, number, name in parts]
    form = f"{len(ids)} pictures in {len(files)} parquet files of {origin}"
    paths = [os.fsencode(file.absolute()) for file in places]
    return make_listing(form, ids, keys, paths, groups, numbers, are_indices=unnamed)


class _Columns(NamedTuple):
    """Which columns of a shard are read.

    Attributes:
        image: The pictures.
        nested: They are structures of `bytes` and `path`, not bytes alone.
        wnid: Whether there are wnids.
        label: Other classes; None where there are none.
        names: What the numbers of `label` mean; None where it is text, or nothing is stored.
    """

    image: str
    nested: bool
    wnid: bool
    label: str | None
    names: list[str] | None

    def light(self) -> list[str]:
        """All but the encoded pictures."""
        extra = [name for name in ("wnid" if self.wnid else None, self.label) if name]
        return [f"{self.image}.path"] * self.nested + extra

    def path(self, row: dict[str, Any]) -> str | None:
        """What the picture was called when it was a file."""
        return (row[self.image] or {}).get("path") if self.nested else None

    def class_of(self, row: dict[str, Any]) -> Any:
        """What stands in the column of classes."""
        return row[self.label] if self.label else None


def _open(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot read the parquet file {file}: {error}") from error


def _columns(schema: Any, file: Path) -> _Columns:
    image, nested = _image_column(schema, file)
    label = next((name for name in _CLASSES if name in schema.names), None)
    stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = stored.get("info", {}).get("features", {}).get(label, {})
    names = feature.get("names") if isinstance(feature, dict) else None
    return _Columns(image, nested, "wnid" in schema.names, label, list(names) if names else None)


def _image_column(schema: Any, file: Path) -> tuple[str, bool]:
    """Name of the column of pictures, and whether it is a structure of `bytes` and `path`."""
    import pyarrow as pa

    for field in schema:
        parts = {
            field.type.field(i).name: field.type.field(i) for i in range(field.type.num_fields)
        }
        nested = {"bytes", "path"} <= set(parts)
        if nested and pa.types.is_null(parts["bytes"].type):
            raise InputError(
                f"{file} holds the paths of its pictures but not their bytes; write it with the "
                "images embedded, or point data.root at the pictures"
            )
        if nested or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            return str(field.name), nested
    raise InputError(
        f"{file} has no column of encoded pictures, but {', '.join(schema.names)}; write it with "
        "the `datasets` library, images embedded"
    )


def _row_class(row: dict[str, Any], path: str, columns: _Columns, file: Path) -> str | None:
    """A row's class as text; None where it has none.

    Raises:
        ValueError: several classes, or a number that the stored names do not have.
    """
    if columns.wnid and row["wnid"]:
        return str(row["wnid"])
    in_path = _IN_PATH.search(path)
    if in_path:
        return in_path.group(1)
    label = columns.class_of(row)
    if isinstance(label, float) and label.is_integer():  # as pandas writes numbers with gaps
        label = int(label)
    if label is None or label != label or label == _HIDDEN:
        return None
    if isinstance(label, str):
        return label.strip() or None
    last = None if columns.names is None else len(columns.names) - 1
    if not isinstance(label, int) or label < 0 or (last is not None and label > last):
        expected = "a class number" if last is None else f"a class number from 0 to {last}"
        raise InputError(
            f"{file}: the {columns.label} of {path} must be {expected}, got {label!r}; mend it, or "
            f"use {_HIDDEN} for pictures without a class"
        )
    return str(label) if columns.names is None else columns.names[label]


@lru_cache(maxsize=1)
def _row_group(file: Path, group: int) -> list[Any]:
    """The images of one row group; pictures are mostly read in order, so one is kept."""
    shard = _open(file)
    image, nested = _image_column(shard.schema_arrow, file)
    column = shard.read_row_group(group, columns=[f"{image}.bytes" if nested else image])[image]
    return list(column)


def read_row(file: Path, group: int, row: int, name: str) -> Image.Image:
    """A picture of a shard.

    Raises:
        UnreadableImage: no bytes, or no picture.
    """
    return read_picture(cell_bytes(file, group, row, name), name)


def cell_bytes(file: Path, group: int, row: int, name: str) -> bytes:
    """The encoded picture in a shard.

    Raises:
        UnreadableImage: no bytes.
    """
    try:
        cell = _row_group(file, group)[row].as_py()
    except (OSError, ValueError, IndexError) as error:
        raise UnreadableImage(name, f"{file.name}: {error}") from error
    content: bytes | None = cell["bytes"] if isinstance(cell, dict) else cell
    if not content:
        raise UnreadableImage(name, f"{file.name} holds its path but not its bytes")
    return content


def fetch_hub(dataset: str) -> list[Path]:
    """The validation shards of a dataset on the Hugging Face hub, downloaded or from its cache.

    Raises:
        ValueError: no access, no network, or no validation shards; says what to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = snapshot_download(
            dataset, repo_type="dataset", allow_patterns=["*validation*.parquet"]
        )
    except (OSError, HfHubHTTPError) as error:
        raise InputError(
            f"cannot fetch the dataset {dataset} from the Hugging Face hub "
            f"({type(error).__name__}). ImageNet is gated: accept its licence once at "
            f"https://huggingface.co/datasets/{dataset}, create a token and set HF_TOKEN (or run "
            "`hf auth login`), and run this on a machine with network, without HF_HUB_OFFLINE; "
            "compute nodes then find it in the cache (HF_HOME). Or point data.root at a local copy"
        ) from error
    files = sorted(Path(folder).rglob("*.parquet"))
    if not files:
        raise InputError(f"the dataset {dataset} has no parquet files of a validation split")
    return files
