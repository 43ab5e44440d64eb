"""Raw maps and pictures of a run: maps as columns of its table, pictures as PNG files."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from attnguide.store.files import checksum, write_atomic
from attnguide.store.folder import RunFolder

COLUMNS = ("grid_rows", "grid_cols", "relevance")  # of a map: float32, row by row
PICTURES = "pictures"  # folder of the run


def as_columns(relevance: Tensor | None) -> dict[str, Any]:
    """A raw map (rows, cols) as columns of a row; empty ones for none."""
    if relevance is None:
        return dict.fromkeys(COLUMNS)
    values = relevance.detach().float().cpu().numpy()
    return dict(zip(COLUMNS, (*values.shape, values.astype("<f4").tobytes()), strict=True))


def relevance_of(row: Any) -> NDArray[np.float32]:
    """The raw map of a row, (rows, cols)."""
    return np.frombuffer(row.relevance, "<f4").reshape(int(row.grid_rows), int(row.grid_cols))


def write_maps(run_dir: Path, rows: pd.DataFrame) -> None:
    """Store the raw maps of all rows as `maps.npz`, by `<method>|<image id>|<target index>`.

    What tells rows apart beside that (view, step, loss) follows the image id after "@"; with
    several models the model's name comes last.
    """
    if not set(COLUMNS) <= set(rows):
        return
    own = rows[rows["relevance"].notna()]
    several = own["model"].nunique() > 1
    maps = {map_key(row, several=several): relevance_of(row) for row in own.itertuples()}
    if len(maps) < len(own):
        raise RuntimeError(f"{len(own)} maps have only {len(maps)} names; give rows a `view`")
    if maps:
        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(sorted(maps.items()))
        np.savez(buffer, **arrays)  # of numbers: nothing is pickled
        write_atomic(RunFolder(run_dir).maps, buffer.getvalue())


def map_key(row: Any, *, several: bool) -> str:
    """Name of a row's map in `maps.npz`."""
    view = getattr(row, "view", "")
    image = row.image_id if view in ("", "alone") else f"{row.image_id}@{view}"
    key = f"{getattr(row, 'method', 'complete')}|{image}|{row.target}"
    return f"{key}|{row.model}" if several else key


def picture_file(run_dir: Path, name: str, folder: str = PICTURES) -> Path:
    """Where the PNG of a picture lies in the run; no two pictures share one."""
    safe = re.sub(r"[^\w.=-]+", "_", name)
    if safe != name or len(safe) > 100:
        safe = f"{safe[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return run_dir / folder / f"{safe.removesuffix('.png')}.png"


def store_picture(
    run_dir: Path, name: str, picture: bytes | Tensor, folder: str = PICTURES
) -> tuple[str, str]:
    """Write a picture: the bytes of a PNG, or an image (3, H, W) in [0, 1].

    Returns:
        Its file, below the run's folder, and its checksum.
    """
    if isinstance(picture, Tensor):
        pixels = picture.detach().permute(1, 2, 0).mul(255).round().byte().cpu().numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        picture = buffer.getvalue()
    path = picture_file(run_dir, name, folder)
    RunFolder(run_dir).make(folder)
    write_atomic(path, picture)
    return f"{folder}/{path.name}", checksum(picture)


def is_picture(path: Path) -> bool:
    """Whether a stored picture is there and whole."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def stored_picture(run_dir: Path, name: str, folder: str = PICTURES) -> NDArray[np.uint8]:
    """(H, W, 3) of a picture that was stored.

    Raises:
        FileNotFoundError: it was not.
    """
    with Image.open(picture_file(run_dir, name, folder)) as picture:
        return np.asarray(picture)
