"""Maps of many methods: bands of methods, in each a row per picture and target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attnguide.figures.shown import ShownView
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    for start in range(0, len(methods), BAND):
        band = methods[start : start + BAND]
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
