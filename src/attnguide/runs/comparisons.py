"""What Figure 9 shows: pictures with two-class maps and examples, stored and drawn again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnguide.data.case import Case
from attnguide.data.cases import creature_case, is_creatures, shown_singles
from attnguide.data.creatures import scenes as creatures
from attnguide.data.creatures.contaminated import creature_label
from attnguide.data.views import look
from attnguide.evaluation.detail import EQ8, detail_maps
from attnguide.evaluation.explained import store_picture, stored_picture
from attnguide.models.preprocess import Preprocess
from attnguide.runs.job import Job
from attnguide.store.files import write_atomic
from attnguide.store.table import load_maps, save_maps
from attnguide.types import ViT
from attnguide.viz.panels import RED_FRAME, Panel, short_name

LOSSES = {EQ8: "Eq. 8", "difference": "l1 \N{MINUS SIGN} l2", "ratio": "l1 / l2"}
TITLES = ("image", *LOSSES.values(), "example", "Eq. 8", "example")
Pair = tuple[int, int]


def store_comparison(
    job: Job, vit: ViT, case: Case, pairs: Sequence[Pair], *, framed: bool = False
) -> dict[str, Any]:
    """Store the picture and its maps; returns what `comparison_panels` must know.

    Args:
        job: Its folder.
        vit: The model.
        case: The picture.
        pairs: Two pairs (first, second) of classes.
        framed: Draw a red frame around the maps.
    """
    image = look(vit, case).image
    store_picture(job.run_dir, "shown", case.id, _pixels(vit, image))
    for pair in pairs:
        first, second = (torch.tensor([index]) for index in pair)
        maps, logits = detail_maps(vit, image[None], first, second, list(LOSSES))
        named = {_key(loss, case.id, pair, vit.name): own[0].numpy() for loss, own in maps.items()}
        save_maps(job.run_dir, named)
    top = logits[0].argsort(descending=True)[:3].tolist()
    share = logits[0].double().softmax(-1)
    shown = {index for pair in pairs for index in pair}
    return {
        "id": case.id,
        "model": vit.name,
        "pairs": list(pairs),
        "names": {str(i): short_name(vit.class_names[i]) for i in shown},
        "logits": {str(i): float(logits[0, i]) for i in shown},
        "top": [f"{short_name(vit.class_names[i])} {share[i]:.2f}" for i in top],
        "framed": framed,
    }


def store_shown(job: Job, vit: ViT, records: Sequence[dict[str, Any]]) -> None:
    """Store the records, and an example of every second class, where the data has one."""
    for index in sorted({pair[1] for record in records for pair in record["pairs"]}):
        if is_creatures(job.data):
            label = creature_label(vit.class_names[index])
            case = creature_case(vit, creatures.guide(label), "example")
        else:
            case = shown_singles(vit, job.data, [str(index)])[0]
        if case.targets[0] == index:
            image = _pixels(vit, look(vit, case).image)
            store_picture(job.run_dir, "examples", str(index), image)
    write_atomic(job.run_dir / "shown.json", json.dumps(list(records)).encode())


def read_shown(run_dir: Path) -> list[dict[str, Any]]:
    """The records that `store_shown` stored."""
    records: list[dict[str, Any]] = json.loads((run_dir / "shown.json").read_text())
    return records


def comparison_panels(run_dir: Path, record: dict[str, Any]) -> list[Panel | None]:
    """A row of the figure, under `TITLES`."""
    return [*_panels(run_dir, record)]


def _panels(run_dir: Path, record: dict[str, Any]) -> Iterator[Panel | None]:
    picture = stored_picture(run_dir, "shown", record["id"])
    maps = load_maps(run_dir)

    def mapped(loss: str, pair: Pair) -> Panel:
        first, second = (record["names"][str(index)] for index in pair)
        l1, l2 = (record["logits"][str(index)] for index in pair)
        note = f"l1 {l1:.1f}, l2 {l2:.1f}".replace("-", "\N{MINUS SIGN}")
        if loss == EQ8 and min(l1, l2) <= 0:
            note += "\nnot both positive"
        relevance = maps[_key(loss, record["id"], pair, record["model"])]
        frame = RED_FRAME if record["framed"] else None
        return Panel(picture, relevance, f"{first} against {second}", note, frame)

    def example(index: int) -> Panel | None:
        try:
            shown = stored_picture(run_dir, "examples", str(index))
        except FileNotFoundError:
            return None
        return Panel(shown, title=record["names"][str(index)])

    (one, other) = ((pair[0], pair[1]) for pair in record["pairs"])
    yield Panel(picture, note="\n".join(record["top"]))
    yield from (mapped(loss, one) for loss in LOSSES)
    yield from (example(one[1]), mapped(EQ8, other), example(other[1]))


def _key(loss: str, image_id: str, pair: Pair, model: str) -> str:
    return f"complete:{loss}|{image_id}|{pair[0]}-{pair[1]}|{model}"


def _pixels(vit: ViT, image: Tensor) -> Tensor:
    assert isinstance(vit.preprocess, Preprocess)
    return vit.preprocess.denormalize(image)
