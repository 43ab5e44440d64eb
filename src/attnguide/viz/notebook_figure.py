"""A figure that a notebook shows by itself."""

from __future__ import annotations

from matplotlib.figure import Figure

from attnguide.viz.style import render

DENSITY = 100  # dots per inch: notebooks keep every picture


class NotebookFigure(Figure):
    """Matplotlib's figure, without pyplot; what a cell ends with is drawn below it."""

    def _repr_png_(self) -> bytes:
        """The picture, as IPython asks for it."""
        return render(self, dpi=DENSITY)
