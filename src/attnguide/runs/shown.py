"""What a figure of maps shows: stored with its maps, and read again to draw without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnguide.data.views import View
from attnguide.evaluation.localisation import masses, regions
from attnguide.evaluation.map_study import explain_views
from attnguide.models.preprocess import Preprocess
from attnguide.runs.job import Job
from attnguide.store.files import write_atomic
from attnguide.store.table import load_maps, save_maps
from attnguide.types import ViT
from attnguide.viz.panels import Panel, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Shown:
    """A view that a figure shows, from what the run stored.

    Attributes:
        id, kind, regions, note: As in `View`.
        model: Whose maps these are.
        picture: What the model saw.
        targets, names: Of every explained class, rivals last.
        objects, own: As in `View`.
        maps: (rows, cols) by method and target.
    """

    id: str
    kind: str
    model: str
    picture: Image.Image
    targets: tuple[int, ...]
    names: tuple[str, ...]
    objects: tuple[Array, ...]
    own: Array | None
    regions: str
    note: str
    maps: Mapping[tuple[str, int], Array]

    def masses(self, method: str, place: int) -> dict[str, float]:
        """Where the mass of the map of the target at `place` lies, as `shares.masses`."""
        where = regions(cast(Any, self.objects), place, cast(Any, self.own))
        return masses(self.maps[method, self.targets[place]], where)

    def panel(self, method: str, place: int, note: str = "", title: str | None = None) -> Panel:
        """The map of the target at `place` over the picture, under the target's name."""
        name = short_name(self.names[place]) if title is None else title
        return Panel(self.picture, self.maps[method, self.targets[place]], name, note)

    def net(self, method: str, place: int, region: str) -> float:
        """Signed mass of a region as a share of all mass, in [-1, 1]; of "all" in all."""
        found = self.masses(method, place)
        end = "" if region == "all" else f"_{region}"
        whole = found["positive"] + found["negative"]
        return (found["positive" + end] - found["negative" + end]) / whole if whole else 0.0


def show(job: Job, vit: ViT, views: Sequence[View], *, rivals: int = 0, note: str = "") -> None:
    """Store the maps and pictures of the views that the figure shows; the first shard does.

    Args:
        job, vit, rivals: As in `maps.measure`.
        views: All with the same number of targets.
        note: What the figure must say about the choice, such as what was left out.
    """
    if job.data.shard:
        return
    folder = job.run_dir / "pictures"
    folder.mkdir(exist_ok=True)
    index = _index(job.run_dir)
    known = {(record["model"], record["id"]): record for record in index["views"]}
    for view in views:
        if (vit.name, view.id) in known:
            continue
        maps, targets, _ = explain_views(vit, [view], job.methods, loss=job.loss, rivals=rivals)
        save_maps(
            job.run_dir,
            {
                _key(name, view.id, target, vit.name, several=len(job.models) > 1): own.numpy()
                for name, relevance in maps.items()
                for target, own in zip(targets[0].tolist(), relevance[0], strict=True)
            },
        )
        record = _record(vit, view, targets[0].tolist(), len(index["views"]))
        pixels = cast(Preprocess, vit.preprocess).denormalize(view.image)
        eight = (255 * pixels).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(eight).save(folder / record["file"])
        index["views"].append(record | {"several": len(job.models) > 1})
        index["notes"] |= {vit.name: note}
        write_atomic(folder / "index.json", json.dumps(index).encode())


def load_shown(run_dir: Path) -> list[Shown]:
    """What `show` stored, in its order.

    Raises:
        FileNotFoundError: nothing was.
    """
    maps = load_maps(run_dir)
    shown = []
    for record in _index(run_dir)["views"]:
        several, methods = record.pop("several"), {key.split("|")[0] for key in maps}
        with Image.open(run_dir / "pictures" / record.pop("file")) as opened:
            picture = opened.convert("RGB")
        own = record.pop("own")
        keys = {
            (method, target): _key(method, record["id"], target, record["model"], several=several)
            for method in methods
            for target in record["targets"]
        }
        shown.append(
            Shown(
                picture=picture,
                targets=tuple(record.pop("targets")),
                names=tuple(record.pop("names")),
                objects=tuple(np.array(o) for o in record.pop("objects")),
                own=None if own is None else np.array(own),
                maps={place: maps[key] for place, key in keys.items() if key in maps},
                **record,
            )
        )
    return shown


def each_model(
    shown: Sequence[Shown], draw: Callable[[Sequence[Shown]], Figure]
) -> tuple[Figure, dict[str, Figure]]:
    """The figure of the first model, and those of the others by heading."""
    models = list(dict.fromkeys(one.model for one in shown))
    figures = [draw([one for one in shown if one.model == model]) for model in models]
    return figures[0], {f"Maps of {m}": f for m, f in zip(models[1:], figures[1:], strict=True)}


def signed(value: float) -> str:
    """Two decimals and the sign, for the eye."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def notes(run_dir: Path) -> str:
    """What `show` was told to say, each sentence once."""
    return " ".join(dict.fromkeys(note for note in _index(run_dir)["notes"].values() if note))


def _index(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "pictures" / "index.json"
    empty: dict[str, Any] = {"views": [], "notes": {}}
    return json.loads(path.read_text()) if path.is_file() else empty


def _key(method: str, image_id: str, target: int, model: str, *, several: bool) -> str:
    """Name of a map; with several models in one run, the model's name comes last."""
    return f"{method}|{image_id}|{target}" + (f"|{model}" if several else "")


def _record(vit: ViT, view: View, targets: Sequence[int], number: int) -> dict[str, Any]:
    return {
        "id": view.id,
        "kind": view.kind,
        "model": vit.name,
        "file": f"{number:03d}.png",
        "targets": list(targets),
        "names": [vit.class_names[target] for target in targets],
        "objects": [np.round(o.numpy(), 4).tolist() for o in view.objects],
        "own": None if view.own is None else view.own.tolist(),
        "regions": view.regions,
        "note": view.note,
    }
