"""Explained pictures as a run stores them: rows with raw maps, and the pictures themselves."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from attnguide.store.files import write_atomic
from attnguide.store.table import save_maps
from attnguide.types import Explanation, ViT

KEY = ("image_id", "model", "method", "target")  # names a row
RAW = ("grid_rows", "grid_cols", "relevance")  # columns of a map: float32, row by row


def explanation_rows(
    vit: ViT,
    many: Mapping[str, Explanation],
    ids: Sequence[str],
    labels: Sequence[int | None],
    loss: str = "logit",
) -> pd.DataFrame:
    """One row per picture and method: classes, probabilities, and the raw map.

    `positive_share` is the positive part of the relevance over its magnitude, in [0, 1], missing
    for a map of zeros; `largest` is the largest magnitude, by which a map is divided for display.

    Args:
        vit: Names the classes.
        many: One target per image, as `explain_many` gives it.
        ids: Of the images.
        labels: Class of each image, None where it is not known.
        loss: What was differentiated.
    """
    rows = [
        {"image_id": ids[place], "model": vit.name, "method": method}
        | _classes(vit, explanation.logits[place], int(explanation.target[place]), labels[place])
        | {"loss": loss}
        | _map(explanation.relevance[place])
        for place in range(len(ids))
        for method, explanation in many.items()
    ]
    return pd.DataFrame(rows).astype({"label": "Int64"})


def _classes(vit: ViT, logits: Tensor, target: int, label: int | None) -> dict[str, Any]:
    probability = logits.double().softmax(-1)
    prediction = int(logits.argmax())
    return {
        "target": target,
        "target_name": vit.class_names[target],
        "probability": float(probability[target]),
        "logit": float(logits[target]),
        "prediction": prediction,
        "prediction_name": vit.class_names[prediction],
        "prediction_probability": float(probability[prediction]),
        "label": label,
        "label_name": "" if label is None else vit.class_names[label],
    }


def _map(relevance: Tensor) -> dict[str, Any]:
    values = relevance.detach().float().cpu().numpy()
    size = float(np.abs(values).sum())
    return {
        "positive_share": float(values.clip(min=0).sum()) / size if size else float("nan"),
        "largest": float(np.abs(values).max()),
        "grid_rows": values.shape[0],
        "grid_cols": values.shape[1],
        "relevance": values.astype("<f4").tobytes(),
    }


def relevance_of(row: Any) -> NDArray[np.float32]:
    """The raw map of a row, (rows, cols)."""
    return np.frombuffer(row.relevance, "<f4").reshape(row.grid_rows, row.grid_cols)


def write_maps(run_dir: Path, rows: pd.DataFrame) -> None:
    """Store the raw maps of all rows as `maps.npz`, by `<method>|<image id>|<target index>`."""
    maps = {
        f"{row.method}|{row.image_id}|{row.target}": relevance_of(row) for row in rows.itertuples()
    }
    save_maps(run_dir, maps)


def picture_file(run_dir: Path, folder: str, image_id: str) -> Path:
    """Where the PNG of a picture lies in a folder of the run; no two pictures share one."""
    safe = re.sub(r"[^\w.=-]+", "_", image_id)
    if safe != image_id:
        safe += f"-{hashlib.sha256(image_id.encode()).hexdigest()[:6]}"
    return run_dir / folder / f"{safe}.png"


def store_picture(run_dir: Path, folder: str, image_id: str, picture: bytes | Tensor) -> None:
    """Write a picture: the bytes of a PNG, or an image (3, H, W) in [0, 1]."""
    if isinstance(picture, Tensor):
        pixels = picture.detach().permute(1, 2, 0).mul(255).round().byte().cpu().numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        picture = buffer.getvalue()
    path = picture_file(run_dir, folder, image_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, picture)


def stored_picture(run_dir: Path, folder: str, image_id: str) -> NDArray[np.uint8]:
    """(H, W, 3) of a picture that was stored."""
    with Image.open(picture_file(run_dir, folder, image_id)) as picture:
        return np.asarray(picture)
