"""One page about a run: claims, figure, pictures with their maps, tables, settings, files."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from attnguide.evaluation.statistics import VERDICTS
from attnguide.findings import Findings, ShownPicture
from attnguide.report.table_view import as_text, claim_lines, table_view
from attnguide.store.files import write_atomic
from attnguide.store.folder import flat
from attnguide.viz.style import RELEVANCE_COLOURS, method_label, minus, render, without_wnid

MAX_PICTURES = 5_000_000  # characters that pictures and their maps take of a page
LISTED_FOLDERS = ("pictures", "shown", "parts", "logs")
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,  # names, titles and settings are data
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["readable"] = lambda text: without_wnid(minus(text))


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
    sizes = accumulate(4 * (len(p.png) + 4 * sum(map(np.size, p.maps.values()))) // 3
                       for p in viewer)  # fmt: skip
    pictures = [p for p, size in zip(viewer, sizes, strict=True) if size <= MAX_PICTURES]
    return render_page(
        "page.html",
        image_sources="data:",
        title=findings.title,
        about=[config.get("experiment"), config.get("scale"), _models(config)],
        verdict=_verdict(findings.claims),
        findings=findings,
        lines=claim_lines(findings.claims),
        drawing=_drawing(figure, findings.caption or findings.title, findings.caption),
        drawings=[
            (name, _drawing(render(drawn), name)) for name, drawn in findings.figures.items()
        ],
        summary=table_view(findings.summary),
        tables=[(name, table_view(table)) for name, table in findings.tables.items()],
        images=table_view(findings.images, partial(_link, pictures)),
        pictures=[{"title": p.title, "data": b64encode(p.png).decode()} for p in pictures],
        viewer={"colours": RELEVANCE_COLOURS, "pictures": [_record(p) for p in pictures]},
        count=len(viewer),
        settings={name: as_text(value) for name, value in flat(config).items()},
        provenance={name: as_text(value) for name, value in flat(provenance).items()},
        files=list(files),
        source=source,
    )


def render_page(template: str, *, image_sources: str, **values: Any) -> str:
    """The document of a template, which runs no script and takes no style but the page's own.

    Args:
        template: Name of a file in `templates`.
        image_sources: Where pictures may come from, in the words of a Content-Security-Policy.
        values: What the template names; all of it is escaped.
    """
    style = TEMPLATES.get_template("style.css").render(colours=RELEVANCE_COLOURS)
    script = TEMPLATES.get_template("page.js").render()
    policy = (
        f"default-src 'none'; img-src {image_sources}; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return TEMPLATES.get_template(template).render(
        **values, policy=Markup(policy), style=Markup(style), script=Markup(script)
    )


def _hash(text: str) -> str:
    """As browsers compare what stands between the tags."""
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()


def list_files(run_dir: Path) -> list[tuple[str, str]]:
    """Name and size of everything that a run has written, relative to its page."""
    found = []
    for path in sorted(run_dir.iterdir()):
        if path.name.startswith(".") or path.name == "report.html" or path.is_symlink():
            continue
        if path.is_file():
            size = path.stat().st_size
            text = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(size / 1e3, 0.1):.1f} kB"
            found.append((path.name, text))
        elif path.name in LISTED_FOLDERS:
            count = sum(inside.is_file() for inside in path.iterdir())
            found.append((f"{path.name}/", f"{count} files"))
    return found


def _verdict(claims: pd.DataFrame) -> str:
    """How many claims hold, in a sentence; of the paper's and of ours apart."""
    sentences = []
    for source, whose in (("paper", "the paper"), ("ours", "ours")):
        count = Counter(claims.loc[claims["source"] == source, "verdict"])
        words = ", ".join(f"{count[v]} \N{MULTIPLICATION SIGN} {v}" for v in VERDICTS if v in count)
        sentences += [f"Claims of {whose}: {words}."] * bool(count)
    return " ".join(sentences)


def _models(config: Mapping[str, Any]) -> str:
    """Names of the models, where the settings name them."""
    model = config.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    return as_text(name) if name else ""


def _drawing(png: bytes, alt: str, caption: str = "") -> dict[str, Any]:
    width = round(0.6 * int.from_bytes(png[16:20]))  # the header's width; 0.6 keeps it crisp
    return {"data": b64encode(png).decode(), "width": width, "alt": alt, "caption": caption}


def _link(pictures: Sequence[ShownPicture], row: Mapping[Any, Any]) -> str:
    """Where the map of a row of single pictures is shown; empty where it is not."""
    same = [n for n, shown in enumerate(pictures) if shown.id == row["image_id"]]
    exact = [n for n in same if pictures[n].target == row.get("target")]
    if not same:
        return ""
    place, method = (exact or same)[0], row.get("method")
    shown = f"/{quote(str(method))}" if method in pictures[place].maps else ""
    return f"#picture-{place}{shown}"


def _record(shown: ShownPicture) -> dict[str, Any]:
    """What the viewer's script reads: maps as little-endian float32."""
    maps = {
        method: {
            "rows": np.shape(relevance)[0],
            "cols": np.shape(relevance)[1],
            "data": b64encode(np.asarray(relevance, "<f4").tobytes()).decode(),
            "label": method_label(method),
        }
        for method, relevance in shown.maps.items()
    }
    return {"title": shown.title, "maps": maps}
