"""Many runs as one: tables of all their summaries and claims, one figure, one page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from attnguide.findings import Findings
from attnguide.report.index import index_page, read_run
from attnguide.report.page import page
from attnguide.runs.console import print_summary
from attnguide.runs.objects import build, build_logger
from attnguide.runs.settings import FREE
from attnguide.store.config import flat, load_config
from attnguide.store.files import csv_bytes, write_atomic
from attnguide.store.provenance import Provenance
from attnguide.viz.dots import Dot, DotPanel, draw_dots
from attnguide.viz.style import render

VALUES = ("auc", "value")  # what a summary's interval belongs to
NUMBERS = (*VALUES, "ci_low", "ci_high", "n")
MAX_PANELS = 24
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # damaged, or not ours


@dataclass(frozen=True)
class StoredRun:
    """A finished run.

    Attributes:
        name: its folder, relative to where was looked.
        settings: by dotted name, without those that say where and how fast; `methods` are the
            names of its methods.
        summary: its summary.csv.
        claims: its claims.csv.
        found: what came out, in sentences.
    """

    name: str
    settings: dict[str, Any]
    summary: pd.DataFrame
    claims: pd.DataFrame
    found: tuple[str, ...] = ()


def aggregate(config: Mapping[str, Any], root: Path, console: Console) -> None:
    """One table, figure and page of all finished runs below a folder (`stage=aggregate`)."""
    runs, left_out = find_runs(root)
    for name, why in left_out:
        console.print(f"left out: {name} ({why})", markup=False, highlight=False, soft_wrap=True)
    findings = gather(runs)
    write_aggregate(root, runs, findings, left_out)
    write_index(root, dict(left_out))
    with build_logger(config["logger"]).open(root, {"experiment": "aggregate"}) as tracker:
        tracker.log(findings)
    print_summary(findings, root / "aggregate.png", root / "index.html", console)


def write_index(root: Path, left_out: Mapping[str, str], title: str = "All runs") -> Path:
    """One page of all finished runs below a folder, `index.html`.

    Args:
        root: The folder.
        left_out: Why others are not there, by name; what is found unfinished is named too.
        title: Of the page.
    """
    records, why = [], dict(left_out)
    for folder in _run_folders(root):
        name = str(folder.relative_to(root))
        try:
            lacks = _what_lacks(folder)
            if lacks:
                why.setdefault(name, lacks)
            else:
                records.append(read_run(root, name))
        except (OSError, ValueError) as error:
            why.setdefault(name, str(error).splitlines()[0])
    path = root / "index.html"
    write_atomic(path, index_page(records, why, title).encode())
    return path


def dashboard(config: Mapping[str, Any], run_dir: Path, console: Console) -> None:
    """Define the panels of W&B for the config's methods and models (`stage=dashboard`)."""
    from attnguide.tracking.dashboard import build as panels_of
    from attnguide.tracking.dashboard import publish

    logger, models = build_logger(config["logger"]), build(config["model"], "model")
    workspace = panels_of(logger, list(config["method"]), list(models.names))
    folder = run_dir if run_dir.is_dir() else Path("outputs")
    message = publish(workspace, logger, folder)
    console.print(message, markup=False, highlight=False, soft_wrap=True)


def find_runs(root: Path) -> tuple[list[StoredRun], list[tuple[str, str]]]:
    """The finished runs below a folder, and name and reason of the others.

    Raises:
        FileNotFoundError: no finished run.
    """
    finished, left_out = [], []
    for folder in _run_folders(root):
        name = str(folder.relative_to(root)) if folder != root else root.name
        try:
            why = _what_lacks(folder)
            if not why:
                finished.append(_read(folder, name))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:  # damaged, or not ours
            why = f"cannot be read: {str(error).splitlines()[0]}"
        if why:
            left_out.append((name, why))
    if not finished:
        named = "; ".join(f"{name}: {why}" for name, why in left_out[:8])
        raise FileNotFoundError(
            f"no finished run below {root}"
            + (f" ({named}); run these commands again" if named else "; pass run_dir=FOLDER")
        )
    return finished, left_out


def _read(folder: Path, name: str) -> StoredRun:
    told = json.loads((folder / "findings.json").read_text())
    summary, claims = (pd.read_csv(folder / f"{stem}.csv") for stem in ("summary", "claims"))
    return StoredRun(name, _settings(load_config(folder)), summary, claims, tuple(told["found"]))


def gather(runs: Sequence[StoredRun]) -> Findings:
    """Rows of all summaries with the settings that differ as columns, and all means in a figure."""
    keys = differing([run.settings for run in runs])
    parts = []
    for run in runs:
        part = run.summary.copy()
        for place, key in enumerate(keys):
            part.insert(place, key if key not in part else f"{key} (setting)", _shown(run, key))
        part["run"] = run.name
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    first = parts[0].columns
    table = table[[*first, *(name for name in table if name not in first)]]
    panels = _panels(runs, keys)
    left_out = max(len(panels) - MAX_PANELS, 0)
    cut = f" {left_out} further quantities are in the table only." if left_out else ""
    claims = pd.concat([run.claims.assign(run=run.name) for run in runs], ignore_index=True)
    differ = ", ".join(keys) or "nothing but the folder"
    return Findings(
        figure=draw_dots(panels[:MAX_PANELS]) if panels else Figure(),
        summary=table,
        caption=f"Means and intervals of {len(runs)} runs, which differ in {differ}.{cut}",
        claims=claims,
        found=(f"{len(runs)} finished runs, {len(table)} rows; they differ in {differ}.",),
        title=f"{len(runs)} runs in one table",
    )


def write_aggregate(
    root: Path,
    runs: Sequence[StoredRun],
    findings: Findings,
    left_out: Sequence[tuple[str, str]],
) -> None:
    """Write `aggregate.csv`, `claims.csv`, and `aggregate` as png, pdf and html."""
    write_atomic(root / "aggregate.csv", csv_bytes(findings.summary))
    write_atomic(root / "claims.csv", csv_bytes(findings.claims))
    for kind in ("png", "pdf"):
        write_atomic(root / f"aggregate.{kind}", render(findings.figure, kind))
    differ = differing([run.settings for run in runs])
    shared = {key: value for key, value in runs[0].settings.items() if key not in differ}
    origin = {"runs": [run.name for run in runs], "left out": [f"{n} ({w})" for n, w in left_out]}
    png = (root / "aggregate.png").read_bytes()
    write_atomic(root / "aggregate.html", page(findings, shared, origin, png).encode())
    records = [read_run(root, run.name) for run in runs if run.name != root.name]
    write_atomic(root / "index.html", index_page(records, dict(left_out)).encode())


def differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the settings that have more than one value among the runs that have them."""
    names = dict.fromkeys(key for one in settings for key in one)
    values = {key: {json.dumps(s[key], default=str) for s in settings if key in s} for key in names}
    return [key for key in names if len(values[key]) > 1]


def _run_folders(root: Path) -> list[Path]:
    """Folders with the config of a run; one that holds other runs is stood for by these."""
    found: list[Path] = []
    for folder, inside, files in os.walk(root):
        inside[:] = sorted(n for n in inside if n[0] != "." and n not in ("wandb", "parts"))
        if "config.yaml" in files:
            found.append(Path(folder))
    above = {parent for folder in found for parent in folder.parents}
    return [folder for folder in found if folder not in above]


def _what_lacks(folder: Path) -> str:
    """Why a run cannot be counted in yet; empty for a finished one."""
    path = folder / "provenance.json"
    if path.is_file():
        if not json.loads(path.read_text()).get("finished"):
            return "not finished"
        if not (folder / "summary.csv").is_file():
            return "not drawn: stage=draw"
        provenance = Provenance(folder)
        whole = "files" not in provenance.values or provenance.is_drawn
        return "" if whole else "drawn in part, or changed since: stage=draw"
    shards = [json.loads(shard.read_text()) for shard in (folder / "parts").glob("*.json")]
    if shards:
        return f"{sum(bool(s.get('finished')) for s in shards)} shards finished, not merged"
    return "not begun"


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted name; an object's `_target_` stands for the object."""
    methods = config.pop("method", {})
    config.get("runner", {}).pop("_target_", None)  # the experiment says it
    kept = {key: value for key, value in flat(config).items() if not key.startswith(FREE)}
    own = {f"method.{key}": value for key, value in flat(methods).items()}
    found = kept | ({"methods": list(methods)} if methods else {}) | own
    return {
        key.removesuffix("._target_"): value
        for key, value in found.items()
        if not key.endswith("._partial_")
    }


def _shown(run: StoredRun, key: str) -> Any:
    value = run.settings.get(key)
    return "+".join(map(str, value)) if isinstance(value, list) else value


def _panels(runs: Sequence[StoredRun], keys: Sequence[str]) -> list[DotPanel]:
    """A panel per experiment and quantity; in it a row per setting, in it a dot per method."""
    found: dict[tuple[str, ...], dict[str, dict[str, Dot]]] = {}
    several = len({str(m) for run in runs for m in run.summary.get("model", [])}) > 1
    for run in runs:
        value = next((name for name in VALUES if name in run.summary), None)
        if value is None or "ci_low" not in run.summary:
            continue
        by_method = "method" in run.summary
        names = [k for k in keys if k != "experiment" and not (k == "methods" and by_method)]
        setting = ", ".join(f"{k.split('.')[-1]} {_shown(run, k)}" for k in names)
        kinds = [c for c in run.summary if c not in (*NUMBERS, "method", "model")]
        for line in run.summary.to_dict("records"):
            quantity = tuple(str(line[kind]) for kind in kinds)
            model = str(line.get("model", "")).split("_patch")[0] if several else ""
            row = ", ".join(part for part in (model, setting) if part)
            method = str(line.get("method", "complete"))
            dot = Dot(method, line[value], line["ci_low"], line["ci_high"])
            experiment = str(run.settings.get("experiment"))
            rows = found.setdefault((experiment, value, *quantity), {})
            if rows.get(row, {}).get(method, dot) != dot:  # the same settings, another outcome
                row = f"{row} {run.name}".strip()
            rows.setdefault(row, {})[method] = dot
    return [
        DotPanel(
            ", ".join((experiment.split("_")[0], *quantity)),
            "AUC (%)" if value == "auc" else "value",
            [(name, list(dots.values())) for name, dots in rows.items()],
            (0, 100) if value == "auc" else _limits(rows.values()),
        )
        for (experiment, value, *quantity), rows in found.items()
    ]


def _limits(rows: Iterable[dict[str, Dot]]) -> tuple[float, float]:
    dots = [dot for row in rows for dot in row.values()]
    ends = [end for dot in dots for end in (dot.low, dot.high, dot.value) if pd.notna(end)]
    low, high = min(0.0, *ends, 0.0), max(0.0, *ends, 0.0)
    return low * 1.05, high * 1.05 if high > low else 1.0
