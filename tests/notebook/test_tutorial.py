"""The tutorial runs as it stands, and is stored with its outputs."""

import json
from pathlib import Path

import pytest

from attnguide.viz.panels import Panel, draw_panels

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"
MIB = 2**20


def outputs(notebook):
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return cells, [output for cell in cells for output in cell["outputs"]]


def test_it_is_stored_with_small_outputs_of_no_machine():
    cells, made = outputs(json.loads(NOTEBOOK.read_text()))
    assert NOTEBOOK.stat().st_size <= MIB
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum("image/png" in output.get("data", {}) for output in made) >= 4
    assert {output["output_type"] for output in made} <= {"execute_result", "stream"}
    assert not [output for output in made if output.get("name") == "stderr"]
    assert "site-packages" not in NOTEBOOK.read_text()


def test_a_cell_shows_a_figure_without_pyplot():
    import numpy as np

    shown = draw_panels([[Panel(np.zeros((8, 8, 3), np.float32))]])._repr_png_()
    assert shown[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
def test_it_runs(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    stored = nbformat.read(NOTEBOOK, 4)
    again = nbformat.read(NOTEBOOK, 4)
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(again, timeout=600, kernel_name="python3", resources=place).execute()
    words = [  # what was printed, without what depends on how a machine rounds
        ["".join(o.get("text", "")).split("[")[0][:20] for o in outputs(each)[1]]
        for each in (stored, again)
    ]
    assert words[0] == words[1]
