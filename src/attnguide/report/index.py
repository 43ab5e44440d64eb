"""One page about many figures: what each claims, shows and found, with links to its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_FILES = (
    "report.html",
    "figure.pdf",
    "summary.csv",
    "results.parquet",
    "maps.npz",
    "animation.gif",
)
_STYLE = """
:root { color-scheme: light dark; --page: #fbfaf8; --ink: #1d1d21; --quiet: #65656e;
  --line: #e4e2dd; --red: #b3202c; }
@media (prefers-color-scheme: dark) { :root { --page: #15161a; --ink: #e8e7e3; --quiet: #9c9ca6;
  --line: #33353c; --red: #ef7a7f; } }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 4rem; background: var(--page);
  color: var(--ink); font: 17px/1.6 Georgia, "Times New Roman", serif; }
h2 { margin: 3.2rem 0 .6rem; border-top: 1px solid var(--line); padding-top: 1.6rem; }
blockquote { margin: 0 0 1rem; padding-left: 1rem; border-left: 3px solid var(--line);
  font-style: italic; max-width: 44rem; }
img { display: block; max-width: 100%; max-height: 46rem; margin: 0 auto; background: #ffffff;
  border: 1px solid var(--line); border-radius: 8px; padding: .8rem; box-sizing: border-box; }
.small, table { font: .88rem/1.5 system-ui, sans-serif; color: var(--quiet); }
td, th { padding: .15rem 1.2rem .15rem 0; text-align: left; } .bad { color: var(--red); }
li::marker { color: var(--red); } li { margin: .35rem 0; }
"""


def read_run(run_dir: Path, name: str) -> dict[str, Any]:
    """Title, claim, caption, sentences, time and memory of a finished run in a subfolder.

    Raises:
        FileNotFoundError: not finished.
    """
    folder = run_dir / name
    told = json.loads((folder / "findings.json").read_text())
    measured = json.loads((folder / "provenance.json").read_text())
    cost = {key: measured.get(key) for key in ("seconds", "peak_memory_mb")}
    files = [file for file in _FILES if (folder / file).is_file()]
    return {"name": name, **told, **cost, "files": files}


def overview_html(runs: Sequence[Mapping[str, Any]], failed: Mapping[str, str]) -> str:
    """The page; pictures and files are linked, not copied.

    Args:
        runs: From `read_run`.
        failed: What went wrong, by name.
    """
    lines = [
        f"<tr><td><a href='#{run['name']}'>{escape(run['title'])}</a></td>"
        f"<td>{run['seconds']:.0f} s</td><td>{run['peak_memory_mb']} MB</td></tr>"
        for run in runs
    ]
    lines += [
        f"<tr class='bad'><td>{escape(name)}</td><td colspan='2'>failed: {escape(why)}</td></tr>"
        for name, why in failed.items()
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>All figures</title><style>{_STYLE}</style></head><body><h1>All figures</h1>"
        f"<table>{''.join(lines)}</table>{''.join(map(_section, runs))}</body></html>\n"
    )


def _section(run: Mapping[str, Any]) -> str:
    name = run["name"]
    found = "".join(f"<li>{escape(sentence)}</li>" for sentence in run["found"])
    links = " · ".join(f"<a href='{name}/{file}'>{file}</a>" for file in run["files"])
    return (
        f"<h2 id='{name}'>{escape(run['title'])}</h2>"
        f"<blockquote>{escape(run['claim'])}</blockquote>"
        f"<a href='{name}/report.html'><img loading='lazy' src='{name}/figure.png' "
        f"alt='{escape(run['title'], quote=True)}'></a>"
        f"<p class='small'>{escape(run['caption'])}</p><ul>{found}</ul><p class='small'>{links}</p>"
    )
