"""What a part of the results was computed from: in its metadata, apart from its rows."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from attnguide.errors import InputError
from attnguide.store.sources import checksum

KEY = b"attnguide.origin"


@dataclass(frozen=True)
class Origin:
    """What the rows of a part were computed from.

    Attributes:
        model: Name of the model; "" where there is none.
        identity: Checksum of settings, weights and guide, as `store.identity` gives it.
        code: Version of the program.
        items: What is known of each item, by its key.
        sources: (path, stamp, checksum of the content) of the files of each item.
        pictures: Checksum of every picture that was stored with the rows, by its file name.
    """

    model: str
    identity: str
    code: str
    items: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, list[list[str]]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)

    def without(self, keys: Iterable[str]) -> Origin:
        """The same without some items."""
        left = set(keys)
        items = {key: value for key, value in self.items.items() if key not in left}
        sources = {key: value for key, value in self.sources.items() if key not in left}
        return Origin(self.model, self.identity, self.code, items, sources, self.pictures)


def item_key(part: str, image_id: str) -> str:
    """Name of an item among all of a model's."""
    return f"{part}|{image_id}"


def with_origin(metadata: dict[bytes, bytes], origin: Origin | None) -> dict[bytes, bytes]:
    """Metadata of a table with its origin."""
    return metadata if origin is None else metadata | {KEY: json.dumps(asdict(origin)).encode()}


def origin_of(metadata: Mapping[bytes, bytes] | None) -> Origin | None:
    """What `with_origin` added; None where nothing was."""
    stored = (metadata or {}).get(KEY)
    if stored is None:
        return None
    try:
        return Origin(**json.loads(stored))
    except (TypeError, ValueError):
        return None


def lost_pictures(run_dir: Path, data: bytes) -> list[str]:
    """Names of the pictures of a part that are not as they were stored."""
    try:
        origin = origin_of(pq.read_schema(io.BytesIO(data)).metadata)
    except (pa.ArrowException, OSError):
        return []
    named = {} if origin is None else origin.pictures
    return [name for name, digest in named.items() if _digest(run_dir / name) != digest]


def _digest(path: Path) -> str:
    try:
        return checksum(path.read_bytes())
    except OSError:
        return ""


def read_origins(paths: Iterable[Path]) -> Iterator[tuple[Path, Origin | None]]:
    """The origins of some parts.

    Raises:
        ValueError: a part that is no table.
    """
    for path in paths:
        try:
            metadata = pq.read_schema(path).metadata
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is damaged; run the same command again") from error
        yield path, origin_of(metadata)


def remaining(data: bytes, dropped: set[str]) -> tuple[Any, Origin] | None:
    """A part's table and origin without the rows of some items; None where nothing remains."""
    table = pq.read_table(io.BytesIO(data))
    origin = origin_of(table.schema.metadata)
    assert origin is not None, "parts without origin are dropped whole"
    rows = table.to_pandas()
    parts = rows["part"] if "part" in rows else [""] * len(rows)
    names = [item_key(*name) for name in zip(parts, rows["image_id"], strict=True)]
    kept = rows[[name not in dropped for name in names]]
    return None if kept.empty else (kept, origin.without(dropped))
