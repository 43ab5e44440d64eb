"""Many runs as one: tables of all their summaries and claims, one figure, one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from attnguide.findings import Findings
from attnguide.report.index import RunRecord, index_page, read_run
from attnguide.report.page import page
from attnguide.runs.console import print_summary
from attnguide.runs.objects import build, build_logger
from attnguide.runs.settings import NOT_COMPARED
from attnguide.store.files import csv_bytes, write_atomic
from attnguide.store.folder import RunFolder, flat
from attnguide.store.provenance import Provenance
from attnguide.viz.dots import Dot, DotPanel, draw_dots
from attnguide.viz.style import render

VALUES = ("auc", "value")  # what a summary's interval belongs to
NUMBERS = (*VALUES, "ci_low", "ci_high", "n")
MAX_PANELS = 24
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # damaged, or not ours


def aggregate(config: Mapping[str, Any], root: Path, console: Console) -> None:
    """One table, figure and page of all finished runs below a folder (`stage=aggregate`).

    Raises:
        FileNotFoundError: no finished run.
    """
    runs, left_out = find_runs(root)
    missing = [f"{name} ({why})" for name, why in left_out.items()]
    for line in missing:
        console.print(f"left out: {line}")
    if not runs:
        named = "; ".join(missing[:8])
        raise FileNotFoundError(
            f"no finished run below {root}"
            + (f": {named}; run these commands again" if named else "; pass run_dir=FOLDER")
        )
    settings = settings_of(runs)
    findings = gather(runs, settings)
    write_atomic(root / "aggregate.csv", csv_bytes(findings.summary))
    write_atomic(root / "claims.csv", csv_bytes(findings.claims))
    for kind in ("png", "pdf"):
        write_atomic(root / f"aggregate.{kind}", render(findings.figure, kind))
    first = settings.drop(columns=differing(settings)).iloc[0]
    shared = {str(key): value for key, value in first.items() if repr(value) != "nan"}
    origin = {"runs": [run.name for run in runs], "left out": missing}
    png = (root / "aggregate.png").read_bytes()
    write_atomic(root / "aggregate.html", page(findings, shared, origin, png).encode())
    write_atomic(root / "index.html", index_page(runs, left_out, "All runs").encode())
    with build_logger(config["logger"]).open(root, {"experiment": "aggregate"}) as tracker:
        tracker.log(findings)
    print_summary(findings, root / "aggregate.png", root / "index.html", console)


def write_index(root: Path, left_out: Mapping[str, str], title: str) -> Path:
    """One page of all finished runs below a folder, `index.html`.

    Args:
        root: The folder.
        left_out: Why others are not there, by name; what is found unfinished is named too.
        title: Of the page.
    """
    runs, unfinished = find_runs(root)
    path = root / "index.html"
    write_atomic(path, index_page(runs, {**unfinished, **left_out}, title).encode())
    return path


def dashboard(config: Mapping[str, Any], run_dir: Path, console: Console) -> None:
    """Define the panels of W&B for the config's methods and models (`stage=dashboard`)."""
    from attnguide.tracking.dashboard import build as panels_of
    from attnguide.tracking.dashboard import publish

    logger, models = build_logger(config["logger"]), build(config["model"], "model")
    workspace = panels_of(logger, list(config["method"]), list(models.names))
    console.print(publish(workspace, logger, run_dir if run_dir.is_dir() else Path("outputs")))


def find_runs(root: Path) -> tuple[list[RunRecord], dict[str, str]]:
    """The finished runs below a folder, and why others are left out, by name.

    Runs are folders with a config.yaml; one that holds other runs is represented by these. What
    W&B keeps inside a run is none.
    """
    names = [path.parent.relative_to(root) for path in root.rglob("config.yaml")]
    names = sorted(n for n in names if not any(p == "wandb" or p[0] == "." for p in n.parts))
    outer = {parent for name in names for parent in name.parents}
    runs, left_out = [], {}
    for name in map(str, (name for name in names if name not in outer)):
        try:
            why = _what_lacks(root / name)
            if not why:
                runs.append(read_run(root, name))
        except UNREADABLE as error:
            why = f"cannot be read: {str(error).splitlines()[0]}; run it again"
        if why:
            left_out[name] = why
    return runs, left_out


def _what_lacks(run_dir: Path) -> str:
    """Why a run cannot be counted in yet; empty for a finished one."""
    folder = RunFolder(run_dir)
    if not folder.provenance().is_file():
        shards = [json.loads(path.read_text()) for path in folder.parts.glob("*.json")]
        finished = sum(bool(shard.get("finished")) for shard in shards)
        return f"{finished} shards finished, not merged" if shards else "not begun"
    values = json.loads(folder.provenance().read_text())
    if not values.get("finished"):
        return "not finished"
    if not folder.summary.is_file():
        return "not drawn: stage=draw"
    whole = "files" not in values or Provenance(run_dir).is_drawn
    return "" if whole else "drawn in part, or changed since: stage=draw"


def settings_of(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """A row per run, a column per setting by dotted name; NaN where a run has no such setting.

    Settings that say where and how fast are left out. An object's `_target_` stands for the object;
    `methods` are the names of the methods.
    """
    records = []
    for run in runs:
        methods = run.config.get("method") or {}
        others = {key: value for key, value in run.config.items() if key != "method"}
        own = flat(others | ({"methods": list(methods), "method": methods} if methods else {}))
        own.pop("runner._target_", None)
        kept = [k for k in own if not k.startswith(NOT_COMPARED) and not k.endswith("._partial_")]
        records.append({key.removesuffix("._target_"): own[key] for key in kept})
    return pd.DataFrame(records, dtype=object)


def differing(settings: pd.DataFrame) -> list[str]:
    """Names of the settings that have more than one value among the runs that have them."""
    values = {str(name): {*settings[name].map(repr)} - {"nan"} for name in settings}
    return [name for name, own in values.items() if len(own) > 1]


def gather(runs: Sequence[RunRecord], settings: pd.DataFrame) -> Findings:
    """Rows of all summaries with the settings that differ as columns, and all means in a figure."""
    words = settings[differing(settings)].map(
        lambda value: "+".join(map(str, value)) if isinstance(value, list) else value
    )
    words = words.where(words.notna(), None)
    parts = []
    for run, own in zip(runs, words.to_dict("records"), strict=True):
        columns = {f"{k} (setting)" if k in run.summary else str(k): v for k, v in own.items()}
        part = run.summary.assign(**columns, run=run.name)
        parts.append(part[[*columns, *run.summary, "run"]])
    table = pd.concat(parts, ignore_index=True)
    panels = _panels(runs, words)
    more = max(len(panels) - MAX_PANELS, 0)
    cut = f" {more} further quantities are in the table only." if more else ""
    claims = pd.concat([run.claims.assign(run=run.name) for run in runs], ignore_index=True)
    differ = ", ".join(map(str, words)) or "nothing but the folder"
    return Findings(
        figure=draw_dots(panels[:MAX_PANELS]) if panels else Figure(),
        summary=table,
        caption=f"Means and intervals of {len(runs)} runs, which differ in {differ}.{cut}",
        claims=claims,
        found=(f"{len(runs)} finished runs, {len(table)} rows; they differ in {differ}.",),
        title=f"{len(runs)} runs in one table",
    )


def _panels(runs: Sequence[RunRecord], words: pd.DataFrame) -> list[DotPanel]:
    """A panel per experiment and quantity; in it a row per setting, in it a dot per method."""
    found: dict[tuple[str, str], dict[str, dict[str, Dot]]] = {}
    several = len({str(m) for run in runs for m in run.summary.get("model", [])}) > 1
    for run, own in zip(runs, words.to_dict("records"), strict=True):
        value = next((name for name in VALUES if name in run.summary), "")
        if not value or "ci_low" not in run.summary:
            continue
        unnamed = ("experiment", "methods" if "method" in run.summary else "")
        setting = [f"{str(k).split('.')[-1]} {v}" for k, v in own.items() if k not in unnamed]
        kinds = [c for c in run.summary if c not in (*NUMBERS, "method", "model")]
        experiment = str(run.config.get("experiment")).split("_")[0]
        for line in run.summary.to_dict("records"):
            model = [str(line["model"]).split("_patch")[0]] if several and "model" in line else []
            row, method = ", ".join([*model, *setting]), str(line.get("method", "complete"))
            dot = Dot(method, line[value], line["ci_low"], line["ci_high"])
            title = ", ".join([experiment, *(str(line[kind]) for kind in kinds)])
            rows = found.setdefault((value, title), {})
            if rows.get(row, {}).get(method, dot) != dot:  # the same settings, another outcome
                row = f"{row} {run.name}".strip()
            rows.setdefault(row, {})[method] = dot
    return [_panel(value, title, rows) for (value, title), rows in found.items()]


def _panel(value: str, title: str, rows: Mapping[str, Mapping[str, Dot]]) -> DotPanel:
    dots = [(name, list(own.values())) for name, own in rows.items()]
    if value == "auc":
        return DotPanel(title, "AUC (%)", dots, (0, 100))
    ends = [end for _, own in dots for dot in own for end in (dot.low, dot.high, dot.value)]
    low, high = min(0.0, pd.Series(ends).min()), max(0.0, pd.Series(ends).max())
    return DotPanel(title, value, dots, (low * 1.05, high * 1.05 if high > low else 1.0))
