"""One page about a run: claims, figure, pictures with their maps, tables, settings, files."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from attnguide.errors import InputError
from attnguide.findings import Findings, ShownPicture
from attnguide.report.render import render_page
from attnguide.report.tables import claim_lines, facts, table_view
from attnguide.store.files import write_atomic
from attnguide.viz.style import RELEVANCE_COLOURS, method_label, render

MAX_FIGURES, MAX_PICTURES = 9_000_000, 5_000_000  # characters of a page, which stays under 15 MB
LISTED_FOLDERS = ("pictures", "shown", "parts", "logs")


def write_report(
    run_dir: Path,
    findings: Findings,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    viewer: Sequence[ShownPicture] = (),
) -> Path:
    """Write `report.html` and return its path.

    Figures and maps are embedded, the main figure from `figure.png` if the run has written it
    already; the page asks for nothing from outside.

    Args:
        run_dir: Of the run.
        findings: Claims, figures, tables and sentences, with title and claim.
        config: Every setting, plain values.
        provenance: Commit, versions, device, time and the like, plain values.
        viewer: Pictures whose maps can be looked at.
    """
    path, drawn = Path(run_dir) / "report.html", Path(run_dir) / "figure.png"
    figure = drawn.read_bytes() if drawn.is_file() else render(findings.figure)
    files = list_files(path.parent)
    html = page(findings, config, provenance, figure, viewer=viewer, files=files)
    write_atomic(path, html.encode())
    return path


def page(
    findings: Findings,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    figure: bytes,
    *,
    viewer: Sequence[ShownPicture] = (),
    files: Iterable[tuple[str, str]] = (),
    source: str = "results.parquet and the csv files",
) -> str:
    """The whole document; `figure` is the PNG of the main figure, `source` the files behind it."""
    pngs = [figure, *(render(drawing) for drawing in findings.figures.values())]
    drawings = [_drawing(png) for png in _fitted(pngs)]
    pictures, omitted = _embedded(viewer)
    return render_page(
        "page.html",
        image_sources="data:",
        title=findings.title,
        kicker=_kicker(config),
        claim=findings.claim,
        lines=claim_lines(findings.claims),
        found=findings.found,
        drawing=drawings[0]
        | {"alt": findings.caption or findings.title, "caption": findings.caption},
        drawings=[
            (name, drawing | {"alt": name, "caption": ""})
            for name, drawing in zip(findings.figures, drawings[1:], strict=True)
        ],
        summary=table_view(findings.summary),
        tables=[(name, table_view(table)) for name, table in findings.tables.items()],
        images=table_view(findings.images, partial(_link, pictures)),
        pictures=[{"title": p.title, "data": b64encode(p.png).decode()} for p in pictures],
        viewer={"colours": RELEVANCE_COLOURS, "pictures": [_record(p) for p in pictures]},
        omitted=omitted,
        settings=list(facts(config)),
        provenance=list(facts(provenance)),
        files=list(files),
        source=source,
    )


def _link(pictures: Sequence[ShownPicture], row: Mapping[Any, Any]) -> str:
    """Where the map of a row of single pictures is shown; empty where it is not."""
    same = [n for n, shown in enumerate(pictures) if shown.id == row["image_id"]]
    exact = [n for n in same if pictures[n].facts.get("target") == row.get("target")]
    place = next(iter(exact or same), None)
    if place is None:
        return ""
    method = row.get("method")
    shown = f"/{quote(str(method))}" if method in pictures[place].maps else ""
    return f"#picture-{place}{shown}"


def list_files(run_dir: Path) -> list[tuple[str, str]]:
    """Name and size of everything that a run has written, relative to its page."""
    found = []
    for path in sorted(run_dir.iterdir()):
        if path.name.startswith(".") or path.name == "report.html" or path.is_symlink():
            continue
        if path.is_file():
            found.append((path.name, _size(path.stat().st_size)))
        elif path.name in LISTED_FOLDERS:
            count = sum(1 for inside in path.iterdir() if inside.is_file())
            found.append((f"{path.name}/", f"{count} files"))
    return found


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(count / 1e3, 0.1):.1f} kB"


def _kicker(config: Mapping[str, Any]) -> str:
    """The line above the title: experiment, scale and models, where the settings name them."""
    model = config.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    names = ", ".join(map(str, name)) if isinstance(name, list | tuple) else name
    parts = (config.get("experiment"), config.get("scale"), names)
    return " · ".join(str(part) for part in parts if part)


def _drawing(png: bytes) -> dict[str, Any]:
    width = round(0.6 * int.from_bytes(png[16:20]))  # the header's width; 0.6 keeps it crisp
    return {"data": b64encode(png).decode(), "width": width}


def _fitted(pngs: Sequence[bytes]) -> list[bytes]:
    """The same pictures, the largest of them made smaller until all fit on the page."""
    fitted = list(pngs)
    while sum(map(len, fitted)) * 4 / 3 > MAX_FIGURES:
        largest = max(range(len(fitted)), key=lambda number: len(fitted[number]))
        with Image.open(io.BytesIO(fitted[largest])) as opened:
            small = opened.convert("RGB").resize([max(1, round(0.8 * n)) for n in opened.size])
        buffer = io.BytesIO()
        small.save(buffer, "PNG")
        fitted[largest] = buffer.getvalue()
    return fitted


def _embedded(viewer: Sequence[ShownPicture]) -> tuple[list[ShownPicture], str]:
    """The pictures that fit on the page, and a sentence about the others."""
    kept: list[ShownPicture] = []
    room = MAX_PICTURES
    for shown in viewer:
        if not shown.maps:
            raise InputError(f"picture {shown.id!r} has no map to look at; leave it out")
        room -= (len(shown.png) + sum(4 * np.asarray(m).size for m in shown.maps.values())) * 4 // 3
        if room < 0:
            names = f"The first {len(kept)} of {len(viewer)} pictures"
            return kept, f"{names} are on this page; the maps of all are in maps.npz."
        kept.append(shown)
    return kept, ""


def _record(shown: ShownPicture) -> dict[str, Any]:
    """What the viewer's script reads: maps as little-endian float32."""
    maps = {}
    for method, relevance in shown.maps.items():
        values = np.asarray(relevance, dtype="<f4")
        if values.ndim != 2 or not np.isfinite(values).all():
            raise InputError(
                f"the map of {method} on {shown.id!r} must be (rows, cols) and finite, got "
                f"{values.shape}"
            )
        maps[method] = {
            "rows": values.shape[0],
            "cols": values.shape[1],
            "data": b64encode(values.tobytes()).decode(),
            "label": method_label(method),
            "note": shown.notes.get(method, ""),
        }
    return {"title": shown.title, "maps": maps}
