"""Many runs as one: tables of all their summaries and claims, one figure, one page."""

from __future__ import annotations

import json
import os
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
from attnguide.runs.settings import FREE
from attnguide.store.files import csv_bytes, write_atomic
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
    for name, why in left_out.items():
        console.print(f"left out: {name} ({why})", soft_wrap=True)
    if not runs:
        named = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:8])
        raise FileNotFoundError(
            f"no finished run below {root}"
            + (f" ({named}); run these commands again" if named else "; pass run_dir=FOLDER")
        )
    settings = [settings_of(run.config) for run in runs]
    findings = gather(runs, settings)
    write_atomic(root / "aggregate.csv", csv_bytes(findings.summary))
    write_atomic(root / "claims.csv", csv_bytes(findings.claims))
    for kind in ("png", "pdf"):
        write_atomic(root / f"aggregate.{kind}", render(findings.figure, kind))
    differ = differing(settings)
    shared = {key: value for key, value in settings[0].items() if key not in differ}
    origin = {
        "runs": [run.name for run in runs],
        "left out": [f"{n} ({w})" for n, w in left_out.items()],
    }
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
    folder = run_dir if run_dir.is_dir() else Path("outputs")
    console.print(publish(workspace, logger, folder), soft_wrap=True)


def find_runs(root: Path) -> tuple[list[RunRecord], dict[str, str]]:
    """The finished runs below a folder, and why others are left out, by name.

    Runs are folders with a config.yaml; one that holds other runs is represented by these.
    """
    folders: list[Path] = []
    for place, inside, files in os.walk(root):
        inside[:] = sorted(n for n in inside if n[0] != "." and n not in ("wandb", "parts"))
        folders += [Path(place)] if "config.yaml" in files else []
    outer = {parent for folder in folders for parent in folder.parents}
    runs, left_out = [], {}
    for folder in folders:
        if folder in outer:
            continue
        name = str(folder.relative_to(root))
        try:
            why = _what_lacks(folder)
            if not why:
                runs.append(read_run(root, name))
        except UNREADABLE as error:
            why = f"cannot be read: {str(error).splitlines()[0]}; run it again"
        if why:
            left_out[name] = why
    return runs, left_out


def _what_lacks(folder: Path) -> str:
    """Why a run cannot be counted in yet; empty for a finished one."""
    path = folder / "provenance.json"
    if not path.is_file():
        shards = [json.loads(path.read_text()) for path in folder.glob("parts/*.json")]
        finished = sum(bool(shard.get("finished")) for shard in shards)
        return f"{finished} shards finished, not merged" if shards else "not begun"
    values = json.loads(path.read_text())
    if not values.get("finished"):
        return "not finished"
    if not (folder / "summary.csv").is_file():
        return "not drawn: stage=draw"
    whole = "files" not in values or Provenance(folder).is_drawn
    return "" if whole else "drawn in part, or changed since: stage=draw"


def gather(runs: Sequence[RunRecord], settings: Sequence[Mapping[str, Any]]) -> Findings:
    """Rows of all summaries with the settings that differ as columns, and all means in a figure."""
    keys = differing(settings)
    parts = []
    for run, own in zip(runs, settings, strict=True):
        columns = {
            key if key not in run.summary else f"{key} (setting)": _word(own.get(key))
            for key in keys
        }
        part = run.summary.assign(**columns, run=run.name)
        parts.append(part[[*columns, *run.summary, "run"]])
    table = pd.concat(parts, ignore_index=True)
    panels = _panels(runs, settings, keys)
    more = max(len(panels) - MAX_PANELS, 0)
    cut = f" {more} further quantities are in the table only." if more else ""
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


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run by dotted name, without those that say where and how fast.

    An object's `_target_` stands for the object; `methods` are the names of the methods.
    """
    methods = config.get("method") or {}
    others = {key: value for key, value in config.items() if key != "method"}
    if methods:
        others |= {"methods": list(methods), "method": methods}
    [flat] = pd.json_normalize(others).astype(object).to_dict("records")
    return {
        key.removesuffix("._target_"): value
        for key, value in zip(map(str, flat), flat.values(), strict=True)
        if not key.startswith(FREE) and not key.endswith("._partial_") and key != "runner._target_"
    }


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the settings that have more than one value among the runs that have them."""
    names = dict.fromkeys(key for own in settings for key in own)
    return [n for n in names if len({repr(own[n]) for own in settings if n in own}) > 1]


def _word(value: Any) -> Any:
    return "+".join(map(str, value)) if isinstance(value, list) else value


def _panels(
    runs: Sequence[RunRecord], settings: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> list[DotPanel]:
    """A panel per experiment and quantity; in it a row per setting, in it a dot per method."""
    found: dict[tuple[str, ...], dict[str, dict[str, Dot]]] = {}
    several = len({str(m) for run in runs for m in run.summary.get("model", [])}) > 1
    for run, own in zip(runs, settings, strict=True):
        value = next((name for name in VALUES if name in run.summary), "")
        if not value or "ci_low" not in run.summary:
            continue
        hidden = ("experiment", "methods" if "method" in run.summary else "")
        setting = [f"{k.split('.')[-1]} {_word(own.get(k))}" for k in keys if k not in hidden]
        kinds = [c for c in run.summary if c not in (*NUMBERS, "method", "model")]
        experiment = str(own.get("experiment")).split("_")[0]
        for line in run.summary.to_dict("records"):
            model = [str(line["model"]).split("_patch")[0]] if several and "model" in line else []
            row, method = ", ".join([*model, *setting]), str(line.get("method", "complete"))
            dot = Dot(method, line[value], line["ci_low"], line["ci_high"])
            rows = found.setdefault((value, experiment, *(str(line[k]) for k in kinds)), {})
            if rows.get(row, {}).get(method, dot) != dot:  # the same settings, another outcome
                row = f"{row} {run.name}".strip()
            rows.setdefault(row, {})[method] = dot
    return [_panel(value, ", ".join(names), rows) for (value, *names), rows in found.items()]


def _panel(value: str, title: str, rows: Mapping[str, Mapping[str, Dot]]) -> DotPanel:
    dots = [(name, list(own.values())) for name, own in rows.items()]
    if value == "auc":
        return DotPanel(title, "AUC (%)", dots, (0, 100))
    ends = pd.Series(
        [end for _, own in dots for dot in own for end in (dot.low, dot.high, dot.value)]
    )
    low, high = min(0.0, ends.min()), max(0.0, ends.max())
    return DotPanel(title, value, dots, (low * 1.05, high * 1.05 if high > low else 1.0))
