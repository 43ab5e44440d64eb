"""What a figure of maps shows, read from the run's table and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnguide.data.views import ALONE, View
from attnguide.figures.experiment import Stored
from attnguide.findings import ShownPicture
from attnguide.models.preprocess import pixels_of
from attnguide.store.maps import picture_file, relevance_of
from attnguide.viz.panels import Panel, draw_panels, fitting, short_name
from attnguide.viz.style import method_label, signed, without_wnid

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from attnguide.types import ViT


@dataclass(frozen=True)
class ShownView:
    """A picture as a model saw it, with its maps.

    Attributes:
        model, id, kind: Of the view.
        picture: (H, W, 3) what the model saw.
        rows: A row per target and method, as `localisation_rows` gives them.
    """

    model: str
    id: str
    kind: str
    picture: NDArray[np.uint8]
    rows: pd.DataFrame

    @property
    def targets(self) -> list[int]:
        """Explained classes, in order."""
        return list(dict.fromkeys(self.rows.sort_values("place", kind="stable")["target"]))

    @property
    def note(self) -> str:
        """What happened to the picture on the way."""
        return str(self.rows["note"].iloc[0])

    @property
    def regions(self) -> str:
        """What the objects are; empty where they are not known."""
        return str(self.rows["regions"].iloc[0])

    def row(self, method: str, place: int) -> Any:
        """The row of a method and target."""
        own = self.rows[(self.rows["method"] == method) & (self.rows["place"] == place)]
        return own.iloc[0]

    def name(self, place: int) -> str:
        """Class of a target."""
        return str(self.rows[self.rows["place"] == place]["target_name"].iloc[0])

    def panel(self, method: str, place: int, note: str = "", title: str | None = None) -> Panel:
        """The map of the target at `place` over the picture, under the target's name."""
        name = short_name(self.name(place)) if title is None else title
        return Panel(self.picture, relevance_of(self.row(method, place)), name, note)

    def net(self, method: str, place: int, region: str) -> float:
        """Signed mass of a region as a share of all mass, in [-1, 1]; of "all" in all."""
        row, end = self.row(method, place), "" if region == "all" else f"_{region}"
        whole = row["positive"] + row["negative"]
        return float((row[f"positive{end}"] - row[f"negative{end}"]) / whole) if whole else 0.0


def views_in(stored: Stored, rows: pd.DataFrame) -> list[ShownView]:
    """The views of some of the run's shown rows, in order."""
    return [
        ShownView(
            str(model),
            str(image),
            str(kind),
            stored.picture(picture_name(str(model), str(image), str(kind))),
            part,
        )
        for (model, image, kind), part in rows.groupby(["model", "image_id", "view"], sort=False)
    ]


def pictures_of(vit: ViT, views: Iterable[View]) -> dict[str, Tensor]:
    """What the model sees of the views, as `Rows.pictures` takes it."""
    return {f"{vit.name} {view.id}": pixels_of(vit.preprocess, view.image) for view in views}


def picture_name(model: str, image_id: str, kind: str) -> str:
    """Name of the picture of a view."""
    return f"{model} {image_id}" if kind == ALONE else f"{model} {image_id}@{kind}"


def net_note(view: ShownView, method: str, place: int) -> str:
    """Signed mass of the object, where it is known, and of the whole map."""
    whole = f"all {signed(view.net(method, place, 'all'))}"
    if not view.regions:
        return whole
    return f"object {signed(view.net(method, place, 'target'))}, {whole}"


def parts_note(view: ShownView, method: str) -> str:
    """Signed mass of the picture's part and of the guide's; without a guide, `net_note`."""
    if pd.isna(view.row(method, 0)["area_guide"]):
        return net_note(view, method, 0)
    own, guide = (signed(view.net(method, 0, region)) for region in ("own", "guide"))
    return f"picture {own}, guide {guide}"


def draw_beside(shown: Sequence[ShownView], kind: str, methods: Sequence[str]) -> Figure:
    """A row per picture: alone and guided, each with the first method, then the other methods.

    Args:
        shown: Views of every picture, alone and of the `kind` beside a guide.
        kind: Of the guided views.
        methods: In order.
    """
    guided, first = {view.id: view for view in shown if view.kind == kind}, methods[0]
    rows = [
        [
            Panel(view.picture, title=short_name(view.name(0)), note=view.note),
            view.panel(first, 0, parts_note(view, first), ""),
            Panel(guided[view.id].picture, title="with a guide"),
            *(guided[view.id].panel(m, 0, parts_note(guided[view.id], m), "") for m in methods),
        ]
        for view in shown
        if view.kind == ALONE
    ]
    titles = ["image", f"{method_label(first)}, alone", "guided"]
    titles += [f"{method_label(method)}, guided" for method in methods]
    return draw_panels(rows, column_titles=titles, letters=True)


def viewer_pictures(stored: Stored) -> list[ShownPicture]:
    """Every stored picture with its maps by method, for the report's viewer; of steps the last."""
    rows = stored.all_rows
    if "relevance" not in rows:
        return []
    rows = rows[rows["relevance"].notna()]
    if "step" in rows:
        rows = rows[rows["step"] == rows["step"].max()]
    keys = [name for name in ("model", "image_id", "view", "target", "reference") if name in rows]
    found = []
    for _, part in rows.groupby(keys, sort=False):
        first = part.iloc[0]
        png = _picture_bytes(stored, first)
        if png is not None:
            column = next((name for name in ("method", "loss") if name in part), None)
            labels = part[column] if column else ["complete"] * len(part)
            maps = dict(zip(labels, map(relevance_of, part.itertuples()), strict=True))
            kind = str(first.get("view", ""))
            where = "" if kind in ("", ALONE) else f", {kind}"
            name = without_wnid(str(first["image_id"])).replace("+", " + ")
            title = f"{name}{where}: {short_name(str(first.get('target_name', '')))}"
            target = int(first["target"]) if "target" in part else None
            found.append(ShownPicture(str(first["image_id"]), title, png, maps, target))
    return found


def _picture_bytes(stored: Stored, row: pd.Series[Any]) -> bytes | None:
    model, image, kind = (str(row.get(name, "")) for name in ("model", "image_id", "view"))
    for name in (picture_name(model, image, kind), f"{model} {image}", image):
        path = picture_file(stored.run_dir, name)
        if path.is_file():
            return path.read_bytes()
    return None


BAND = 8  # methods beside each other
Note = Callable[[ShownView, str, int], str]


def draw_bands(
    shown: Sequence[ShownView], methods: Sequence[str], note: Note, places: int | None = None
) -> Figure:
    """Every shown picture with every method's map.

    Args:
        shown: In order.
        methods: In order.
        note: What stands beneath the map of a view, method and target.
        places: How many targets of each picture; all by default.
    """
    rows, titles = [], []
    bands = -(-len(methods) // max(1, fitting(BAND + 1) - 1))
    beside = -(-len(methods) // bands)
    for start in range(0, len(methods), beside):
        band = methods[start : start + beside]
        for number, view in enumerate(shown):
            for place in range(len(view.targets[:places])):
                top = number == place == 0
                row = [Panel(view.picture, note=view.note)]
                for method in band:
                    title = method_label(method) if top else ""
                    row.append(view.panel(method, place, note(view, method, place), title))
                rows.append(row)
                titles.append(short_name(view.name(place)))
    return draw_panels(rows, row_titles=titles, panel_width=1.15)
