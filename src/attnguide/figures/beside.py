"""Pictures alone and with a guide beside them, drawn."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from attnguide.data.views import ALONE
from attnguide.figures.experiment import Stored
from attnguide.figures.map_figure import by_model
from attnguide.figures.shown import ShownView, net_note
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label, signed

COMPOSED = "composed"  # kind of views in which the guide's object stands in the picture itself
PER_ROW = 5  # panels of the sweep


def draw_guided(stored: Stored, main: str) -> tuple[Figure, dict[str, Figure]]:
    """Maps alone and guided; the other models' by heading, and the sweep of the first picture.

    Args:
        stored: The run.
        main: Kind of the views with the guide as configured.
    """
    methods = stored.methods
    figures = {model: _maps(views, main, methods) for model, views in by_model(stored)}
    first, views = by_model(stored)[0]
    swept = [view for view in views if view.id == views[0].id]
    panels = [view.panel(methods[0], 0, _note(view, methods[0]), view.kind) for view in swept]
    sweep = draw_panels([panels[n : n + PER_ROW] for n in range(0, len(panels), PER_ROW)])
    figure = figures.pop(first)
    more = {f"Maps of {model}": drawn for model, drawn in figures.items()}
    return figure, more | {"Other places, shares and fits of the guide": sweep}


def _maps(shown: Sequence[ShownView], main: str, methods: Sequence[str]) -> Figure:
    """A row per picture: alone and guided, each with the first method, then the other methods."""
    guided = {view.id: view for view in shown if view.kind == main}
    rows = []
    for view in (view for view in shown if view.kind == ALONE):
        beside = guided[view.id]
        rows.append(
            [
                Panel(view.picture, title=short_name(view.name(0)), note=view.note),
                view.panel(methods[0], 0, _note(view, methods[0]), ""),
                Panel(beside.picture, title="with a guide"),
                *(beside.panel(method, 0, _note(beside, method), "") for method in methods),
            ]
        )
    titles = ["image", f"{method_label(methods[0])}, alone", "guided"]
    titles += [f"{method_label(method)}, guided" for method in methods]
    return draw_panels(rows, column_titles=titles)


def _note(view: ShownView, method: str) -> str:
    """Signed mass of the picture's part and of the guide's; alone, of the object."""
    if view.kind in (ALONE, COMPOSED):
        return net_note(view, method, 0)
    own, guide = (signed(view.net(method, 0, region)) for region in ("own", "guide"))
    return f"picture {own}, guide {guide}"
