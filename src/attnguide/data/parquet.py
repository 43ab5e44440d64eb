"""Pictures in parquet shards, on disk or from the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from attnguide.data.folders import picture_id
from attnguide.data.pictures import Listing, UnreadableImage, read_picture
from attnguide.errors import InputError

_IN_PATH = re.compile(r"(?:^|[_/])(n\d{8})(?:[_./]|$)")


def list_parquet(files: Sequence[Path], origin: str) -> Listing:
    """Pictures in parquet shards: a column of encoded images, and their classes.

    Classes come from a column `wnid`, from wnids in the pictures' names, or from the class names
    that the `datasets` library stores with its numbers. Numbers without names are taken as the
    model's, and the log says so.

    Args:
        files: Shards, in order.
        origin: What the log calls them.

    Raises:
        ValueError: a file that is no parquet, or has no pictures.
    """
    places: list[_Place] = []
    ids: list[str] = []
    keys: list[str | None] = []
    bare_numbers = False
    for file in files:
        shard = _open(file)
        image, nested = _image_column(shard.schema_arrow, file)
        columns = [f"{image}.path"] if nested else []
        columns += sorted({"label", "wnid"} & set(shard.schema_arrow.names))
        names = _label_names(shard.schema_arrow)
        for group in range(shard.num_row_groups):
            rows = shard.read_row_group(group, columns=columns).to_pylist()
            for number, row in enumerate(rows):
                path = (row.get(image) or {}).get("path") or f"{file.stem}-{group}-{number}"
                key = _row_class(row, path, names)
                bare_numbers |= names is None and key is not None and key.isdigit()
                places.append(_Place(file, group, number))
                ids.append(picture_id(path))
                keys.append(key)
    if len(set(ids)) < len(ids):  # the same file name in several classes
        ids = [f"{p.file.stem}-{p.group}-{p.row}-{i}" for p, i in zip(places, ids, strict=True)]
    note = " (label numbers are taken as the model's)" if bare_numbers else ""
    form = f"{len(ids)} pictures in {len(files)} parquet files of {origin}{note}"
    return Listing(form, tuple(ids), tuple(keys), partial(_load_row, tuple(places), tuple(ids)))


class _Place(NamedTuple):
    """Where a picture stands: shard, row group, row in the group."""

    file: Path
    group: int
    row: int


def _open(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot read the parquet file {file}: {error}") from error


def _image_column(schema: Any, file: Path) -> tuple[str, bool]:
    """Name of the column of pictures, and whether it is a structure of `bytes` and `path`."""
    import pyarrow as pa

    for field in schema:
        parts = {field.type.field(i).name for i in range(field.type.num_fields)}
        if {"bytes", "path"} <= parts or pa.types.is_binary(field.type):
            return str(field.name), bool(parts)
    raise InputError(
        f"{file} has no column of encoded pictures, but {', '.join(schema.names)}; write it with "
        "the `datasets` library, images embedded"
    )


def _label_names(schema: Any) -> list[str] | None:
    """Names of the numbers in the column `label`, as the `datasets` library stores them."""
    stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    names = stored.get("info", {}).get("features", {}).get("label", {}).get("names")
    return list(names) if names else None


def _row_class(row: dict[str, Any], path: str, names: list[str] | None) -> str | None:
    if row.get("wnid"):
        return str(row["wnid"])
    in_path = _IN_PATH.search(path)
    if in_path:
        return in_path.group(1)
    label = row.get("label")
    if label is None or label == -1:  # the hub's mark of a hidden label
        return None
    if isinstance(label, str):
        return label
    return names[label] if names else str(label)


@lru_cache(maxsize=1)
def _row_group(file: Path, group: int) -> list[Any]:
    """The images of one row group; pictures are mostly read in order, so one is kept."""
    shard = _open(file)
    image, nested = _image_column(shard.schema_arrow, file)
    column = shard.read_row_group(group, columns=[f"{image}.bytes" if nested else image])[image]
    return list(column)


def _load_row(places: tuple[_Place, ...], ids: tuple[str, ...], index: int) -> Image.Image:
    place = places[index]
    try:
        cell = _row_group(place.file, place.group)[place.row].as_py()
    except (OSError, ValueError) as error:
        raise UnreadableImage(ids[index], f"{place.file.name}: {error}") from error
    content = cell["bytes"] if isinstance(cell, dict) else cell
    if not content:
        raise UnreadableImage(ids[index], f"{place.file.name} holds its path but not its bytes")
    return read_picture(content, ids[index])


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
